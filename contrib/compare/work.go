package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
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
}

var works = []work{
	{name: "w1", what: "passthrough of uint64", items: 2_000_000, payload: 8},
	{name: "w2", what: "stall, then drain, log lines of 128 bytes",
		items: 1_000_000, payload: 128, stall: true},
	{name: "w3", what: "stall, then drain, log lines of 1 KiB",
		items: 200_000, payload: 1024, stall: true},
	{name: "w4", what: "a consumer that takes 2 µs for each line of 128 bytes",
		items: 500_000, payload: 128, spin: 2 * time.Microsecond},
	{name: "w5", what: "stall, then drain, 4 GiB of log lines of 1 KiB",
		items: 4 << 20, payload: 1024, stall: true, disk: true},
}

// A result is what a run has come to.
type result struct {
	Seconds  float64 // from the first item sent to the last received
	CPU      float64 // seconds, user and system
	PeakRSS  int64   // bytes, of the whole process
	PeakDisk int64   // bytes
	DiskLeft int64   // bytes, after the last item
	Err      string
}

// run does the work with a peer in this process.
func run(w work, p peer, capacity, memory int, into *atomic.Int64) (r result, err error) {
	s := setting{capacity: capacity, memory: memory, payload: w.payload, items: w.items}
	if p.disk {
		if s.dir, err = os.MkdirTemp("", "compare-"); err != nil {
			return r, err
		}
		defer os.RemoveAll(s.dir)
	}

	watch := startWatch(s.dir)
	if w.payload == 8 {
		err = runOn(w, s, p.numbers, &r, watch, into,
			func(i int) uint64 { return uint64(i) }, func(v uint64) (int, error) { return int(v), nil })
	} else {
		l := newLines(w.payload)
		err = runOn(w, s, p.bytes, &r, watch, into, l.item, l.number)
	}
	r.CPU, r.PeakRSS = cpuSeconds(), peakRSS()
	r.PeakDisk = watch.stop()
	return r, err
}

func runOn[T any](
	w work, s setting, open func(setting) (*between[T], error), r *result, watch *watch,
	into *atomic.Int64, item func(int) T, number func(T) (int, error),
) error {
	q, err := open(s)
	if err != nil {
		return err
	}

	start := time.Now()
	produced := make(chan error, 1)
	go func() { produced <- produce(q, w.items, item, into) }()
	if w.stall {
		err = <-produced
		watch.look() // at the fullest moment
	}
	if err == nil {
		err = consume(q, w, number)
	}
	if !w.stall {
		err = errors.Join(err, <-produced)
	}
	r.Seconds = time.Since(start).Seconds()
	r.DiskLeft = dirBytes(s.dir)

	if q.close != nil {
		err = errors.Join(err, q.close())
	}
	return err
}

func produce[T any](q *between[T], items int, item func(int) T, sent *atomic.Int64) error {
	for i := range items {
		v := item(i)
		if q.in != nil {
			q.in <- v
		} else if err := q.put(v); err != nil {
			return fmt.Errorf("put item %d: %w", i, err)
		}
		if sent != nil {
			sent.Add(1)
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

// consume receives all items, which must come in order and unchanged.
func consume[T any](q *between[T], w work, number func(T) (int, error)) error {
	for i := range w.items {
		v, err := receive(q)
		if err != nil {
			return fmt.Errorf("get item %d: %w", i, err)
		}
		if n, err := number(v); err != nil || n != i {
			return fmt.Errorf("item %d comes, want %d: %v", n, i, err)
		}
		if w.spin > 0 {
			for start := time.Now(); time.Since(start) < w.spin; {
			}
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
