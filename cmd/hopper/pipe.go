package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"example.com/hopper"
	"example.com/hopper/codec"
	"example.com/hopper/spill"
	"example.com/hopper/spill/segment"
)

// A pipe is stdin → source → pump → sink → stdout.
type pipe struct {
	settings
	std     stdio
	con     *console
	pump    *hopper.Pump
	source  *source
	sink    *sink
	resumed int64 // bytes of the backlog at the start; an estimate
}

func runPipe(args []string, std stdio) int {
	s, err := parseSettings(args)
	if err != nil {
		return report(err, std)
	}
	if s.version {
		fmt.Fprintln(std.out, version())
		return exitOK
	}
	p, err := newPipe(s, std)
	if err != nil {
		return report(err, std)
	}
	return p.run()
}

func newPipe(s settings, std stdio) (*pipe, error) {
	p := &pipe{settings: s, std: std, con: &console{w: std.err}}
	var rest []byte
	if s.resume {
		p.resumed = backlogBytes(s.dir)
		if out, ok := std.out.(interface{ KeepSize() }); ok {
			out.KeepSize()
		}
	}
	in, out := make(chan []byte), make(chan []byte)
	var err error
	options := append(s.options, hopper.WithCodec(codec.Bytes{}),
		hopper.WithLogger(slog.New(&logger{con: p.con})))
	notResumed := fmt.Errorf("%s holds a kept backlog: start with -resume to deliver it, "+
		"or choose another -dir", s.dir)
	p.pump, err = hopper.Pipe(out, in, options...)
	if errors.Is(err, spill.ErrNotResumed) {
		err = notResumed
	}
	if err != nil {
		return nil, err
	}
	if s.dir != "" { // now the directory is locked
		rest, err = loadRest(s.dir)
		if err == nil && len(rest) > 0 && !s.resume {
			err = notResumed
		}
		if err != nil {
			return nil, errors.Join(err, p.pump.Close())
		}
	}
	p.resumed += int64(len(rest))
	free := newBuffers()
	p.source = &source{
		r: std.in, to: in, free: free, spilling: p.spilling,
		giveUp: make(chan struct{}), done: make(chan struct{}),
	}
	p.sink = &sink{
		w: std.out, from: out, free: free, rest: rest, restored: p.restored,
		stopping: make(chan struct{}), done: make(chan struct{}),
	}
	return p, nil
}

// backlogBytes estimates the undelivered bytes in dir.
func backlogBytes(dir string) (bytes int64) {
	l, err := segment.Inspect(dir)
	if err != nil {
		return 0 // Pipe will say
	}
	for _, s := range l.Segments {
		if s.End > max(l.Next, s.First) {
			frame := float64(s.FrameBytes) / float64(s.End-s.First)
			length := float64(len(binary.AppendUvarint(nil, uint64(frame)))) // in front of the item
			bytes += int64((frame - length) * float64(s.End-max(l.Next, s.First)))
		}
	}
	return bytes
}

func (p *pipe) spilling() bool { return p.pump.Stats().OnDisk > 0 }

// restored is called when what an earlier run had in hand is written.
func (p *pipe) restored() {
	if !p.resume {
		return
	}
	if err := removeRest(p.dir); err != nil {
		p.con.say("%v: its bytes will come twice", err)
	}
}

// waiting returns the number of bytes that were read and not yet written.
func (p *pipe) waiting() size {
	return size(max(0, p.source.n.Load()+p.resumed-p.sink.n.Load()))
}

func (p *pipe) run() int {
	defer p.showProgress()()
	go p.source.run()
	go p.sink.run()
	select {
	case <-p.sink.done:
		return p.ended()
	case sig := <-p.std.signals:
		if p.resume {
			return p.saved()
		}
		return p.drain(sig)
	}
}

// ended returns the exit code when nothing is written any more: all is, or
// stdout does not take it.
func (p *pipe) ended() int {
	err := p.sink.err
	switch {
	case err == nil:
		return p.exit(p.source.failed(), p.pump.Wait())
	case p.resume:
		if code := p.saved(); code != exitOK {
			p.exit(err)
			return code
		}
	default:
		p.pump.Close()
		err = fmt.Errorf("%w: %v not delivered", err, p.waiting())
	}
	return p.exit(err)
}

// exit reports the errors and returns the exit code.
func (p *pipe) exit(errs ...error) int {
	err := errors.Join(errs...)
	for _, line := range messages(withoutDamage(err)) {
		p.con.line(line)
	}
	return exitCode(err)
}

// withoutDamage returns the joined errors in err but for those of damage, which
// the logger has told.
func withoutDamage(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var others []error
		for _, e := range joined.Unwrap() {
			others = append(others, withoutDamage(e))
		}
		return errors.Join(others...)
	}
	if errors.Is(err, spill.ErrCorrupt) {
		return nil
	}
	return err
}

// drain delivers what is held, unless there is another signal.
func (p *pipe) drain(sig os.Signal) int {
	p.con.say("%v: delivering %v that wait: signal again to stop at once", sig, p.waiting())
	p.source.stop()
	go p.pump.Shutdown(context.Background()) // it returns when the pump has ended; see below
	written := make(chan struct{})
	go func() {
		defer close(written)
		<-p.sink.done
		if p.sink.err == nil {
			if left := p.source.abandon(); left != nil {
				p.sink.write(left)
			}
		}
	}()
	if !p.unlessUrged(written) {
		p.pump.Close()
		p.con.say("stopped: %v lost", p.waiting())
		return exitFailed
	}
	return p.ended()
}

// keep stops everything and leaves what was not written in the directory.
func (p *pipe) keep() int {
	p.source.stop()
	rest := p.sink.stop()
	err := saveRest(p.dir, rest) // first, so that a crash costs nothing
	err = errors.Join(err, p.pump.Close())
	if left := p.source.abandon(); left != nil {
		err = errors.Join(err, p.appendLeft(left))
	}
	kept := size(backlogBytes(p.dir) + int64(len(rest)))
	switch {
	case err != nil:
		p.con.say("stopped: of %v that waited about %v are kept in %s", p.waiting(), kept, p.dir)
	case kept > 0:
		p.con.say("stopped: %v kept in %s: start with -dir %[2]s -resume to deliver them",
			kept, p.dir)
	default:
		p.con.say("stopped: everything was delivered")
	}
	return p.exit(err)
}

// saved keeps the backlog, which may mean to wait for the disk, but for no
// longer than until the user insists.
func (p *pipe) saved() int {
	code := exitFailed
	done := make(chan struct{})
	go func() {
		defer close(done)
		code = p.keep()
	}()
	if !p.unlessUrged(done) {
		p.con.say("stopped before the backlog was safe: what was in memory may be lost")
		return exitFailed
	}
	return code
}

// unlessUrged waits until done is closed, and reports false if another signal
// comes before. One within a second of the first is the same one: timeout(1)
// sends it both to the process and to its group.
func (p *pipe) unlessUrged(done <-chan struct{}) bool {
	for first := time.Now(); ; {
		select {
		case <-done:
			return true
		case <-p.std.signals:
			if time.Since(first) > time.Second {
				return false
			}
		}
	}
}

// appendLeft adds to the kept backlog what was read and the pump could not
// take.
func (p *pipe) appendLeft(left []byte) error {
	in, out := make(chan []byte), make(chan []byte)
	pump, err := hopper.Pipe(out, in, hopper.Dir(p.dir), hopper.Resume(), hopper.KeepFree(0),
		hopper.WithCodec(codec.Bytes{}))
	if err != nil {
		return err
	}
	select {
	case in <- left:
	case <-pump.Done():
	}
	return pump.Close()
}
