package hopper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"

	"example.com/hopper/codec"
	"example.com/hopper/spill"
)

// Defaults, in bytes.
const (
	DefaultMaxMemory   = 1 << 20
	DefaultKeepFree    = spill.DefaultKeepFree
	DefaultSegmentSize = 16 << 20
)

var (
	// ErrStopped says that Close, or the end of the context, ended the pump before in was closed.
	ErrStopped = errors.New("hopper: stopped")

	// ErrOutClosed says that somebody else closed out, which only the pump may do. The item
	// that it was about to send is not lost: it is treated like all that a stopped pump holds.
	ErrOutClosed = errors.New("hopper: out was closed by somebody else: only the pump may close it")
)

// An UndeliveredError says what a stopped pump still held.
type UndeliveredError struct {
	Items uint64 // number of items that were received and not delivered
	Kept  bool   // whether they are on disk, for the next start with Resume; else they are lost
}

func (e *UndeliveredError) Error() string {
	if e.Kept {
		return fmt.Sprintf("hopper: %d items not delivered, kept for the next start with Resume", e.Items)
	}
	return fmt.Sprintf("hopper: %d items not delivered, lost: Shutdown delivers them, and Resume keeps them where the disk takes them", e.Items)
}

// Pipe starts a pump that receives from in and sends to out, and returns at once. Note the
// order: the destination comes first, as in io.Copy.
//
// Items leave in the order in which they were received. One goes straight through while out takes it; when
// out blocks, items wait in memory up to MaxMemory, and from there on in a log on disk. Receiving stops, and so
// in blocks, only while the disk refuses: at MaxDisk, at KeepFree or on a write error.
//
// In two ways a producer at full speed is slowed down for a consumer that would keep up, so that a backlog is not made without need, and
// comes to an end. While out takes what waits as fast as it comes, the pump receives half as much as it delivers. And when out blocks
// the pump waits for it a moment before it receives much: 100 µs, or the millisecond of a coarse timer, once in 128 items delivered;
// up to a thousand times more rarely if it was in vain.
//
// The pump owns in's receiving and out's sending end: nobody else may close out, and who else receives from in
// or sends to out gives up the order. When in is closed the pump delivers what it holds, closes out (see
// [KeepOpen]) and ends. It is to be ended with [Pump.Shutdown] or [Pump.Close] where in is never closed; a producer
// must then not wait on in for ever: let it select on [Pump.Done] too.
//
// An item that went through the disk is a deep copy, equal to the one sent; any other is the
// very same value. The sender must not change what a sent value refers to.
//
// Pipe fails, before it starts anything, for options or channels that make no sense, for a directory that can't
// be made, written or locked ([spill.ErrLocked]), and for a T that has no default codec.
func Pipe[T any](out chan<- T, in <-chan T, opts ...Option) (*Pump, error) {
	return PipeContext(context.Background(), out, in, opts...)
}

