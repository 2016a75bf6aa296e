package main

import (
	"io"
	"os"
	"time"

	"example.com/hopper"
	"example.com/hopper/spill/segment"
)

const (
	statusEvery = 250 * time.Millisecond // on a terminal
	lineEvery   = time.Second            // elsewhere
)

// showProgress starts to show progress, where that is wanted. The function that
// it returns ends that.
func (p *pipe) showProgress() (stop func()) {
	terminal := isTerminal(p.std.err)
	if p.progress == never || p.progress == onTerminal && (!terminal || isTerminal(p.std.out)) {
		return func() {}
	}

	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if terminal && isSmart() {
			p.progressLoop(quit, statusEvery, func(m *meter) {
				p.con.setStatus(m.fit(terminalWidth(p.std.err) - 1)) // the last column would wrap
			})
		} else {
			p.progressLoop(quit, lineEvery, func(m *meter) { p.con.line(m.fit(lineWidth)) })
		}
	}()
	return func() {
		close(quit)
		finished(done, stopGrace) // it may hang with the disk
	}
}

func (p *pipe) progressLoop(quit <-chan struct{}, every time.Duration, show func(*meter)) {
	m := newMeter(p.sample(), totalBytes(p.std.in))
	tick := time.NewTicker(every)
	defer tick.Stop()

	for {
		select {
		case <-tick.C:
			m.add(p.sample())
			show(m)
		case <-quit:
			m.add(p.sample())
			p.con.line(m.summary())
			return
		}
	}
}

// totalBytes returns how many bytes are to be read from r, if it is a regular
// file; else 0.
func totalBytes(r io.Reader) int64 {
	f, ok := r.(*os.File)
	if !ok {
		return 0
	}
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return 0
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0
	}
	return max(0, fi.Size()-at)
}

// A sample is the state of a pipe at one moment. All but the time is in bytes.
type sample struct {
	at      time.Time
	in, out int64
	waiting int64
	room    int64 // that the segments may still take; -1 where that can't be told
	hopper.Stats
}

func (p *pipe) sample() sample {
	return sample{
		at: time.Now(), in: p.source.n.Load(), out: p.sink.n.Load(),
		waiting: int64(p.waiting()), room: p.room(), Stats: p.pump.Stats(),
	}
}

// room returns how many bytes the segments may still take, or -1 where that
// can't be told.
func (p *pipe) room() int64 {
	dir := p.dir
	if dir == "" {
		dir = os.TempDir()
	}
	avail, total, err := segment.Free(dir)
	if err != nil || total == 0 {
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
