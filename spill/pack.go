package spill

import (
	"runtime"
	"sync"
)

// A packingState is what a log knows of the runs that are packed.
type packingState struct {
	queued bool // the log waits for one of the process's packers
	active int  // runs that are being packed
	plain  int  // so many more runs are to be stored uncompressed
}

// packers pack the runs of all logs of the process, one run of a log at a time
// and the logs in turn. Packing needs no store, so that one that hangs keeps
// none of them.
var packers struct {
	mu      sync.Mutex
	waiting []*Log
	running int // goroutines, which end as soon as no log waits
}

const maxPackers = 2

// packLocked gets in line if the log has a run to be packed.
func (l *Log) packLocked() {
	if l.packing.queued || !l.packDueLocked() {
		return
	}
	l.packing.queued = true

	packers.mu.Lock()
	defer packers.mu.Unlock()
	packers.waiting = append(packers.waiting, l)
	if packers.running < maxPackers {
		packers.running++
		go packAll()
	}
}

// packDueLocked reports whether a run is to be packed: not while there are so
// few that they may be read from memory, or enough are ahead of the store.
func (l *Log) packDueLocked() bool {
	if l.ending != nil {
		return false // they are packed as they are written
	}

	unclaimed, claimed := 0, 0
	for _, p := range l.mem {
		if p.state == sealed {
			unclaimed += len(p.buf)
		} else {
			claimed++
		}
	}
	begun := claimed > 0 || l.pending.Load() >= writeSize
	return begun && unclaimed > reserve && claimed < maxPacked
}

// packAll is a packer.
func packAll() {
	for l := nextToPack(); l != nil; l = nextToPack() {
		l.packOne()
		runtime.Gosched() // a run takes as long as hundreds of items, and nobody is to wait for several
	}
}

func nextToPack() *Log {
	packers.mu.Lock()
	defer packers.mu.Unlock()
	if len(packers.waiting) == 0 {
		packers.running--
		packers.waiting = nil
		return nil
	}

	l := packers.waiting[0]
	packers.waiting[0] = nil
	packers.waiting = packers.waiting[1:]
	return l
}

// packOne packs the log's oldest run that is to be packed.
func (l *Log) packOne() {
	p := l.claim()
	if p == nil {
		return
	}

	var dst []byte
	if p.fits() && !p.plain {
		dst = getBuffer()
	}
	p.pack(l.tag, dst)
	l.packed(p)
}

func (l *Log) claim() *pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.packing.queued = false
	if !l.packDueLocked() {
		return nil
	}

	for _, p := range l.mem {
		if p.state == sealed {
			p.state = packing
			p.users++
			p.plain = p.fits() && l.plainLocked()
			l.packing.active++
			l.packLocked() // another one
			return p
		}
	}
	return nil
}

// packed passes a run on to the writer. It may have been done with meanwhile.
func (l *Log) packed(p *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.packing.active--
	p.state = packed
	l.writeLocked()
	l.unrefLocked(p)
	l.ending.progress()
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
	} else if l.pending.Load() >= memHigh && claimed < maxPacked {
		s.plain = plainRun
	}

	u := l.store.Usage()
	return s.plain > 0 && u.Bytes < plainLimit && (u.Limit < 0 || u.Bytes < u.Limit/4)
}
