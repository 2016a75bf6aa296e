package spill

import "sync"

// A crew is the goroutines that do one kind of a log's work. They start when
// there is some, and stay until the log comes to rest: to start one for each
// run, and to grow its stack, takes a fiftieth of the time of a drain. All of
// it is guarded by the log's lock.
type crew struct {
	l    *Log
	most int         // goroutines
	due  func() bool // whether there is work for one
	work func()      // of a goroutine, until await says that it is over

	busy    int       // goroutines that work
	idle    int       // that wait
	calling sync.Cond // them
}

func (c *crew) init(l *Log, most int, due func() bool, work func()) {
	*c = crew{l: l, most: most, due: due, work: work, calling: sync.Cond{L: &l.mu}}
}

// callLocked sees to it that somebody does what is due.
func (c *crew) callLocked() {
	switch {
	case c.busy == c.most || !c.due():
		return
	case c.idle > 0:
		c.idle--
		c.calling.Signal()
	default:
		c.l.goroutines.Go(c.work)
	}
	c.busy++
}

// awaitLocked returns when there is work for a goroutine, and true, or when it
// is to end.
func (c *crew) awaitLocked() bool {
	for !c.due() {
		c.busy--
		c.l.ending.progress()
		if c.l.resting || c.l.ending != nil {
			return false
		}
		c.idle++
		c.calling.Wait() // whoever calls, or sends home, counts it as busy
	}
	return true
}

// sendHomeLocked has those end that wait.
func (c *crew) sendHomeLocked() {
	c.busy += c.idle
	c.idle = 0
	c.calling.Broadcast()
}
