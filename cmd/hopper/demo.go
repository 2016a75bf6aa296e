package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"example.com/hopper"
)

const (
	demoRate  = 100_000 // items a second that the producer has
	demoTick  = 5 * time.Millisecond
	demoBytes = 128       // of an item
	demoMost  = 256 << 20 // bytes that the unbounded slice is stopped at
	demoEvery = 100 * time.Millisecond
)

// The parts of a demo, of its length: the consumer stalls between the first
// two, and the producer ends at the third.
const (
	stallFrom = 0.2
	stallTo   = 0.55
	produceTo = 0.7
)

// A demo shows the same producer and consumer three times: with a bare channel
// between them, with a slice that grows, and with a pipe.
type demo struct {
	length time.Duration
	start  time.Time
	quit   chan struct{} // closed when it is to end early
	lanes  []*lane
}

func runDemo(args []string, std stdio) error {
	fs := flagSet("hopper demo")
	length := fs.Duration("for", 10*time.Second, "")
	if err := parse(fs, args, 0); err != nil {
		return err
	}
	if *length < time.Second {
		return usageError(fmt.Sprintf("-for %v is too short to see anything: at least 1s", *length))
	}

	d := &demo{length: *length, start: time.Now(), quit: make(chan struct{})}
	piped, pump, err := pipeLane()
	if err != nil {
		return err
	}
	d.lanes = []*lane{bareLane(), sliceLane(), piped}

	var lanes sync.WaitGroup
	for _, l := range d.lanes {
		lanes.Go(func() { d.produce(l) })
		lanes.Go(func() { d.consume(l) })
	}
	done := make(chan struct{})
	go func() {
		lanes.Wait()
		close(done)
	}()
	interrupted := d.show(std, done)
	if interrupted {
		close(d.quit)
		pump.Close()
		<-done
	}
	return d.report(std.out, interrupted)
}

// A lane is what stands between one producer and one consumer.
type lane struct {
	name string
	in   chan<- []byte
	out  <-chan []byte

	memory func() int64 // bytes of what waits
	disk   func() int64 // nil: there is none

	sent, got atomic.Int64
	waits     atomic.Bool  // the producer, for the consumer
	waited    atomic.Int64 // for so many nanoseconds in all
	wrong     atomic.Int64 // items that came out of order

	peakMemory, peakDisk int64 // that were shown
}

func bareLane() *lane {
	c := make(chan []byte, 64)
	memory := func() int64 { return int64(len(c)) * demoBytes }
	return &lane{name: "bare channel", in: c, out: c, memory: memory}
}

func pipeLane() (*lane, *hopper.Pump, error) {
	in, out := make(chan []byte, 64), make(chan []byte, 64)
	p, err := hopper.Pipe(out, in, hopper.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, nil, err
	}
	return &lane{
		name: "hopper.Pipe", in: in, out: out,
		memory: func() int64 { return p.Stats().MemoryBytes },
		disk:   func() int64 { return p.Stats().DiskBytes },
	}, p, nil
}

// sliceLane is what programs do who want their producer never to wait.
func sliceLane() *lane {
	in, out := make(chan []byte, 64), make(chan []byte, 64)
	var waiting atomic.Int64
	const size = demoBytes + int64(unsafe.Sizeof([]byte{}))
	go func() {
		defer close(out)
		var queue [][]byte
		for from := (<-chan []byte)(in); from != nil || len(queue) > 0; {
			var to chan<- []byte
			var head []byte
			if len(queue) > 0 {
				to, head = out, queue[0]
			}
			receive := from
			if int64(len(queue))*size >= demoMost {
				receive = nil // a real one would go on until the process is killed
			}

			select {
			case v, ok := <-receive:
				if ok {
					queue = append(queue, v)
				} else {
					from = nil
				}
			case to <- head:
				queue = queue[1:]
			}
			waiting.Store(int64(len(queue)) * size)
		}
	}()
	return &lane{name: "slice", in: in, out: out, memory: waiting.Load}
}

// at returns how far the demo is: 1 is its length.
func (d *demo) at() float64 { return float64(time.Since(d.start)) / float64(d.length) }

func (d *demo) stalled() bool { return d.at() >= stallFrom && d.at() < stallTo }

// produce sends numbered items at a fixed rate, as far as the lane takes them.
func (d *demo) produce(l *lane) {
	defer close(l.in)
	tick := time.NewTicker(demoTick)
	defer tick.Stop()
	due := 0.0
	for n := uint64(0); d.at() < produceTo; {
		select {
		case <-tick.C:
		case <-d.quit:
			return
		}
		for due += demoRate * demoTick.Seconds(); due >= 1; due-- {
			if !d.send(l, demoItem(n)) {
				return
			}
			n++
		}
	}
}

func demoItem(n uint64) []byte {
	b := make([]byte, demoBytes)
	binary.BigEndian.PutUint64(b, n)
	copy(b[8:], "GET /index.html HTTP/1.1 200 4711 \"Mozilla/5.0 (X11; Linux x86_64)\" 0.003s")
	return b
}

// send reports false when the demo is to end.
func (d *demo) send(l *lane, item []byte) bool {
	select {
	case l.in <- item:
		l.sent.Add(1)
		return true
	default:
	}

	l.waits.Store(true)
	start := time.Now()
	defer func() {
		l.waited.Add(int64(time.Since(start)))
		l.waits.Store(false)
	}()
	select {
	case l.in <- item:
		l.sent.Add(1)
		return true
	case <-d.quit:
		return false
	}
}

// consume receives items and checks their order. It stands still while the demo
// says so.
func (d *demo) consume(l *lane) {
	want := uint64(0)
	for item := range l.out {
		for d.stalled() {
			select {
			case <-time.After(demoTick):
			case <-d.quit:
				return
			}
		}
		if n := binary.BigEndian.Uint64(item); n != want {
			l.wrong.Add(1)
		}
		want++
		l.got.Add(1)
	}
}

// report writes what has become of it, a line for each lane.
func (d *demo) report(w io.Writer, interrupted bool) error {
	for _, l := range d.lanes {
		order := "in order, none lost"
		switch {
		case l.wrong.Load() > 0:
			order = fmt.Sprintf("%d OUT OF ORDER", l.wrong.Load())
		case interrupted:
			order = "in order until it was stopped"
		case l.got.Load() != l.sent.Load():
			order = fmt.Sprintf("%d LOST", l.sent.Load()-l.got.Load())
		}

		took := fmt.Sprintf("memory at most %v", size(l.peakMemory))
		if l.disk != nil {
			took += fmt.Sprintf(", disk %v", size(l.peakDisk))
		}
		waited := "its producer never waited"
		if s := time.Duration(l.waited.Load()).Seconds(); s >= 0.1 {
			waited = fmt.Sprintf("its producer waited %.1f s", s)
		}
		say(w, fmt.Sprintf("%-12s  %s items %s; %s; %s",
			l.name, count(l.got.Load()), order, took, waited))
		if l.wrong.Load() > 0 {
			return fmt.Errorf("items came out of order through the %s", l.name)
		}
	}
	return nil
}

// count writes a number of items with three digits, as 1.25M.
func count(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprint(n)
	case n < 1_000_000:
		return fmt.Sprintf("%.3gk", float64(n)/1e3)
	}
	return fmt.Sprintf("%.3gM", float64(n)/1e6)
}
