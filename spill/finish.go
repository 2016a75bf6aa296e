package spill

import (
	"context"
	"errors"
	"strings"
	"sync"
)

// An ending is the state of a log that comes to its end. It is guarded by the
// log's lock; a nil one belongs to a log that goes on.
type ending struct {
	ctx    context.Context // ends when the store is not waited for any longer
	room   chan struct{}   // of capacity 1: gets a value when there may be room
	quiet  sync.Cond       // the goroutines may have come to rest
	lifted bool            // the store has lifted its limits
	over   bool            // nothing more is written

	tries   int    // that were refused
	unsaved uint64 // items that could not be stored
	err     error  // why
}

// lastTries is how many refusals at the end are not final. With the pauses
// after them that is a third of a second in all.
const lastTries = 5

func (e *ending) closed() bool { return e != nil && e.over }

// lift reports, once, whether the store is to lift its limits.
func (e *ending) lift() bool {
	if e == nil || e.lifted {
		return false
	}
	e.lifted = true
	return true
}

// progress tells those who wait for it that something has been done.
func (e *ending) progress() {
	if e == nil {
		return
	}
	poke(e.room)
	e.quiet.Broadcast()
}

// lose gives up a run that the store has refused.
func (e *ending) lose(p *pending, acked uint64, err error) {
	p.state = stored
	e.unsaved += p.unparked(acked)
	if e.err == nil || !strings.Contains(e.err.Error(), err.Error()) { // it says the same to each
		e.err = errors.Join(e.err, err)
	}
}

// waitForRoom returns when the log's memory is no longer full, or when it is
// not to be waited for any longer.
func (e *ending) waitForRoom(l *Log) {
	for l.pending.Load() >= l.marks.limit {
		select {
		case <-e.room:
		case <-e.ctx.Done():
			return
		}
	}
}

// Finish begins the end of a log whose items are to be kept: the store's limits
// are lifted, nothing is read any more, and all that is in memory is written.
// What is appended from here on is written too; Begin takes items that belong
// in front of all others now. Where memory is full, Commit waits for the store,
// until ctx ends.
func (l *Log) Finish(ctx context.Context) {
	l.sealTail()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finishLocked(ctx)
	l.writer.callLocked()
}

func (l *Log) finishLocked(ctx context.Context) {
	if e := l.ending; e != nil { // it ends with either
		both, cancel := context.WithCancel(ctx)
		context.AfterFunc(e.ctx, cancel)
		e.ctx = both
		return
	}

	l.ending = &ending{ctx: ctx, room: make(chan struct{}, 1), quiet: sync.Cond{L: &l.mu}}
	l.writer.paused, l.writer.delay = false, 0
	l.writer.pauses++
	l.sendHomeLocked()
}

// Left says how a log has ended.
type Left struct {
	Unsaved uint64 // items that were to be kept and could not be stored, parked ones aside
	Err     error  // why, or what else went wrong
}

// Close ends the log, of which the items below next are done. With Config.Keep
// the others are stored and left in the store; without, everything is deleted.
// It waits for the store until ctx ends, or the context of Finish; one that
// hangs longer is left to the log's goroutines, which end when it answers.
func (l *Log) Close(ctx context.Context, next uint64) Left {
	l.mu.Lock()
	if t := l.appender.tail; t != nil && l.ending == nil { // it need not wait yet
		l.appender.tail = nil
		l.handOverLocked(t)
	}
	l.finishLocked(ctx)
	e := l.ending
	l.mu.Unlock()
	l.sealTail()

	l.mu.Lock()
	l.ackLocked(next)
	l.writer.callLocked()
	l.mu.Unlock()

	done := make(chan error, 1)
	go func() { done <- l.shut(next) }()
	select {
	case err := <-done:
		l.cancel()
		if lost := (*CorruptError)(nil); errors.As(err, &lost) {
			e.unsaved += lost.Items
		}
		return Left{e.unsaved, errors.Join(e.err, err)}
	case <-e.ctx.Done():
	}

	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	left := Left{e.unsaved, errors.Join(e.err, ErrHung)}
	for _, p := range l.mem {
		if l.cfg.Keep {
			left.Unsaved += p.unparked(next)
		}
	}
	return left
}

// shut closes the store once all goroutines have come to rest.
func (l *Log) shut(next uint64) error {
	l.mu.Lock()
	for l.busyLocked() {
		l.ending.quiet.Wait()
	}
	l.ending.over = true
	end := max(next, l.appender.end)
	if l.ending.unsaved > 0 {
		end = next // nobody is to expect what is not there
	}
	l.mu.Unlock()

	l.goroutines.Wait()
	l.giveUp()
	return l.store.Close(l.ctx, l.cfg.Keep, next, end)
}

func (l *Log) busyLocked() bool {
	return l.cfg.Keep && len(l.mem) > 0 || l.packing.busy+l.writer.busy+l.reading.busy > 0
}

// giveUp gives back all memory.
func (l *Log) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unreadLocked(l.read)
	for _, p := range l.mem {
		l.pending.Add(-int64(len(p.buf)))
		l.unrefLocked(p)
	}
	l.mem = nil
	restBuffers()
}
