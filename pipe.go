package hopper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	"example.com/hopper/codec"
	"example.com/hopper/internal/acks"
	"example.com/hopper/internal/backlog"
	"example.com/hopper/internal/board"
	"example.com/hopper/internal/syncs"
	"example.com/hopper/spill"
	"example.com/hopper/spill/segment"
)

// Defaults, in bytes.
const (
	DefaultMaxMemory   = 1 << 20
	DefaultKeepFree    = segment.DefaultKeepFree
	DefaultSegmentSize = segment.DefaultSegmentSize
)

// Pipe starts a pump that receives from in and sends to out, and returns at
// once. Note the order: the destination comes first, as in io.Copy.
//
// Items leave in the order in which they were received. An item goes straight
// through while out takes it. When out blocks, items wait in memory, up to
// [MaxMemory], and from there on in a log on disk. The pump stops receiving, so
// that in blocks, only while the disk is full or refuses, or at a limit that
// you have set; [Stats] and the log say why. A disk that is slower than the
// producer slows it down to the disk's speed.
//
// A value that went through the disk is a deep copy, equal to the one sent; any
// other is the very same value. The sender must not change what a sent value
// refers to.
//
// The pump owns in's receiving and out's sending end. Nobody else may close
// out; whoever else receives from in or sends to out gives up the order. When
// in is closed the pump delivers the backlog, closes out (see [KeepOpen]) and
// ends. If in is never closed, end the pump with [Pump.Shutdown] or
// [Pump.Close]. Once it has ended nobody receives from in: a producer that may
// still send should also select on [Pump.Done].
//
// Items buffered in out count as delivered. After a stop, range over out to its
// end, or make out unbuffered where that matters.
//
// Any T can travel. An item that can't be copied faithfully, because it holds a
// channel, a func or a lock, say, stays in memory as it is when others go to
// disk, and counts toward MaxMemory. See package codec for what is copied.
//
// Pipe fails before it starts anything: for options or channels that make no
// sense, for a Dir that can't be made, written or locked ([spill.ErrLocked]) or
// that holds a backlog it must not touch, and, with [Resume], for a T that can
// never be encoded.
//
// While items wait, a producer at full speed is slowed down in two ways, so
// that a backlog comes to an end and is not made without need. While out takes
// items as fast as it can, the pump receives half as many as it delivers. And
// when out blocks the pump waits for it a moment before it receives much:
// 100 µs, or the millisecond of a coarse timer, once in 128 items delivered,
// and up to a thousand times more rarely where that was in vain.
func Pipe[T any](out chan<- T, in <-chan T, opts ...Option) (*Pump, error) {
	return PipeContext(context.Background(), out, in, opts...)
}

