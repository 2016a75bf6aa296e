package spill

import (
	"slices"
	"time"
)

// readRetry is the pause after a read that failed for a reason that will pass.
const readRetry = 100 * time.Millisecond

// A readingState is what a log knows of its read-ahead. The reader belongs to
// the goroutine while that runs, else to whoever holds the lock.
type readingState struct {
	r      reader
	active bool // the goroutine runs
	paused bool // after an error
	limit  int  // bytes to be read ahead; 0 until somebody asks
	told   bool // the error has been logged
}

// readLocked asks for that many bytes to be read ahead, one run at least.
func (l *Log) readLocked(limit int) {
	s := &l.reading
	s.limit = limit
	if !s.active && l.readDueLocked() {
		s.active = true
		l.goroutines.Go(l.readAhead)
	}
}

// readDueLocked reports whether another run is to be read ahead.
func (l *Log) readDueLocked() bool {
	size := 0
	for _, r := range l.ready {
		size += max(len(r.buf), maxPayload) // a short one takes as much
	}
	return l.ending == nil && !l.reading.paused && l.read < l.written && size < l.reading.limit
}

// readAhead is the goroutine that reads, for as long as there is something to
// read and room for it.
func (l *Log) readAhead() {
	for l.readOn() {
		into := getBuffer()
		found, err := l.reading.r.next(l.ctx, into)
		if err != nil {
			putBuffer(into)
			l.readFailed(err)
			continue
		}

		if found == nil || found.lost != nil || cap(found.buf) != bufSize {
			putBuffer(into) // nothing stands in it
		}
		l.gotAhead(found)
	}
}

// readOn reports whether the goroutine goes on. It puts the reader where the
// log has got to by other ways.
func (l *Log) readOn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	s := &l.reading
	s.active = l.readDueLocked()
	if !s.active {
		l.ending.progress()
		return false
	}
	if s.r.seq != l.read {
		s.r.seek(l.read, s.r.pos)
	}
	return true
}

func (l *Log) gotAhead(r *loaded) {
	l.mu.Lock()
	defer l.mu.Unlock()

	s := &l.reading
	s.told = false
	l.wake()              // also if nothing was found: what is in memory may be next then
	if l.read > s.r.seq { // done meanwhile
		if r != nil {
			putBuffer(r.buf)
		}
		return
	}

	l.read = s.r.seq
	if r != nil && (r.lost == nil || r.lost.clip(l.acked)) {
		l.ready = append(l.ready, r)
	}
}

// readFailed makes a pause before the next try.
func (l *Log) readFailed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.reading
	if !s.told && l.ending == nil {
		s.told = true
		l.cfg.Logger.Warn("spill: can't read items now: trying again", "error", err)
	}

	s.paused = true
	time.AfterFunc(readRetry, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.paused = false
		l.readLocked(s.limit)
	})
}

// unreadLocked takes back what was read ahead and what is left of the cursor,
// and gives up the reader's memory. The reader must not be active.
func (l *Log) unreadLocked() {
	r, c := &l.reading.r, l.cursor
	kept := 0
	for kept < len(l.ready) && l.ready[kept].survives(c) {
		kept++
	}
	if ahead := l.ready[kept:]; len(ahead) > 0 {
		l.read, r.pos = ahead[0].next, ahead[0].at
		for _, r := range ahead {
			putBuffer(r.buf)
		}
	}
	l.ready = slices.Clone(l.ready[:kept])

	if c != nil && c.Left > 0 {
		l.read, r.pos = c.Seq, Position{Path: c.Path, Offset: c.Offset}
	}
	l.giveBackLocked()
	l.read = max(l.read, l.acked)
	r.drop()
	l.reading.limit = 0
	restBuffers()
}