// PipeContext is [Pipe] with a pump that ends as by [Pump.Close] when ctx ends; [Pump.Wait] then returns the context's
// cause too.
func PipeContext[T any](ctx context.Context, out chan<- T, in <-chan T, opts ...Option) (*Pump, error) {
	if err := checkChannels(ctx, out, in); err != nil {
		return nil, err
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	c, err := codecOf[T](cfg.codec)
	if err != nil {
		return nil, err
	}
	p := &Pump{wake: make(chan struct{}, 1), done: make(chan struct{})}
	p.board.init()
	log, next, resumed, err := spill.Open(cfg.spill(codec.Label(c), p.wake))
	if err != nil {
		return nil, explain(err, cfg.dir)
	}
	p.usage = log.Usage
	l := newLoop(p, cfg, out, in, c, log)
	l.resume(next, resumed)
	unhook := context.AfterFunc(ctx, func() { p.stop(closing) })
	go func() {
		defer close(p.done)
		l.run()
		unhook()
		p.err, p.lossErr = l.end(ctx)
	}()
	return p, nil
}

func checkChannels[T any](ctx context.Context, out chan<- T, in <-chan T) error {
	switch {
	case ctx == nil:
		return errors.New("hopper: nil context: give context.Background()")
	case out == nil:
		return errors.New("hopper: out is a nil channel: make it before Pipe(out, in)")
	case in == nil:
		return errors.New("hopper: in is a nil channel: make it before Pipe(out, in)")
	case reflect.ValueOf(out).Pointer() == reflect.ValueOf(in).Pointer():
		return errors.New("hopper: out and in are the same channel: the pump goes between two")
	}
	return nil
}

// codecOf returns the codec given by WithCodec, or else the default one.
func codecOf[T any](given any) (codec.Codec[T], error) {
	if given == nil {
		return codec.For[T]()
	}
	c, ok := given.(codec.Codec[T])
	if !ok {
		return nil, fmt.Errorf("hopper: WithCodec(%T) does not fit a channel of %v: give a codec.Codec[%[2]v]", given, reflect.TypeFor[T]())
	}
	return c, nil
}

// explain says what to do about an error of the log.
func explain(err error, dir string) error {
	var label *spill.LabelError
	switch {
	case errors.As(err, &label):
		return fmt.Errorf("hopper: Dir %s holds a backlog of another kind (%s): drain it with the program that wrote it, or give another Dir: %w",
			dir, codec.Difference(label.Found, label.Want), err)
	case dir == "":
		return fmt.Errorf("hopper: make a temporary directory: %w: give Dir", err)
	}
	return fmt.Errorf("hopper: use Dir %s: %w", dir, err)
}

// An Option changes a default of [Pipe].
type Option struct{ apply func(*config) }

type config struct {
	dir         string
	dirSet      bool
	maxMemory   int64
	maxDisk     int64 // noLimit, or bytes
	keepFree    int64 // byDefault, or bytes
	segmentSize int64 // byDefault, or bytes
	resume      bool
	keepOpen    bool
	codec       any
	logger      *slog.Logger
	err         error // the first thing that is wrong with the options
}

const (
	noLimit   = -1
	byDefault = -1
)

// newConfig gathers, defaults and checks the options. It has no side effects.
func newConfig(opts []Option) (*config, error) {
	cfg := &config{maxMemory: DefaultMaxMemory, maxDisk: noLimit, keepFree: byDefault, segmentSize: byDefault, logger: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		if o.apply == nil {
			return nil, errors.New("hopper: the zero Option means nothing: leave it out")
		}
		o.apply(cfg)
	}
	switch {
	case cfg.err != nil:
		return nil, cfg.err
	case cfg.dirSet && cfg.dir == "":
		return nil, errors.New(`hopper: Dir(""): name a directory, or leave Dir out for a temporary one`)
	case cfg.resume && !cfg.dirSet:
		return nil, errors.New("hopper: Resume needs Dir: a temporary directory is gone at the next start")
	}
	if cfg.segmentSize == byDefault {
		cfg.segmentSize = DefaultSegmentSize
		if cfg.maxDisk != noLimit {
			cfg.segmentSize = min(cfg.segmentSize, cfg.maxDisk/4)
		}
	}
	return cfg, nil
}

func (c *config) spill(label string, wake chan<- struct{}) spill.Config {
	return spill.Config{
		Dir: c.dir, MaxDisk: c.maxDisk, KeepFree: c.keepFree, SegmentSize: c.segmentSize,
		Keep: c.resume, Label: label, Wake: wake, Logger: c.logger,
	}
}

// setSize makes an option of a size in bytes.
func setSize(name string, bytes int64, field func(*config) *int64) Option {
	return Option{func(c *config) {
		if bytes < 0 && c.err == nil {
			c.err = fmt.Errorf("hopper: %s(%d): a size in bytes can't be negative", name, bytes)
		}
		*field(c) = bytes
	}}
}

// Dir sets the directory of the segments. It is made, with its parents, for its owner alone; one that is there
// keeps its permissions, and all files in it that are not segments are left alone. Each pipe needs its own.
// Without Dir a private new directory under os.TempDir is used, and removed when the pump ends.
func Dir(path string) Option {
	return Option{func(c *config) { c.dir, c.dirSet = path, true }}
}

// MaxMemory sets how many bytes of waiting items are held in memory; [DefaultMaxMemory] if it is not given. Beside them
// a pump has chunk buffers of about 2 MiB in all once it spills. With 0, whatever out does
// not take at once goes to the log.
func MaxMemory(bytes int64) Option {
	return setSize("MaxMemory", bytes, func(c *config) *int64 { return &c.maxMemory })
}

// MaxDisk limits the size of the segment files, in bytes. Without it only KeepFree does. At the
// limit the pump stops receiving until segments have been delivered. With Resume, room is set aside for what is in memory, for a stop to
// fit too; only a codec that makes items larger than they are in memory, or a single item, can exceed the limit then.
func MaxDisk(bytes int64) Option {
	return setSize("MaxDisk", bytes, func(c *config) *int64 { return &c.maxDisk })
}

// KeepFree sets how many bytes of the file system are never used; [DefaultKeepFree], or 5 % of the file system where that
// is less, if it is not given. Down there the pump stops receiving once its memory is full, until there is room again. With
// Resume, a stop keeps what is in memory all the same, which may take MaxMemory and half a MiB of that.
func KeepFree(bytes int64) Option {
	return setSize("KeepFree", bytes, func(c *config) *int64 { return &c.keepFree })
}

// SegmentSize sets the size in bytes past which a segment is sealed and another begun;
// [DefaultSegmentSize], or a quarter of MaxDisk where that is less, if it is not given. Disk space is given back by segments.
func SegmentSize(bytes int64) Option {
	return setSize("SegmentSize", bytes, func(c *config) *int64 { return &c.segmentSize })
}

// Resume makes a pump that is stopped keep its whole backlog in Dir, made durable by fsync, and one that is
// started deliver what it finds there first. It needs Dir. After a crash everything that had been written to disk
// comes back; items delivered shortly before may come twice, at most those of one segment and of the memory window.
func Resume() Option { return Option{func(c *config) { c.resume = true }} }

// KeepOpen leaves out open at the end, so that several pipes can send into one channel. Who closes it
// must first wait for all of them.
func KeepOpen() Option { return Option{func(c *config) { c.keepOpen = true }} }

// WithCodec sets the codec; [codec.For] chooses if it is not given. The pump calls it from one goroutine.
func WithCodec[T any](c codec.Codec[T]) Option {
	return Option{func(cfg *config) {
		if c == nil && cfg.err == nil {
			cfg.err = errors.New("hopper: WithCodec(nil): give a codec, or leave WithCodec out")
		}
		cfg.codec = c
	}}
}

// WithLogger sets where changes of state and faults are logged. They are discarded if it is not given.
func WithLogger(logger *slog.Logger) Option {
	return Option{func(c *config) {
		if logger == nil && c.err == nil {
			c.err = errors.New("hopper: WithLogger(nil): give a logger, or leave WithLogger out")
		}
		c.logger = logger
	}}
}

// A Pump moves items from one channel to another. All its methods are safe for concurrent use.
type Pump struct {
	wake  chan struct{} // of capacity 1: the loop has something to look at
	state atomic.Int32  // running, draining or closing; only grows
	board board
	usage func() (bytes int64, segments int)

	done    chan struct{}
	err     error // what Wait returns; set before done is closed
	lossErr error // what of it is loss
}

// States of a pump.
const (
	running  = iota
	draining // not receiving any more, delivering what is held
	closing  // ending at once
)

func (p *Pump) stop(state int32) {
	for old := p.state.Load(); old < state && !p.state.CompareAndSwap(old, state); {
		old = p.state.Load()
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Done returns a channel that is closed when the pump has ended and out is closed.
func (p *Pump) Done() <-chan struct{} { return p.done }

// Wait blocks until the pump has ended. It returns nil only if every item received was delivered. Otherwise it returns,
// joined, what ended the pump ([ErrStopped], the context's cause, [ErrOutClosed]) and what was not delivered: [*UndeliveredError] for
// what it still held, a [*spill.CorruptError] for each stretch that damage on disk has cost.
func (p *Pump) Wait() error {
	<-p.done
	return p.err
}

// Shutdown stops receiving and blocks until what is held has been delivered, or until ctx ends: then the pump ends
// as by [Pump.Close]. It returns nil only if everything was delivered; else what [Pump.Wait] returns, and ctx's cause where that ended it.
func (p *Pump) Shutdown(ctx context.Context) error {
	p.stop(draining)
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
	}
	p.stop(closing)
	<-p.done
	if p.err == nil { // the last item went out meanwhile
		return nil
	}
	return errors.Join(context.Cause(ctx), p.err)
}

// Close stops the pump and blocks until it has ended. It returns nil if nothing was lost; what [Resume] has kept is not lost. It
// may be called again, with the same result. It does not wait for a disk that hangs, for longer than a second, or ten with Resume.
func (p *Pump) Close() error {
	p.stop(closing)
	<-p.done
	return p.lossErr
}

// Stats returns a consistent snapshot: the counts of items are of one moment. It never
// blocks, nor does it block the pump.
func (p *Pump) Stats() Stats {
	s := p.board.read()
	s.DiskBytes, s.Segments = p.usage()
	return s
}

// String returns Stats as JSON, so that a Pump is an expvar.Var.
func (p *Pump) String() string {
	b, err := json.Marshal(p.Stats())
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return string(b)
}

// Stats says what a pump has done and holds. Always,
//
//	Received + Resumed == Delivered + InMemory + OnDisk + Lost
type Stats struct {
	Received  uint64 // items received from in
	Delivered uint64 // items sent to out
	InMemory  uint64 // items waiting in memory
	OnDisk    uint64 // items waiting in the log, those of its tail that are still in memory included
	Lost      uint64 // items lost, by damage on disk or by Close without Resume
	Resumed   uint64 // items found in Dir at the start, those included that turn out to be lost

	MemoryBytes int64 // of the items waiting in memory
	DiskBytes   int64 // of the segment files
	Segments    int   // number of segment files

	Spilled   uint64 // items that ever went to the log
	HighWater uint64 // most items that ever waited
	Blocked   bool   // not receiving now: a cap is reached or the disk refuses
}
