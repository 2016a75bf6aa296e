package spill

import (
	"errors"
	"time"
)

// sayAgain is how long a refusal is not logged again that has been logged.
const sayAgain = time.Minute

// hungAfter is how long a call may take before the store counts as one that
// does not answer.
const hungAfter = time.Second

// ErrHung says that the store has not answered for more than a second.
var ErrHung = errors.New("spill: the store does not answer")

// A writerState is what a log knows of the goroutine that changes the store.
type writerState struct {
	crew
	began time.Time // when it has called the store; zero while it does not

	refusal error         // why the store refuses items; nil while it does not
	paused  bool          // the store is not asked again for a while
	pauses  int           // that there were, those cut short included
	delay   time.Duration // the length of the last one
	said    string        // the refusal that was logged last
	saidAt  time.Time

	trimmed    uint64 // the store has been told that the items below are done
	untrimmed  bool   // it could not delete everything
	trimPaused bool   // it is not asked again for a while
}

func (l *Log) writeDueLocked() bool {
	return !l.ending.closed() && (l.trimDueLocked() || l.appendDueLocked() || l.syncDueLocked())
}

func (l *Log) trimDueLocked() bool {
	w := &l.writer
	if w.trimPaused || l.ending != nil {
		return false
	}
	return w.untrimmed || l.acked > w.trimmed && l.acked >= l.store.Usage().TrimAt
}

// appendDueLocked reports whether the oldest run is to be written.
func (l *Log) appendDueLocked() bool {
	return len(l.mem) > 0 && !l.writer.paused && l.writableLocked(l.mem[0])
}

func (l *Log) writableLocked(p *pending) bool {
	if l.ending != nil {
		return l.cfg.Keep && (p.state == packed || p.state == sealed)
	}
	return p.state == packed || p.state == sealed && (l.settle || l.syncing.wants(p))
}

// write is the goroutine that changes the store, for as long as there is
// something to do.
func (l *Log) write() {
	for step := l.step(); step != nil; step = l.step() {
		step()
	}
}

// step returns what is to be done next: a call of the store, without the lock.
// What is done is trimmed first, since that makes room, and a sync comes once
// all that it is to cover is stored.
func (l *Log) step() func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.writer
	if !w.awaitLocked() {
		return nil
	}

	w.began = time.Now()
	switch {
	case l.trimDueLocked():
		acked := l.acked
		w.trimmed = acked
		return func() { l.trimmed(l.store.Trim(l.ctx, acked)) }

	case l.appendDueLocked():
		runs, lift := l.claimWritesLocked(), l.ending.lift()
		return func() {
			if lift {
				l.store.Lift()
			}
			l.put(runs)
		}
	}

	upTo := l.syncing.asked
	return func() { l.synced(upTo, l.store.Sync(l.ctx, upTo.acked)) }
}

// hungLocked reports whether the store has not answered for some time.
func (l *Log) hungLocked() bool {
	began := l.writer.began
	return !began.IsZero() && time.Since(began) >= hungAfter
}

// trimmed takes note of a Trim: there may be room now.
func (l *Log) trimmed(err error) {
	l.endBy(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.writer
	w.began = time.Time{}
	if !w.untrimmed { // there is room
		w.paused = false
	}
	l.wake()

	w.untrimmed = false
	if err == nil {
		return
	}
	l.cfg.Logger.Warn("spill: space of items that are done could not be given back: trying again",
		"error", err)
	l.trimLaterLocked()
}

// trimLaterLocked has what could not be deleted deleted after a pause.
func (l *Log) trimLaterLocked() {
	w := &l.writer
	w.untrimmed = true
	if !w.trimPaused {
		w.trimPaused = true
		l.afterLocked(retryMax, func() { w.trimPaused = false })
	}
}

// afterLocked runs f, with the lock held, after a pause, and then what has
// become due.
func (l *Log) afterLocked(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		f()
		l.writer.callLocked()
	})
}

// claimWritesLocked returns the runs that are written next, all in one call of
// the store.
func (l *Log) claimWritesLocked() (runs []*pending) {
	for _, p := range l.mem {
		if len(runs) == maxPacked || !l.writableLocked(p) {
			break
		}
		p.state = writing
		p.users++
		runs = append(runs, p)
	}
	return runs
}

// put appends the runs to the store. Those that it refuses stay where they are.
func (l *Log) put(runs []*pending) {
	batches := make([]*Batch, len(runs))
	for i, p := range runs {
		batches[i] = p.batch(l.tag)
	}
	n, err := l.store.Append(l.ctx, batches)
	n = min(max(n, 0), len(runs))
	switch {
	case n == len(runs):
		err = nil
	case err == nil:
		err = errors.New("spill: the store refuses items without a reason")
	}

	l.endBy(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer.began = time.Time{}
	for i, p := range runs {
		l.putLocked(p, i < n)
	}
	if e := l.ending; e != nil && n > 0 {
		e.tries, l.writer.delay = 0, 0 // it makes progress
	}
	if err != nil {
		l.refusedLocked(runs[n], err)
	} else {
		l.acceptedLocked()
	}
	l.dropLocked()
	l.ending.progress()

	for _, p := range runs {
		l.unrefLocked(p)
	}
	l.settledLocked()
	l.readLocked(l.reading.limit)
	if err != nil || l.limited {
		l.wake() // see Refusal, or there is room below the limit
	}
}

func (l *Log) putLocked(p *pending, ok bool) {
	switch {
	case ok:
		if l.read >= l.written { // it had read everything
			l.reading.limit = min(l.reading.limit, 1)
		}
		p.state = stored
		l.written = max(l.written, p.end())
		l.writer.trimmed = 0 // its items may be done by now
	case p.packed != nil || !p.single(): // a large one is packed as it is written
		p.state = packed
	default:
		p.state = sealed
	}
}

// refusedLocked makes a pause before the store is asked again, which gets the
// same run then. At the end that is done a few times only.
func (l *Log) refusedLocked(p *pending, err error) {
	w := &l.writer
	if e := l.ending; e != nil {
		if e.tries == lastTries {
			e.lose(p, l.acked, err)
			return
		}
		e.tries++
	}

	if w.refusal == nil && (w.said != err.Error() || time.Since(w.saidAt) > sayAgain) {
		w.said, w.saidAt = err.Error(), time.Now()
		l.cfg.Logger.Debug("spill: the store refuses items: they stay in memory", "error", err)
	}
	w.refusal = err

	w.delay = min(max(2*w.delay, retryMin), retryMax)
	w.paused = true
	w.pauses++
	n := w.pauses
	l.afterLocked(w.delay, func() { w.paused = w.paused && w.pauses != n })
	l.afterLocked(retryMax, func() { w.untrimmed = true }) // what a failed write may have left
}

// Retry has a store that has refused items asked again at once, instead of at
// the end of a pause: there may be room now. It does not block, and may be
// called after Close too.
func (l *Log) Retry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending == nil {
		l.writer.paused, l.syncing.paused = false, false
		l.writer.callLocked()
	}
}

func (l *Log) acceptedLocked() {
	w := &l.writer
	w.delay = 0
	if w.refusal != nil {
		w.refusal = nil
		l.cfg.Logger.Debug("spill: the store takes items again")
	}
}
