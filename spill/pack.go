package spill

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A packingState is what a log knows of the runs that are packed.
type packingState struct {
	crew
	plain     int  // so many more runs are to be stored uncompressed, if there is space
	lastPlain bool // the run claimed last is
}

// packers are held while a run is packed, so that all logs of the process
// together pack no more than two at a time. Packing needs no store: one that
// hangs keeps none of them.
var packers struct {
	mu   [maxPackers]sync.Mutex
	turn atomic.Uint32 // whose turn it is where all are held
}

const maxPackers = 2

// withPacker calls f when it is its turn.
func withPacker(f func()) {
	for i := range packers.mu {
		if mu := &packers.mu[i]; mu.TryLock() {
			defer mu.Unlock()
			f()
			return
		}
	}

	mu := &packers.mu[packers.turn.Add(1)%maxPackers]
	mu.Lock()
	defer mu.Unlock()
	f()
}

// packDueLocked reports whether a run is to be packed: not while there are so
// few that they may be read from memory, or enough are ahead of the store.
func (l *Log) packDueLocked() bool {
	if l.ending != nil {
		return false // they are packed as they are written
	}

	unclaimed, claimed := 0, 0
	begun := l.pending.Load() >= l.marks.write
	for _, p := range l.mem {
		if p.state == sealed {
			unclaimed += len(p.buf)
			continue
		}
		claimed++
		forSync := l.cfg.Journal && p.state == writing && p.packed == nil
		begun = begun || !forSync
	}
	return begun && unclaimed > reserve && claimed < maxPacked
}

// callPackerLocked has what is due packed. To wake a second goroutine takes as
// long as a run that is to be plain.
func (l *Log) callPackerLocked() {
	if s := &l.packing; !s.lastPlain || s.busy == 0 {
		s.callLocked()
	}
}

// pack is a goroutine that packs, for as long as there is something to pack.
func (l *Log) pack() {
	for p := l.claim(); p != nil; p = l.claim() {
		var dst []byte
		if p.single() && !p.plain {
			dst = getBuffer()
		}
		withPacker(func() { p.pack(l.tag, dst) })
		l.packed(p)
		runtime.Gosched() // a run takes as long as hundreds of items: nobody is to wait for several
	}
}

// claim returns the oldest run that is to be packed, or nil at the end. Before
// it waits for one it calls the writer, for all that have been packed in a row.
func (l *Log) claim() *pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.packDueLocked() {
		l.writer.callLocked()
	}
	if !l.packing.awaitLocked() {
		return nil
	}

	for _, p := range l.mem {
		if p.state == sealed {
			p.state = packing
			p.users++
			p.plain = p.single() && l.plainLocked()
			l.packing.lastPlain = p.plain
			l.callPackerLocked() // another one
			return p
		}
	}
	panic("internal error: no run to be packed, though one is due")
}

// packed notes that a run can be written. It may have been done with meanwhile.
func (l *Log) packed(p *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.state = packed
	l.unrefLocked(p)
}

// plainLocked reports whether the next run is to be stored uncompressed,
// because packing is what everybody waits for: memory fills, and not with runs
// that wait for the store. Some runs later that is looked at again. There must
// be space to spare; a short backlog is soon gone again.
func (l *Log) plainLocked() bool {
	claimed := 0
	for _, p := range l.mem {
		if p.state > sealed {
			claimed++
		}
	}

	s := &l.packing
	if s.plain > 0 {
		s.plain--
	} else if l.pending.Load() >= l.marks.high && claimed < maxPacked {
		s.plain = plainRun
	}

	u := l.store.Usage()
	return s.plain > 0 && u.Bytes < plainLimit && (u.Limit < 0 || u.Bytes < u.Limit/4)
}
