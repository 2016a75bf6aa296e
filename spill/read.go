package spill

import "time"

// readRetry is the pause after a read that failed for a reason that will pass.
const readRetry = 100 * time.Millisecond

// A readingState is what a log knows of its read-ahead. The reader belongs to
// the goroutine while that runs, else to whoever holds the lock.
type readingState struct {
	crew
	r      reader
	paused bool // after an error
	limit  int  // bytes to be read ahead; 0 until somebody asks
	told   bool // the error has been logged
}

// readLocked asks for that many bytes to be read ahead, one run at least.
func (l *Log) readLocked(limit int) {
	l.reading.limit = limit
	l.reading.callLocked()
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
	if !s.awaitLocked() {
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
	l.endBy(err)
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

// unreadLocked takes back what was handed out or read ahead from the item from
// on, and gives up the reader's memory. The reader must not be active.
func (l *Log) unreadLocked(from uint64) {
	from = max(from, l.acked)
	l.passLocked(from)
	at, ok := l.placeLocked(&from)
	if from != l.read {
		if !ok {
			at = Position{}
		}
		l.read = from
		l.reading.r.seek(from, at)
	}

	l.giveBackLocked()
	l.reading.r.drop()
	l.reading.limit = 0
	restBuffers()
}

// placeLocked drops what need not stay of what was read ahead, makes from the
// item to be read next, and returns from where, if that is known.
func (l *Log) placeLocked(from *uint64) (at Position, ok bool) {
	if c := l.cursor; c != nil && c.load != nil && c.load.next <= *from {
		at, ok = Position{Path: c.Path, Offset: c.Offset}, true
	}

	var kept []*loaded
	for _, r := range l.ready {
		switch lost := r.lost; {
		case lost != nil && lost.Items == 0: // the store tells this once
			kept = append(kept, r)
		case lost != nil && lost.First <= *from: // and this not as well
			kept = append(kept, r)
			*from = max(*from, lost.First+lost.Items)
		default:
			if r.next == *from {
				at, ok = r.at, true
			}
			putBuffer(r.buf)
		}
	}
	l.ready = kept
	return at, ok
}