// PipeContext is [Pipe] with a pump that ends as by [Pump.Close] when ctx is
// done; [Pump.Wait] then returns the context's cause too.
func PipeContext[T any](
	ctx context.Context, out chan<- T, in <-chan T, opts ...Option,
) (*Pump, error) {
	if err := checkChannels(ctx, out, in); err != nil {
		return nil, err
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	c, err := codecOf[T](cfg)
	if err != nil {
		return nil, err
	}

	p := &Pump{wake: make(chan struct{}, 1), done: make(chan struct{}), keepOpen: cfg.keepOpen}
	if cfg.manualAck {
		p.acks = acks.NewCounter(p.poke)
	}
	items, err := open(ctx, cfg, c, p)
	if err != nil {
		return nil, err
	}

	l := &loop[T]{p: p, in: in, out: out, items: items, opts: cfg}
	l.clock.Start = cfg.start
	if cfg.syncEvery > 0 {
		l.syncs = syncs.New(cfg.syncEvery, p.poke)
	}
	l.publish()
	unhook := context.AfterFunc(ctx, func() { p.stop(closing) })
	go func() {
		defer close(p.done)
		l.run()
		unhook()
		p.err, p.lossErr = l.end(context.Cause(ctx))
	}()
	return p, nil
}

// Make makes two channels of the given capacity and starts a [Pipe] between
// them: what is sent to in comes out of out.
func Make[T any](capacity int, opts ...Option) (in chan<- T, out <-chan T, p *Pump, err error) {
	if capacity < 0 {
		return nil, nil, nil, fmt.Errorf("hopper: Make(%d): a capacity can't be negative", capacity)
	}

	from, to := make(chan T, capacity), make(chan T, capacity)
	if p, err = Pipe(to, from, opts...); err != nil {
		return nil, nil, nil, err
	}
	return from, to, p, nil
}

// Batches returns out's items in batches, in order, for a consumer that handles
// many at once. A batch is yielded when it holds most items, or when wait has
// passed since its first item was received; with a wait of 0 or less, as soon
// as no more items are immediately available. The iteration ends when out is
// closed; the last batch may be short. Each batch is the caller's own. Leaving
// the loop loses nothing: what was received has been yielded. Batches panics if
// most is less than 1.
func Batches[T any](out <-chan T, most int, wait time.Duration) iter.Seq[[]T] {
	if most < 1 {
		panic(fmt.Sprintf("hopper: Batches of at most %d items: it must be at least 1", most))
	}
	return func(yield func([]T) bool) {
		for first := range out {
			batch, open := fill(append(make([]T, 0, min(most, 64)), first), out, most, wait)
			if !yield(batch) || !open {
				return
			}
		}
	}
}

// fill adds items to a batch until it is full or wait has passed. It reports
// whether out is still open.
func fill[T any](batch []T, out <-chan T, most int, wait time.Duration) ([]T, bool) {
	for len(batch) < most { // without a timer while there are more
		select {
		case v, ok := <-out:
			if !ok {
				return batch, false
			}
			batch = append(batch, v)
			continue
		default:
		}
		break
	}
	if len(batch) == most || wait <= 0 {
		return batch, true
	}

	for late := time.After(wait); len(batch) < most; {
		select {
		case v, ok := <-out:
			if !ok {
				return batch, false
			}
			batch = append(batch, v)
		case <-late:
			return batch, true
		}
	}
	return batch, true
}

// A Delivery is an item that is done when Ack is called.
type Delivery[T any] struct {
	Value T

	of *deliveries
	n  uint64 // so many came before it
}

// Ack says that the item is done. It may be called from any goroutine, in any
// order, and more than once. It does not block.
func (d Delivery[T]) Ack() {
	if more := d.of.window.Ack(d.n); more > 0 {
		d.of.pump.Ack(more)
	}
}

// deliveries is what those of one pump share.
type deliveries struct {
	pump   *Pump
	window acks.Window
}

// Deliveries returns out's items, each with an Ack of its own, for consumers
// that are done with them in another order than they came. p is the pump that
// sends to out; it needs [ManualAck], and must not have [KeepOpen]. Nobody else
// may receive from out or call p.Ack. Deliveries panics if it is called twice
// for one pump.
//
// The channel is unbuffered. It is closed when out is, or when the pump ends:
// an item that nobody has received by then stays unacknowledged. While the
// oldest item is not acknowledged the backlog keeps all that came after it, and
// each of these that is delivered takes a bit of memory.
func Deliveries[T any](p *Pump, out <-chan T) <-chan Delivery[T] {
	switch {
	case p.acks == nil:
		panic("hopper: Deliveries of a pump without ManualAck: there is nothing to acknowledge")
	case p.keepOpen:
		panic("hopper: Deliveries of a pump with KeepOpen: out is never closed")
	case p.taken.Swap(true):
		panic("hopper: Deliveries was called before for this pump")
	}

	c := make(chan Delivery[T])
	of := &deliveries{pump: p}
	go func() {
		defer close(c)
		n := uint64(0)
		for v := range out {
			select {
			case c <- Delivery[T]{v, of, n}:
				n++
			case <-p.done:
				return
			}
		}
	}()
	return c
}

func checkChannels[T any](ctx context.Context, out chan<- T, in <-chan T) error {
	switch {
	case ctx == nil:
		return errors.New("hopper: nil context: pass context.Background()")
	case out == nil:
		return errors.New("hopper: out is a nil channel: make it before Pipe(out, in)")
	case in == nil:
		return errors.New("hopper: in is a nil channel: make it before Pipe(out, in)")
	case reflect.ValueOf(out).Pointer() == reflect.ValueOf(in).Pointer():
		return errors.New("hopper: out and in are the same channel: the pump goes between two")
	}
	return nil
}

// codecOf returns the codec passed to WithCodec, or else the default one.
func codecOf[T any](cfg *config) (codec.Codec[T], error) {
	switch {
	case cfg.codec == nil && cfg.resume:
		c, err := codec.For[T]()
		if err != nil {
			return nil, fmt.Errorf("hopper: Resume can't keep a %v: %w", reflect.TypeFor[T](), err)
		}
		return c, nil
	case cfg.codec == nil:
		return codec.Local[T](), nil
	}

	c, ok := cfg.codec.(codec.Codec[T])
	if !ok {
		return nil, fmt.Errorf("hopper: WithCodec(%T) does not fit a channel of %v: "+
			"pass a codec.Codec[%[2]v]", cfg.codec, reflect.TypeFor[T]())
	}
	return c, nil
}

// open opens the log and returns the backlog that it holds.
func open[T any](
	ctx context.Context, cfg *config, c codec.Codec[T], p *Pump,
) (*backlog.Backlog[T], error) {
	store, shared := cfg.store, (*segment.Store)(nil)
	if store == nil {
		if cfg.dir == "" {
			if err := segment.CheckTemp(); err != nil {
				return nil, fmt.Errorf("hopper: nowhere to spill to: %w: pass Dir", err)
			}
		}
		shared = segment.New(segment.Config{
			Dir: cfg.dir, SegmentSize: cfg.segmentSize, MaxBytes: cfg.maxDisk,
			KeepFree: cfg.keepFree, Budget: cfg.budget.segments(), Logger: cfg.logger,
		})
		store = shared
	}

	log, found, err := spill.Open(ctx, spill.Config{
		Store: store, Label: codec.Label(c), Keep: cfg.resume, Wake: p.wake, Logger: cfg.logger,
		Journal: cfg.manualAck,
	})
	if err != nil {
		return nil, cfg.openError(err)
	}
	if shared != nil {
		shared.NotifyRoom(log.Retry)
	}
	cfg.tellOfCrash(found)
	p.usage = log.Usage
	return backlog.New(backlog.Config[T]{
		Codec: c, Log: log, Found: found,
		MaxMemory: cfg.maxMemory, MayPark: codec.MayRefuse[T](),
		Keep: cfg.resume, Skip: cfg.skip, Start: cfg.start, Logger: cfg.logger,
		Acks: cfg.manualAck, Journal: cfg.manualAck || cfg.syncEvery > 0,
	}), nil
}

// tellOfCrash says what a start after a crash means.
func (c *config) tellOfCrash(found spill.Range) {
	if found.Crashed {
		c.logger.Warn("hopper: the last run ended without Close: "+
			"what it held in memory is missing, and the first items may come twice",
			"dir", c.dir, "items", found.Items, "may come twice", found.Repeated)
	}
}

// openError says what to do about an error of the store.
func (c *config) openError(err error) error {
	where, label := "Dir "+c.dir, (*spill.LabelError)(nil)
	if c.store != nil {
		where = "the store"
	}

	switch {
	case errors.As(err, &label):
		return fmt.Errorf("hopper: %s holds a backlog of another kind (%s): "+
			"drain it with the program that wrote it, or choose another: %w",
			where, codec.Difference(label.Found, label.Want), err)
	case errors.Is(err, spill.ErrNotResumed):
		return fmt.Errorf("hopper: %s holds a kept backlog: "+
			"pass Resume to deliver it, or choose another: %w", where, err)
	case errors.Is(err, spill.ErrLocked):
		return fmt.Errorf("hopper: %s is in use: each pipe needs its own: %w", where, err)
	case errors.Is(err, spill.ErrVersion):
		return fmt.Errorf("hopper: %s was written by a newer program: "+
			"drain it with that, or choose another: %w", where, err)
	}
	return fmt.Errorf("hopper: use %s: %w", where, err)
}

// explain says why the pump does not receive, and what to do about it. The kind
// is what stays the same when that recurs. Both are empty if err is nil.
func (c *config) explain(err error) (kind, reason string) {
	parked := (*backlog.ParkedError)(nil)
	switch {
	case err == nil:
		return "", ""
	case errors.As(err, &parked):
		reason = fmt.Sprintf("%v: it goes on when they are delivered; "+
			"raise MaxMemory for more of them", err)
	case errors.Is(err, spill.ErrHung):
		reason = "the disk does not answer: it goes on as soon as the disk does"
	case errors.Is(err, backlog.ErrUnsynced):
		reason = fmt.Sprintf("what was received more than %v ago is not yet durable: "+
			"it goes on when the disk has caught up; SyncEvery needs a faster one, or more time",
			c.syncEvery)
	case errors.Is(err, segment.ErrKeepFree):
		reason = "KeepFree is reached: it goes on when the disk has more free space; " +
			"free some, or lower KeepFree"
	case errors.Is(err, segment.ErrBudget):
		reason = fmt.Sprintf("the Budget of %d bytes is used up by the pipes that Share it: "+
			"it goes on when this or another has delivered items; raise it for longer backlogs",
			c.budget.segments().Disk())
	case errors.Is(err, spill.ErrFull) && c.store != nil:
		reason = "the store's limit is reached: it goes on when items have been delivered"
	case errors.Is(err, spill.ErrFull):
		reason = "MaxDisk is reached: it goes on when items have been delivered; " +
			"raise MaxDisk for a longer backlog"
	default:
		return innermost(err).Error(), fmt.Sprintf("the disk refuses: %v: "+
			"it is tried again every second", err)
	}
	return reason, reason
}

// innermost returns the error that err wraps, without the path that one of the
// file system has around it.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// An Option changes a default of [Pipe].
type Option struct{ apply func(*config) }

type config struct {
	dir         string
	dirSet      bool
	store       spill.Store
	maxMemory   int64
	maxDisk     int64 // byDefault, or bytes
	keepFree    int64 // byDefault, or bytes
	budget      *Budget
	segmentSize int64 // byDefault, or bytes
	resume      bool
	manualAck   bool
	syncEvery   time.Duration // 0: only at the end
	skip        bool
	keepOpen    bool
	codec       any
	logger      *slog.Logger
	start       time.Time
	err         error // the first thing that is wrong with the options
}

const byDefault = -1

// newConfig gathers, defaults and checks the options. It has no side effects.
func newConfig(opts []Option) (*config, error) {
	c := &config{
		maxMemory: DefaultMaxMemory, maxDisk: byDefault, keepFree: byDefault,
		segmentSize: byDefault, logger: slog.Default(), start: time.Now(),
	}
	for _, o := range opts {
		if o.apply == nil {
			return nil, errors.New("hopper: the zero Option means nothing: leave it out")
		}
		o.apply(c)
	}

	onDisk := c.dirSet || c.maxDisk >= 0 || c.keepFree >= 0 || c.segmentSize >= 0 || c.budget != nil
	switch {
	case c.err != nil:
		return nil, c.err
	case c.dirSet && c.dir == "":
		return nil, errors.New(`hopper: Dir(""): name a directory, or leave Dir out for a ` +
			"temporary one")
	case c.store != nil && onDisk:
		return nil, errors.New("hopper: WithStore goes with none of Dir, MaxDisk, KeepFree, " +
			"SegmentSize and Share: the store has limits of its own")
	case c.resume && !c.dirSet && c.store == nil:
		return nil, errors.New("hopper: Resume needs Dir or WithStore: " +
			"a temporary directory is gone at the next start")
	case c.manualAck && !c.resume:
		return nil, errors.New("hopper: ManualAck needs Resume: " +
			"what is not acknowledged comes back at the next start")
	case c.syncEvery > 0 && !c.resume:
		return nil, errors.New("hopper: SyncEvery needs Resume: " +
			"without it nothing is delivered after a crash")
	}
	return c, nil
}

func (c *config) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// setSize makes an option of a size in bytes.
func setSize(name string, bytes int64, field func(*config) *int64) Option {
	return Option{func(c *config) {
		if bytes < 0 {
			c.fail(fmt.Errorf("hopper: %s(%d): a size in bytes can't be negative", name, bytes))
		}
		*field(c) = bytes
	}}
}

// Dir sets the directory of the backlog. It is made, with its parents, for its
// owner alone; one that is there keeps its permissions, and all files in it
// that are not hopper's are left alone. Each pipe needs its own. Without Dir
// the backlog lives in a private directory under os.TempDir, which is made when
// the first item is spilled and removed at the end. Where that is a tmpfs the
// backlog takes memory, and the log says so.
func Dir(path string) Option {
	return Option{func(c *config) { c.dir, c.dirSet = path, true }}
}

// WithStore puts the backlog into s instead of a directory. It can't be
// combined with Dir, MaxDisk, KeepFree, SegmentSize or Share. [Resume] is still
// what keeps the backlog at the end. Once Pipe has succeeded the pump owns s,
// and closes it; if Pipe fails s is the caller's.
func WithStore(s spill.Store) Option {
	return Option{func(c *config) {
		if s == nil {
			c.fail(errors.New("hopper: WithStore(nil): pass a store, or leave WithStore out"))
		}
		c.store = s
	}}
}

// MaxMemory sets how many bytes of waiting items are held in memory. The
// default is [DefaultMaxMemory]. Beside them a pump that spills has buffers of
// about a MiB. With 0, whatever out does not take at once is encoded, and goes
// to the log.
func MaxMemory(bytes int64) Option {
	return setSize("MaxMemory", bytes, func(c *config) *int64 { return &c.maxMemory })
}

// MaxDisk limits the size of the backlog's files, in bytes. By default there is
// no limit other than [KeepFree]. At the limit the pump stops receiving until
// items have been delivered. With [Resume], room is set aside for what is in
// memory, so that a stop keeps to the limit too. Only items in in's buffer at
// the stop, a codec that makes items larger than they are in memory, or a
// single large item can then exceed it.
func MaxDisk(bytes int64) Option {
	return setSize("MaxDisk", bytes, func(c *config) *int64 { return &c.maxDisk })
}

// KeepFree sets how many bytes of the file system are left free. The default is
// [DefaultKeepFree], or 5 % of the file system if that is less. Once that is
// reached and memory is full the pump stops receiving, until there is room
// again. With [Resume], a stop keeps what is in memory all the same, and may
// use MaxMemory and half a MiB of that space.
func KeepFree(bytes int64) Option {
	return setSize("KeepFree", bytes, func(c *config) *int64 { return &c.keepFree })
}

// SegmentSize sets the size in bytes past which a file of the backlog is closed
// and another begun: disk space is given back file by file. The default is
// [DefaultSegmentSize], or less if MaxDisk or the file system is small.
func SegmentSize(bytes int64) Option {
	return setSize("SegmentSize", bytes, func(c *config) *int64 { return &c.segmentSize })
}

// A Budget is disk space that several pipes share; see [Share]. It is safe for
// concurrent use.
type Budget struct{ of *segment.Budget }

// NewBudget returns a budget of disk bytes.
func NewBudget(disk int64) *Budget { return &Budget{segment.NewBudget(disk)} }

// Usage returns the disk space, in bytes, used by all running pipes that share
// the budget. It does not block.
func (b *Budget) Usage() (disk int64) { return b.of.Usage() }

// segments returns what the stores share; b may be nil.
func (b *Budget) segments() *segment.Budget {
	if b == nil {
		return nil
	}
	return b.of
}

// Share makes the pipe share disk space with others: the files of all pipes
// with the same budget together stay within it. At that limit a pipe stops
// receiving, like at [MaxDisk], until it or another has delivered. Half of the
// budget is set aside in equal parts, one for each pipe; the other half is
// first come, first served. So a pipe whose consumer stalls never keeps the
// others from going on. Only a pipe that joins when the budget is already full
// has to wait for its part.
//
// MaxDisk and [KeepFree] apply too. Unless [SegmentSize] is set it is at most
// an eighth of a pipe's part of the budget. A resumed backlog, and what a stop
// has to keep, may exceed the budget. The files that a pipe leaves at its end
// no longer count.
func Share(b *Budget) Option {
	return Option{func(c *config) {
		switch {
		case b == nil || b.of == nil:
			c.fail(errors.New("hopper: Share(nil): pass NewBudget's result, or leave Share out"))
		case b.of.Disk() == 0:
			c.fail(errors.New("hopper: Share of a budget without any space: " +
				"NewBudget takes a positive number of bytes"))
		}
		c.budget = b
	}}
}

// Resume makes a pump keep its whole backlog when it is stopped, made durable
// by fsync, and deliver what it finds first when it is started. It needs [Dir]
// or [WithStore]. After a crash everything that had been written comes back;
// items delivered shortly before may come twice, at most those of one segment
// and of the memory window.
//
// An item that can't be decoded (its type has changed or is not registered, or
// the codec lacks a key) ends the pump once all items before it have been
// delivered: [Pump.Wait] returns a [*DecodeError], and the backlog stays as it
// is. See [SkipUndecodable].
func Resume() Option { return Option{func(c *config) { c.resume = true }} }

// ManualAck makes an item stay in the backlog until [Pump.Ack] says that it is
// done: one that was delivered and not acknowledged comes back at the next
// start. It needs [Resume]. See [Deliveries] for worker pools.
//
// Each item is encoded before it is delivered, so that the consumer may change
// it. Memory stays bounded however many items are not acknowledged; there is no
// file until they exceed half a MiB. When in is closed the pump closes out
// after the last delivery, and ends once all are acknowledged. Shutdown waits
// for that too, until its context is done; Close does not.
//
// To acknowledge an item also acknowledges those before it that corruption on
// disk has cost. An item that can't be encoded stays in memory; a stop before
// it is acknowledged loses it, and says so.
func ManualAck() Option { return Option{func(c *config) { c.manualAck = true }} }

// SyncEvery makes what was received survive a crash of the process or of the
// machine, except for the last d and the time of one sync: while anything
// waits, or is not acknowledged with [ManualAck], it is written and synced
// (fsync) once in d. The consumer's position is synced with it, so that items
// which were done before do not come back. It needs [Resume].
//
// If the oldest item has waited for d and a second without being synced,
// because the disk is slow, the pump stops receiving until it has been; [Stats]
// and the log say so. Without SyncEvery only Close and Shutdown sync.
func SyncEvery(d time.Duration) Option {
	return Option{func(c *config) {
		if d <= 0 {
			c.fail(fmt.Errorf("hopper: SyncEvery(%v): a time between syncs must be positive", d))
		}
		c.syncEvery = d
	}}
}

// SkipUndecodable makes a pump with [Resume] count an item that can't be
// decoded as lost and go on with the next. A pump without Resume always does.
func SkipUndecodable() Option { return Option{func(c *config) { c.skip = true }} }

// KeepOpen leaves out open at the end, so that several pipes can send into one
// channel. Whoever closes it must first wait for all of them. It also serves
// consumers that never look whether out is closed.
func KeepOpen() Option { return Option{func(c *config) { c.keepOpen = true }} }

// WithCodec sets the codec. The default is [codec.For] with [Resume], and
// [codec.Local] without. The pump calls it from one goroutine.
func WithCodec[T any](c codec.Codec[T]) Option {
	return Option{func(cfg *config) {
		if c == nil {
			cfg.fail(errors.New("hopper: WithCodec(nil): pass a codec, or leave WithCodec out"))
		}
		cfg.codec = c
	}}
}

// WithLogger sets where changes of state, faults and losses are logged. The
// default is slog.Default(), so that none of them is silent.
func WithLogger(logger *slog.Logger) Option {
	return Option{func(c *config) {
		if logger == nil {
			c.fail(errors.New("hopper: WithLogger(nil): pass a logger, or leave WithLogger out"))
		}
		c.logger = logger
	}}
}

var (
	// ErrStopped says that Close, or a context that is done, ended the pump
	// before it had delivered everything and seen that in is closed.
	ErrStopped = errors.New("hopper: stopped")

	// ErrOutClosed says that somebody else closed out, which only the pump may
	// do. The item that it was about to send is not lost: it stays in the
	// backlog, as when a pump is stopped.
	ErrOutClosed = errors.New("hopper: out was closed by somebody else: only the pump may close it")
)

// An UndeliveredError is the receipt of a pump that was stopped: it says how
// many items it had received that were not done.
type UndeliveredError struct {
	Items   uint64 // that were never delivered
	Unacked uint64 // that were delivered and not acknowledged, with ManualAck
	Kept    bool   // they are kept for the next start with Resume; else they are lost
}

func (e *UndeliveredError) Error() string {
	what := fmt.Sprintf("%d items not delivered", e.Items)
	if e.Unacked > 0 {
		what += fmt.Sprintf(", %d not acknowledged", e.Unacked)
	}
	if e.Kept {
		return "hopper: " + what + ", kept for the next start with Resume"
	}
	return "hopper: " + what + ", lost: Shutdown delivers them, and Resume keeps them " +
		"where the disk has room"
}

func receipt(of backlog.Undelivered, kept bool) error {
	if of == (backlog.Undelivered{}) {
		return nil
	}
	return &UndeliveredError{Items: of.Waiting, Unacked: of.Unacked, Kept: kept}
}

const (
	closeGrace  = time.Second      // for the store, to delete the backlog
	resumeGrace = 10 * time.Second // for the store, to make it durable
)

// end gives up everything, in order: the items in in's buffer, the backlog,
// out, the final count. It returns what Wait and Close return.
func (l *loop[T]) end(cause error) (err, loss error) {
	grace := closeGrace
	if l.opts.resume {
		grace = resumeGrace
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()

	l.takeBuffered(ctx)
	if l.p.acks != nil {
		l.items.Ack(l.p.acks.End())
	}
	stopped := !l.items.Done() || !l.closed && l.p.state.Load() == closing
	broken := l.items.Err()
	l.syncs.Stop()
	l.syncs = nil // what is published at the end begins no other
	end := l.items.Close(ctx)
	l.publish()
	l.closeOut()

	switch {
	case l.outGone:
		err = ErrOutClosed
	case stopped && broken == nil:
		err = errors.Join(ErrStopped, cause)
	case errors.Is(broken, spill.ErrLocked): // another pump has taken over
		err = errors.Join(ErrStopped, broken)
	}
	losses := errors.Join(l.items.Losses()...)
	loss = errors.Join(decodeError(broken), receipt(end.Lost, false), end.Err, losses)
	return errors.Join(err, loss, receipt(end.Kept, true)), loss
}

// takeBuffered receives the items in in's buffer when the pump is stopped:
// their senders count on it.
func (l *loop[T]) takeBuffered(ctx context.Context) {
	if l.in == nil {
		return
	}
	l.items.Finish(ctx)
	l.stop()

	for range l.buffered {
		select {
		case v, ok := <-l.in:
			if ok && !l.opts.resume {
				l.items.Drop(1)
			} else {
				l.received(v, ok)
			}
		default: // somebody else has received it
			return
		}
	}
}

// A DecodeError says that an item of a kept backlog is intact but can't be
// decoded: its type has changed or is not registered, or the codec has refused.
// It and all that follow it stay in the backlog.
type DecodeError struct {
	Item uint64 // its number in the backlog
	Err  error  // what the codec said
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("hopper: item %d can't be decoded: %v: the backlog is untouched; "+
		"start again with what is missing, or with SkipUndecodable", e.Item, e.Err)
}

// Unwrap returns what the codec said.
func (e *DecodeError) Unwrap() error { return e.Err }

func decodeError(err error) error {
	broken := (*backlog.DecodeError)(nil)
	if !errors.As(err, &broken) {
		return nil
	}
	return &DecodeError{Item: broken.Seq, Err: broken.Err}
}

// A Pump moves items from one channel to another. All its methods are safe for
// concurrent use.
type Pump struct {
	wake  chan struct{} // of capacity 1: the loop has something to look at
	state atomic.Int32  // running, draining or closing; only grows
	board board.Board[snapshot]
	usage func() spill.Usage

	acks     *acks.Counter // nil without ManualAck
	keepOpen bool
	taken    atomic.Bool // Deliveries was called

	done    chan struct{}
	err     error // what Wait returns; set before done is closed
	lossErr error // what of it is loss
}

// States of a pump.
const (
	running  = iota
	draining // receiving no more than in's buffer holds, delivering the backlog
	closing  // ending at once
)

func (p *Pump) stop(state int32) {
	for old := p.state.Load(); old < state && !p.state.CompareAndSwap(old, state); {
		old = p.state.Load()
	}
	p.poke()
}

// poke has the loop look around.
func (p *Pump) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Done returns a channel that is closed when the pump has ended and out is
// closed.
func (p *Pump) Done() <-chan struct{} { return p.done }

// Wait blocks until the pump has ended. It returns nil only if every item
// received was delivered, and acknowledged with [ManualAck]. Otherwise it
// returns, joined, what ended the pump ([ErrStopped], the context's cause,
// [ErrOutClosed], a [*DecodeError]), what was lost and what was kept (an
// [*UndeliveredError] each, the lost one first), and a [*spill.CorruptError]
// for each range of items lost to corruption on disk.
func (p *Pump) Wait() error {
	<-p.done
	return p.err
}

// Shutdown stops receiving, except for the items in in's buffer, and blocks
// until the whole backlog has been delivered or ctx is done; then the pump ends
// as by [Pump.Close]. It returns nil only if everything was delivered;
// otherwise it returns what [Pump.Wait] does, and ctx's cause if that ended it.
// A nil ctx is context.Background().
func (p *Pump) Shutdown(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}

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

// Close stops the pump and blocks until it has ended. The items in in's buffer
// are received first, beyond all limits. With [Resume] the backlog is kept;
// without, it is lost. Close returns nil if nothing was lost; otherwise the
// error says what was. It may be called again, with the same result. It waits
// for a disk that hangs for at most a second, or ten with Resume.
func (p *Pump) Close() error {
	p.stop(closing)
	<-p.done
	return p.lossErr
}

// Ack says that the n oldest items that were delivered and are not acknowledged
// yet are done: they will not come back. It needs [ManualAck]. It does not
// block, is safe for concurrent use, and does nothing once the pump has ended.
// Like sync.WaitGroup it panics if that is more than was delivered; the item
// that waits for out to take it counts as one that is.
func (p *Pump) Ack(n int) {
	if p.acks == nil {
		panic("hopper: Ack on a pump without ManualAck: an item is done when it is delivered")
	}
	p.acks.Ack(n)
}

// Stats returns a consistent snapshot: the counts of items are of one moment,
// which may lie a moment back while the pump is busy. It never blocks, nor does
// it block the pump. Unacked counts those of the items delivered by then that
// have not been acknowledged by now.
func (p *Pump) Stats() Stats {
	s := p.board.Read()
	t, u := s.tally, p.usage()
	if p.acks != nil { // for a few of them the loop is not woken
		t.Unacked = t.Delivered - min(p.acks.Count(), t.Delivered)
	}
	return Stats{
		Received: t.Received, Delivered: t.Delivered,
		InMemory: t.InMemory, OnDisk: t.OnDisk, Lost: t.Lost, Resumed: t.Resumed,
		Unacked:     t.Unacked,
		MemoryBytes: t.MemoryBytes, DiskBytes: u.Bytes, Segments: u.Segments,
		Spilled: t.Spilled, HighWater: t.HighWater, Oldest: s.oldest,
		Blocked: s.blocked.why() != "", Reason: s.blocked.why(), BlockedFor: s.blocked.total(),
	}
}

// A snapshot is what the loop publishes.
type snapshot struct {
	tally   backlog.Tally
	oldest  time.Time
	blocked *blocked
}

// String returns Stats as JSON, so that a Pump is an expvar.Var.
func (p *Pump) String() string {
	b, err := json.Marshal(p.Stats())
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return string(b)
}

// Stats is a snapshot of a pump's counts. In each one,
//
//	Received + Resumed == Delivered + InMemory + OnDisk + Lost
type Stats struct {
	Received  uint64 // items received from in
	Delivered uint64 // items sent to out
	InMemory  uint64 // items waiting in memory
	OnDisk    uint64 // items waiting in the log, of which the last may still be in memory
	Lost      uint64 // items lost to corruption on disk, or to a stop without Resume
	Resumed   uint64 // items found at the start, including any that turn out to be lost
	Unacked   uint64 // items delivered and not yet acknowledged, with ManualAck

	MemoryBytes int64 // of the items waiting in memory
	DiskBytes   int64 // of the backlog's files
	Segments    int   // number of these files

	Spilled   uint64 // items that ever waited in the log alone
	HighWater uint64 // most items that ever waited

	// Oldest is when the oldest waiting item was received; zero if none waits.
	// It is exact to 10 ms in memory and to 1 % of its age on disk. For an item
	// found at the start it is when its segment was last written.
	Oldest time.Time

	Blocked    bool          // not receiving: at a limit, or because the disk refuses
	Reason     string        // why, and what to do about it; empty unless Blocked
	BlockedFor time.Duration // in total, since the start
}

const (
	sayAgain   = time.Minute // before the same reason for not receiving is logged again
	maxReasons = 16          // of which that is remembered
)

// A blocked says whether, and for how long, the pump has not been receiving. It
// does not change.
type blocked struct {
	reason string        // why; empty while it is receiving
	since  time.Time     // with a reason
	before time.Duration // in all, before that
}

// total returns how long the pump has not been receiving. A nil b never was.
func (b *blocked) total() time.Duration {
	switch {
	case b == nil:
		return 0
	case b.reason == "":
		return b.before
	}
	return b.before + time.Since(b.since)
}

func (b *blocked) why() string {
	if b == nil {
		return ""
	}
	return b.reason
}

// A stall is the loop's view of whether the pump is receiving, and of what was
// logged of that.
type stall struct {
	now  *blocked             // nil: never was
	told map[string]time.Time // when each kind of reason was last logged
	open bool                 // the log's last word is that the pump is not receiving
}

// set notes why the pump is not receiving now; nil: it is, or is only waiting
// for a disk that is slower than the producer. A pump that has stopped
// receiving says no more about that.
func (s *stall) set(opts *config, err error, stopped bool) {
	if err == nil && s.now.why() == "" {
		return
	}
	kind, reason := opts.explain(err)
	if reason == s.now.why() {
		return
	}

	now := time.Now()
	next := &blocked{reason: reason, since: now, before: s.now.total()}
	if reason != "" && s.now.why() != "" { // it goes on for another reason
		next.since, next.before = s.now.since, s.now.before
	}
	s.now = next
	if stopped {
		return
	}

	level := slog.LevelWarn
	if errors.As(err, new(*backlog.ParkedError)) {
		level = slog.LevelError // more time will not help
	}
	s.tell(opts.logger, level, kind, now)
}

// tell logs the change, unless it is one of many.
func (s *stall) tell(logger *slog.Logger, level slog.Level, kind string, now time.Time) {
	reason := s.now.reason
	if reason == "" {
		if s.open {
			logger.Info("hopper: receiving again")
		}
		s.open = false
		return
	}

	if last, told := s.told[kind]; told && now.Sub(last) < sayAgain {
		return
	}
	if s.told == nil || len(s.told) >= maxReasons {
		s.told = make(map[string]time.Time)
	}
	s.told[kind], s.open = now, true
	logger.Log(context.Background(), level,
		"hopper: not receiving, still delivering", "reason", reason)
}
