package syncs

import (
	"testing"
	"testing/synctest"
	"time"
)

// backlog is one whose syncs end when the test says so.
type backlog struct {
	unsynced, synced, overdue bool
	syncs                     int
}

func (b *backlog) Unsynced() bool    { return b.unsynced }
func (b *backlog) Synced() bool      { return b.synced }
func (b *backlog) Overdue(late bool) { b.overdue = late }
func (b *backlog) Sync()             { b.syncs, b.synced, b.unsynced = b.syncs+1, false, false }

// trial is a schedule of 100 ms, and how often it woke its owner.
type trial struct {
	s     *Schedule
	b     backlog
	woken int
}

func (r *trial) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	r.s.Look(&r.b)
}

func start(t *testing.T) *trial {
	r := &trial{}
	r.s = New(100*time.Millisecond, func() { r.woken++ })
	t.Cleanup(r.s.Stop)
	r.s.Look(&r.b)
	return r
}

func TestASyncBeginsOnceSomethingIsOldEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t)
		r.pass(time.Hour)
		if r.b.syncs != 0 || r.woken != 0 {
			t.Errorf("nothing new: %d syncs, woken %d times", r.b.syncs, r.woken)
		}

		r.b.unsynced = true
		r.pass(0)
		r.pass(99 * time.Millisecond)
		if r.b.syncs != 0 {
			t.Errorf("a sync begins too early")
		}
		r.pass(time.Millisecond)
		if r.b.syncs != 1 || r.woken != 1 {
			t.Errorf("after 100 ms: %d syncs, woken %d times, want 1 and 1", r.b.syncs, r.woken)
		}
	})
}

func TestWhatComesDuringASyncWaitsForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t)
		r.b.unsynced = true
		r.pass(0)
		r.pass(100 * time.Millisecond)
		r.b.unsynced = true
		r.pass(500 * time.Millisecond)
		if r.b.syncs != 1 {
			t.Fatalf("%d syncs at once", r.b.syncs)
		}

		r.b.synced = true
		r.pass(0)
		r.pass(99 * time.Millisecond)
		if r.b.syncs != 1 {
			t.Errorf("the next sync comes sooner than 100 ms after the last")
		}
		r.pass(time.Millisecond)
		if r.b.syncs != 2 {
			t.Errorf("what came during a sync is not synced")
		}
	})
}

func TestASyncThatTakesLongIsOverdueUntilItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t)
		r.b.unsynced = true
		r.pass(0)
		r.pass(100 * time.Millisecond)
		r.pass(Grace - time.Millisecond)
		if r.b.overdue {
			t.Error("overdue before a second is over")
		}

		r.pass(time.Millisecond)
		if !r.b.overdue || r.woken != 2 {
			t.Errorf("after a second: overdue %v, woken %d times", r.b.overdue, r.woken)
		}
		r.b.synced = true
		r.pass(time.Hour)
		if r.b.overdue || r.b.syncs != 1 {
			t.Errorf("done: overdue %v, %d syncs", r.b.overdue, r.b.syncs)
		}
	})
}

func TestANilScheduleDoesNothing(t *testing.T) {
	var s *Schedule
	s.Look(&backlog{unsynced: true})
	s.Stop()
}
