package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"example.com/hopper"
	"example.com/hopper/spill/segment"
)

const (
	statusEvery = 500 * time.Millisecond // on a terminal
	lineEvery   = time.Second            // elsewhere
	statusWidth = 79                     // a longer one would wrap, and could not be overwritten
	smoothing   = 3 * time.Second        // of the rates
)

// showProgress starts to show progress, where that is wanted. The function that
// it returns ends that.
func (p *pipe) showProgress() (stop func()) {
	terminal := isTerminal(p.std.err)
	if p.progress == never || p.progress == onTerminal && (!terminal || isTerminal(p.std.out)) {
		return func() {}
	}
	show, every := p.con.line, lineEvery
	if terminal {
		show, every = p.con.setStatus, statusEvery
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		p.progressLoop(quit, show, every)
	}()
	return func() {
		close(quit)
		finished(done, stopGrace) // it may hang with the disk
	}
}

func (p *pipe) progressLoop(quit <-chan struct{}, show func(string), every time.Duration) {
	start := p.sample()
	m := meter{last: start}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			show(m.status(p.sample(), p.room()))
		case <-quit:
			whole := meter{last: start}
			p.con.line(whole.status(p.sample(), -1))
			return
		}
	}
}

// A sample is the state of a pipe at one moment. All but the time is in bytes.
type sample struct {
	at      time.Time
	in, out int64
	waiting int64
	hopper.Stats
}

func (p *pipe) sample() sample {
	return sample{time.Now(), p.source.n.Load(), p.sink.n.Load(), int64(p.waiting()), p.pump.Stats()}
}

// room returns how many bytes the segments may still take, or -1 where that can't be told.
func (p *pipe) room() int64 {
	dir := p.dir
	if dir == "" {
		dir = os.TempDir()
	}
	avail, total, err := segment.Free(dir)
	if err != nil {
		return -1
	}
	keep := int64(p.keepFree)
	if keep < 0 {
		keep = min(hopper.DefaultKeepFree, total/20)
	}
	room := avail - keep
	if p.maxDisk >= 0 {
		room = min(room, int64(p.maxDisk)-p.pump.Stats().DiskBytes)
	}
	return max(0, room)
}

// A meter computes rates, in bytes a second, smoothed over some seconds.
type meter struct {
	last          sample
	in, out, disk float64
	any           bool
	blocked       bool // in the last two samples: for a moment it may be, while the disk is written to
}

func (m *meter) add(s sample) {
	dt := s.at.Sub(m.last.at)
	if dt <= 0 {
		return
	}
	weight := 1 - math.Exp(-float64(dt)/float64(smoothing))
	if !m.any {
		weight = 1
	}
	update := func(rate *float64, bytes int64) { *rate += weight * (float64(bytes)/dt.Seconds() - *rate) }
	update(&m.in, s.in-m.last.in)
	update(&m.out, s.out-m.last.out)
	update(&m.disk, s.DiskBytes-m.last.DiskBytes)
	m.last, m.any, m.blocked = s, true, s.Blocked && m.last.Blocked
}

// status returns the line to be shown. Sizes are in powers of 1024, their unit one letter.
func (m *meter) status(s sample, room int64) string {
	m.add(s)
	line := fmt.Sprintf("in %v %v/s  out %v %v/s  wait %v  mem %v  disk %v%s",
		size(s.in), size(m.in), size(s.out), size(m.out), size(s.waiting), size(s.MemoryBytes), size(s.DiskBytes), m.outlook(room))
	line = strings.ReplaceAll(line, "iB", "")
	return line[:min(len(line), statusWidth)]
}

// outlook says how long it takes until nothing waits, or until the disk takes no more.
func (m *meter) outlook(room int64) string {
	switch waiting := m.last.waiting; {
	case m.blocked:
		return "  blocked"
	case waiting == 0:
		return ""
	case m.out > m.in:
		return "  drain " + duration(float64(waiting)/(m.out-m.in))
	case m.disk > 0 && room >= 0:
		return "  full " + duration(float64(room)/m.disk)
	}
	return ""
}

// duration writes the time in its largest unit.
func duration(seconds float64) string {
	switch {
	case seconds < 60:
		return fmt.Sprintf("%.0fs", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%.0fm", seconds/60)
	case seconds < 99*3600:
		return fmt.Sprintf("%.0fh", seconds/3600)
	}
	return ">99h"
}
