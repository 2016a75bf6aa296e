package spill

import "time"

// A syncState is what a log knows of what is durable.
type syncState struct {
	asked coverage // by SyncLater
	done  coverage // by the last sync that has finished

	refusal error         // why the last one failed; nil if it did not
	paused  bool          // the store is not asked again for a while
	delay   time.Duration // the length of the last pause
}

// A coverage is what a sync makes sure of.
type coverage struct {
	end   uint64 // the items below are durable, or done
	acked uint64 // the items below are done, and do not come back
}

// opened begins with what was found. What a log has left that did not end with
// Close may not be durable, nor may what tells how much was done.
func (s *syncState) opened(r Range) {
	s.done = coverage{end: r.End}
	if r.Crashed {
		s.done.end = r.Next
	}
	s.asked = s.done
}

// wants reports whether a run is to be stored for the sake of a sync.
func (s *syncState) wants(p *pending) bool {
	return s.asked.end > s.done.end && p.first < s.asked.end
}

// SyncLater asks for everything that has been appended so far to be stored and
// made durable, but for the items below acked, which are done: they need not be
// stored, and do not come back once the sync has finished, not even after a
// crash of the machine. It does not block. Synced tells what has come of it,
// and Wake gets a value when a sync has finished or failed.
//
// Syncs that are asked for while one is under way become one. A sync that fails
// is repeated after a pause, until it succeeds or the log ends; Refusal tells
// why. Nothing is done if nothing has been appended or acknowledged since the
// last one. After [Log.Finish] none is begun any more, since Close makes
// everything durable.
//
// Without Config.Keep nothing is left to be made durable.
func (l *Log) SyncLater(acked uint64) {
	l.appender.skip(acked)
	l.sealTail()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.ackLocked(acked)
	s := &l.syncing
	s.asked = coverage{end: max(s.asked.end, l.appender.end), acked: l.acked}
	l.writer.callLocked()
}

// Synced returns what the last sync has covered that has finished: the items
// below end are durable or done, and those below acked do not come back, not
// even after a crash of the machine. Before the first sync, end is what an
// earlier log has made durable, and acked 0.
func (l *Log) Synced() (end, acked uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.syncing.done.end, l.syncing.done.acked
}

// syncDueLocked reports whether the store is to be synced now: something is to
// be covered, and the items are stored or done.
func (l *Log) syncDueLocked() bool {
	s := &l.syncing
	if s.paused || s.asked == s.done || l.ending != nil {
		return false
	}
	return len(l.mem) == 0 || l.mem[0].first >= s.asked.end
}

// synced takes note of how a sync has ended.
func (l *Log) synced(upTo coverage, err error) {
	l.endBy(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer.began = time.Time{}
	l.wake()

	s := &l.syncing
	if err == nil {
		if s.refusal != nil {
			l.cfg.Logger.Debug("spill: items are made durable again")
		}
		s.done, s.refusal, s.delay = upTo, nil, 0
		return
	}

	if s.refusal == nil {
		l.cfg.Logger.Debug("spill: items can't be made durable now: trying again", "error", err)
	}
	s.refusal, s.paused = err, true
	s.delay = min(max(2*s.delay, retryMin), retryMax)
	l.afterLocked(s.delay, func() { s.paused = false })
}
