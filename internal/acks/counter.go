// Package acks counts acknowledgements: in order by their number, or out of
// order one by one.
package acks

import (
	"fmt"
	"math"
	"sync/atomic"
)

// Never is a target that no count reaches.
const Never = math.MaxUint64

// A Counter counts acknowledgements of deliveries. One goroutine, the one that
// delivers, calls Announce and Await; Ack and Count are safe for concurrent
// use.
type Counter struct {
	wake func() // called by Ack, once, when the awaited count is reached

	announced atomic.Uint64 // deliveries made, and the one that is being made
	acked     atomic.Uint64 // at most announced; with ended, once it does not change any more
	awaited   atomic.Uint64 // Never: nobody waits
}

const ended = 1 << 63

// NewCounter returns a counter that calls wake as [Counter.Await] asks for.
func NewCounter(wake func()) *Counter {
	c := &Counter{wake: wake}
	c.awaited.Store(Never)
	return c
}

// Announce says that n deliveries have been made or are about to be. It comes
// before the last of them can be received, so that Ack knows of it.
func (c *Counter) Announce(n uint64) { c.announced.Store(n) }

// Ack adds n acknowledgements. It panics if there are then more of them than
// deliveries, and does nothing after End.
func (c *Counter) Ack(n int) {
	if n < 0 {
		panic(fmt.Sprintf("hopper: Ack(%d): a number of items can't be negative", n))
	}

	for {
		acked, most := c.acked.Load(), c.announced.Load()
		if n == 0 || acked&ended != 0 {
			return
		}
		if uint64(n) > most-acked {
			panic(fmt.Sprintf("hopper: Ack(%d): only %d items are delivered and not acknowledged",
				n, most-acked))
		}
		if c.acked.CompareAndSwap(acked, acked+uint64(n)) {
			c.reached(acked + uint64(n))
			return
		}
	}
}

// reached wakes whoever waits for so many acknowledgements.
func (c *Counter) reached(acked uint64) {
	awaited := c.awaited.Load()
	if acked >= awaited && c.awaited.CompareAndSwap(awaited, Never) {
		c.wake()
	}
}

// Count returns the number of acknowledgements.
func (c *Counter) Count() uint64 { return c.acked.Load() &^ ended }

// Await has wake called as soon as there are n acknowledgements, which may be
// at once. It takes the place of what was awaited before.
func (c *Counter) Await(n uint64) {
	c.awaited.Store(n)
	c.reached(c.Count())
}

// End has all further acknowledgements ignored. It returns how many there were.
func (c *Counter) End() uint64 { return c.acked.Or(ended) &^ ended }
