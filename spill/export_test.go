package spill

import (
	"fmt"
	"sync"
	"sync/atomic"
	"weak"
)

// What the tests of package spill_test see of a log's inside, where nothing
// else shows it.
const (
	Reserve    = reserve
	MemHigh    = memHigh
	MemLimit   = memLimit
	ReadyLimit = readyLimit
	MaxPacked  = maxPacked
	PlainRun   = plainRun
	MaxPackers = maxPackers
	MaxFrames  = maxFrames
	FramesAt   = framesAt
	MaxBuf     = maxBuf
	BufSize    = bufSize
	RestAfter  = restAfter
	RetryMin   = retryMin
	RetryMax   = retryMax
	ReadRetry  = readRetry
	HungAfter  = hungAfter
	LastTries  = lastTries
	Overhead   = overhead
)

// Held is what a log has in memory, in bytes.
type Held struct {
	Runs   int // that are not stored and not done
	Chunks int // packed, in memory of their own
	Ahead  int // of runs that were read ahead
}

// Held returns what the log has in memory. It fails if the log counts
// otherwise.
func (l *Log) Held() (h Held, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	used := 0
	for _, p := range l.mem {
		h.Runs += cap(p.buf)
		used += len(p.buf)
		if p.state >= packed && p.packed != nil && !p.plain {
			h.Chunks += cap(p.packed)
		}
	}
	for _, r := range l.ready {
		h.Ahead += cap(r.buf)
	}
	if n := l.pending.Load(); n != int64(used) {
		err = fmt.Errorf("the log counts %d bytes of runs, there are %d", n, used)
	}
	return h, err
}

// Memory returns weak pointers to all that the log has in memory: when the log
// has given it up, they are nil after a collection or three.
func (l *Log) Memory() (all []weak.Pointer[byte]) {
	l.mu.Lock()
	defer l.mu.Unlock()

	add := func(b []byte) {
		if cap(b) > 0 {
			all = append(all, weak.Make(&b[:1][0]))
		}
	}
	for _, p := range l.mem {
		add(p.buf)
		if p.state >= packed { // until then it is the packer's
			add(p.packed)
		}
	}
	for _, r := range l.ready {
		add(r.buf)
	}
	if c := l.cursor; c != nil && c.mem != nil {
		add(c.mem.buf)
	} else if c != nil {
		add(c.load.buf)
	}
	if t := l.appender.tail; t != nil {
		add(t.buf)
	}
	if l.reading.busy == 0 {
		add(l.reading.r.buf)
	}
	return all
}

// Ticking reports whether a timer of the log's will go off.
func (l *Log) Ticking() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ticking
}

// Packers returns how many packers are held.
func Packers() (held int) {
	for i := range packers.mu {
		if packers.mu[i].TryLock() {
			packers.mu[i].Unlock()
		} else {
			held++
		}
	}
	return held
}

// HoldPackers keeps all packers from packing until it is released.
func HoldPackers() (release func()) {
	for i := range packers.mu {
		packers.mu[i].Lock()
	}
	return func() {
		for i := range packers.mu {
			packers.mu[i].Unlock()
		}
	}
}

// NewBuffers makes the process begin with no shared buffers, and returns how
// many have been made since.
func NewBuffers() (made func() int64) {
	n := new(atomic.Int64)
	restBuffers()
	buffers = sync.Pool{New: func() any {
		n.Add(1)
		return new([bufSize]byte)
	}}
	return n.Load
}
