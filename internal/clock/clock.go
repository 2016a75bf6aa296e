// Package clock tells the time cheaply to who asks for it often.
package clock

import (
	"sync/atomic"
	"time"
)

// A Clock tells the time since its start, to a [Step]. To ask the system for
// each item would take as long as to pass one on.
type Clock struct {
	Start time.Time
	now   time.Duration
	fresh atomic.Bool // now will do; a timer is about to say that it no longer does
}

const (
	Step      = 5 * time.Millisecond // how late the time may be
	oftenRead = Step / 50            // read again so soon, the clock costs more than a timer
)

// Read returns the time since the start. It is for one goroutine.
func (c *Clock) Read() time.Duration {
	if c.fresh.Load() {
		return c.now
	}

	last := c.now
	c.now = time.Since(c.Start)
	if c.now-last < oftenRead {
		c.fresh.Store(true)
		time.AfterFunc(Step, func() { c.fresh.Store(false) })
	}
	return c.now
}
