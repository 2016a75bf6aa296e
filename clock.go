package hopper

import (
	"sync/atomic"
	"time"
)

// A clock tells the time since its start, to five milliseconds. To ask the system
// for each item would take as long as to pass one on.
type clock struct {
	start time.Time
	now   time.Duration
	fresh atomic.Bool // now will do; a timer is about to say that it no longer does
}

const (
	clockStep = 5 * time.Millisecond
	oftenRead = clockStep / 50 // read again so soon, the clock costs more than a timer
)

// read is for one goroutine.
func (c *clock) read() time.Duration {
	if c.fresh.Load() {
		return c.now
	}

	last := c.now
	c.now = time.Since(c.start)
	if c.now-last < oftenRead {
		c.fresh.Store(true)
		time.AfterFunc(clockStep, func() { c.fresh.Store(false) })
	}
	return c.now
}
