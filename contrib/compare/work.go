package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// A work is what a producer and a consumer do.
type work struct {
	name, what string

	items   int
	payload int           // bytes; 8: uint64
	stall   bool          // the consumer starts when the producer is done
	spin    time.Duration // of the consumer, for each item
	disk    bool          // only for peers with a disk
	alone   bool          // each item is sent when the one before it has been received
	long    bool          // takes long enough for few runs to do
}

var works = []work{
	{name: "w1", what: "passthrough of uint64", items: 2_000_000, payload: 8},
	{name: "w2", what: "stall, then drain, log lines of 128 bytes",
		items: 1_000_000, payload: 128, stall: true},
	{name: "w3", what: "stall, then drain, log lines of 1 KiB",
		items: 200_000, payload: 1024, stall: true},
	{name: "w4", what: "a consumer that takes 2 µs for each line of 128 bytes",
		items: 500_000, payload: 128, spin: 2 * time.Microsecond},
	{name: "w5", what: "stall, then drain, a large backlog of log lines of 1 KiB",
		items: 4 << 20, payload: 1024, stall: true, disk: true, long: true},
	{name: "latency", what: "from send to receive of a uint64, with no other under way",
		items: 200_000, payload: 8, alone: true},
}

// A result is what a run has come to.
type result struct {
	Seconds  float64 // from the first item sent to the last received
	Half     float64 // seconds from send to receive, of half of the items at most; 0: not taken
	Most     float64 // 99 % of them
	CPU      float64 // seconds, user and system
	PeakRSS  int64   // bytes, of the whole process
	PeakDisk int64   // bytes
	DiskLeft int64   // bytes, after the last item
	Err      string
}

// run does the work with a peer in this process.
func run(w work, p peer, capacity, memory int) (r result, err error) {
	s := setting{capacity: capacity, memory: memory, payload: w.payload, items: w.items}
	if p.disk {
		if s.dir, err = os.MkdirTemp("", "compare-"); err != nil {
			return r, err
		}
		defer os.RemoveAll(s.dir)
	}

	watch := startWatch(s.dir)
	if w.payload == 8 {
		err = runOn(w, s, p.numbers, &r, watch,
			func(i int) uint64 { return uint64(i) },
			func(v uint64) (int, error) { return int(v), nil })
	} else {
		l := newLines(w.payload)
		err = runOn(w, s, p.bytes, &r, watch, l.item, l.number)
	}
	r.CPU, r.PeakRSS = cpuSeconds(), peakRSS()
	r.PeakDisk = watch.stop()
	return r, err
}

func runOn[T any](
	w work, s setting, open func(setting) (*between[T], error), r *result, watch *watch,
	item func(int) T, number func(T) (int, error),
) error {
	q, err := open(s)
	if err != nil {
		return err
	}

	var c clock
	if w.alone {
		c = newClock(w.items)
	}
	start := time.Now()
	produced, consumed := make(chan error, 1), make(chan error, 1)
	go func() { produced <- produce(q, w.items, item, &c) }()
	if w.stall {
		if err := <-produced; err != nil {
			return err
		}
		produced <- nil
		watch.look() // at the fullest moment
	}
	go func() { consumed <- consume(q, w, number, &c) }()
	if err := both(produced, consumed); err != nil {
		return err // the other side may wait for ever: nothing is closed
	}
	r.Seconds = time.Since(start).Seconds()
	r.DiskLeft = dirBytes(s.dir)
	r.Half, r.Most = c.part(0.5), c.part(0.99)

	if q.close != nil {
		return q.close()
	}
	return nil
}

// A clock lets one item go at a time and takes how long each is under way. The
// zero clock does neither.
type clock struct {
	turn  chan struct{} // holds one while no item is under way
	sent  time.Time
	under []time.Duration
}

func newClock(items int) clock {
	c := clock{turn: make(chan struct{}, 1), under: make([]time.Duration, 0, items)}
	c.turn <- struct{}{}
	return c
}

func (c *clock) start() {
	if c.turn != nil {
		<-c.turn
		c.sent = time.Now()
	}
}

func (c *clock) stop() {
	if c.turn != nil {
		c.under = append(c.under, time.Since(c.sent))
		c.turn <- struct{}{}
	}
}

// part returns the seconds that this part of the items took at most; 0 without
// items.
func (c *clock) part(p float64) float64 {
	if len(c.under) == 0 {
		return 0
	}
	slices.Sort(c.under)
	return c.under[int(p*float64(len(c.under)-1))].Seconds()
}

// both waits for two sides, or for the first of them that fails.
func both(a, b <-chan error) error {
	for range 2 {
		select {
		case err := <-a:
			if err != nil {
				return err
			}
			a = nil
		case err := <-b:
			if err != nil {
				return err
			}
			b = nil
		}
	}
	return nil
}

func produce[T any](q *between[T], items int, item func(int) T, c *clock) error {
	for i := range items {
		v := item(i)
		c.start()
		if q.in != nil {
			q.in <- v
		} else if err := q.put(v); err != nil {
			return fmt.Errorf("put item %d: %w", i, err)
		}
	}
	if q.end != nil {
		return q.end()
	}
	if q.in != nil {
		close(q.in)
	}
	return nil
}

// consume receives all items, which must come in order and unchanged, and none
// after them.
func consume[T any](q *between[T], w work, number func(T) (int, error), c *clock) error {
	for i := range w.items {
		v, err := receive(q)
		if err != nil {
			return fmt.Errorf("get item %d: %w", i, err)
		}
		c.stop()
		if n, err := number(v); err != nil || n != i {
			return fmt.Errorf("item %d comes, want %d: %v", n, i, err)
		}
		if w.spin > 0 {
			for start := time.Now(); time.Since(start) < w.spin; {
			}
		}
	}
	if q.out != nil {
		if _, more := <-q.out; more {
			return fmt.Errorf("more than %d items come", w.items)
		}
	}
	return nil
}

func receive[T any](q *between[T]) (v T, err error) {
	if q.out == nil {
		return q.get()
	}
	v, ok := <-q.out
	if !ok {
		return v, errors.New("the channel is closed")
	}
	return v, nil
}
