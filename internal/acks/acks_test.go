package acks

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func panicOf(f func()) (message string) {
	defer func() {
		if r := recover(); r != nil {
			message = r.(string)
		}
	}()
	f()
	return ""
}

func TestACounterKnowsWhatWasDelivered(t *testing.T) {
	c := NewCounter(func() {})
	c.Announce(3)
	c.Ack(0)
	c.Ack(2)
	if c.Count() != 2 {
		t.Errorf("Count() = %d, want 2", c.Count())
	}

	if got := panicOf(func() { c.Ack(2) }); !strings.Contains(got, "only 1 items") {
		t.Errorf("Ack of more than was delivered panics with %q", got)
	}
	if got := panicOf(func() { c.Ack(-1) }); !strings.Contains(got, "negative") {
		t.Errorf("Ack(-1) panics with %q", got)
	}
	if c.Count() != 2 {
		t.Errorf("after refused acknowledgements Count() = %d, want 2", c.Count())
	}

	if got := c.End(); got != 2 {
		t.Errorf("End() = %d, want 2", got)
	}
	c.Ack(1)
	c.Ack(100)
	if c.Count() != 2 {
		t.Errorf("after the end Count() = %d, want 2", c.Count())
	}
}

func TestACounterWakesOnceAtTheNumberAwaited(t *testing.T) {
	woken := 0
	c := NewCounter(func() { woken++ })
	c.Announce(100)
	c.Ack(10)
	c.Await(12)

	for _, step := range []struct{ ack, want int }{{1, 0}, {1, 1}, {1, 1}, {50, 1}} {
		if c.Ack(step.ack); woken != step.want {
			t.Fatalf("at %d acknowledgements it was woken %d times, want %d", c.Count(), woken, step.want)
		}
	}

	c.Await(c.Count())
	if woken != 2 {
		t.Errorf("awaiting what is there wakes %d times in all, want 2", woken)
	}
	c.Await(Never)
	c.Ack(1)
	if woken != 2 {
		t.Errorf("nobody waits, and %d wake-ups", woken)
	}
}

func TestAcknowledgementsAtOnceAreAllCounted(t *testing.T) {
	const workers, each = 8, 1000
	var woken atomic.Int32
	c := NewCounter(func() { woken.Add(1) })
	c.Announce(workers * each)
	c.Await(workers * each)

	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				c.Ack(1)
			}
		})
	}
	wg.Wait()
	if c.Count() != workers*each || woken.Load() != 1 {
		t.Errorf("%d counted and %d wake-ups, want %d and 1", c.Count(), woken.Load(), workers*each)
	}
}

func TestAWindowTellsWhatIsAcknowledgedInARow(t *testing.T) {
	var w Window
	for i, step := range []struct {
		n    uint64
		more int
	}{{1, 0}, {0, 2}, {0, 0}, {1, 0}, {3, 0}, {3, 0}, {2, 2}, {200, 0}, {4, 1}} {
		if got := w.Ack(step.n); got != step.more {
			t.Errorf("step %d: Ack(%d) = %d, want %d", i, step.n, got, step.more)
		}
	}
}

func TestAWindowTakesAnyOrder(t *testing.T) {
	for _, n := range []int{1, 63, 64, 65, 127, 128, 129, 5000} {
		var w Window
		seen, inRow := make([]bool, n), 0
		for _, i := range rand.Perm(n) {
			seen[i] = true
			inRow += w.Ack(uint64(i))

			want := 0
			for want < n && seen[want] {
				want++
			}
			if inRow != want {
				t.Fatalf("of %d: after %d, %d in a row, want %d", n, i, inRow, want)
			}
		}
		if len(w.words) > 1 { // the last may be in use in part
			t.Errorf("of %d: with all acknowledged %d words are left", n, len(w.words))
		}
	}
}
