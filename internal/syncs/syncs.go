// Package syncs decides when what a pump has received is made durable.
package syncs

import (
	"sync/atomic"
	"time"
)

// Grace is how long a sync may take before it is late.
const Grace = time.Second

// A Schedule begins a sync when something has gone without one for as long as
// it may:
//
//	        something new        every is over       Grace is over
//	idle ──────────────▶ waiting ────────────▶ syncing ───────────▶ late
//	  ▲                                           │                   │
//	  └──────────────────── done ─────────────────┴───────────────────┘
//
// What comes while a sync is under way waits for the next one. Only its owner
// calls its methods. A nil Schedule has nothing to do.
type Schedule struct {
	every time.Duration
	wake  func()

	state state
	timer *time.Timer // set when the state was entered
	over  *atomic.Bool
}

type state uint8

const (
	idle state = iota
	waiting
	syncing
	late
)

// Backlog is what a Schedule looks at.
type Backlog interface {
	Unsynced() bool    // there is something new
	Sync()             // begins a sync
	Synced() bool      // it is done
	Overdue(late bool) // it should be done by now
}

// New returns a schedule that calls wake, from another goroutine, when Look has
// something to do.
func New(every time.Duration, wake func()) *Schedule {
	return &Schedule{every: every, wake: wake}
}

// Look does what is due. It is to be called after each change of the backlog,
// before its owner waits for something else.
func (s *Schedule) Look(b Backlog) {
	if s == nil {
		return
	}
	if s.state >= syncing && b.Synced() {
		if s.state == late {
			b.Overdue(false)
		}
		s.enter(idle, 0)
	}

	switch {
	case s.state == idle && b.Unsynced():
		s.enter(waiting, s.every)
	case s.state == waiting && s.over.Load():
		s.enter(syncing, Grace)
		b.Sync()
	case s.state == syncing && s.over.Load():
		s.enter(late, 0)
		b.Overdue(true)
	}
}

// Idle reports whether Look would begin something if there were something new.
func (s *Schedule) Idle() bool { return s != nil && s.state == idle }

// enter goes on to another state, which is over after d, if d is not 0.
func (s *Schedule) enter(to state, d time.Duration) {
	s.Stop()
	s.state = to
	if d == 0 {
		return
	}

	over := new(atomic.Bool) // of this state alone: the last timer may be running yet
	s.over = over
	s.timer = time.AfterFunc(d, func() {
		over.Store(true)
		s.wake()
	})
}

// Stop ends the schedule.
func (s *Schedule) Stop() {
	if s != nil && s.timer != nil {
		s.timer.Stop()
	}
}
