package spill

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	reserve   = 128 << 10 // bytes of runs that stay in memory for the reader
	writeSize = 256 << 10 // from here on the others are written, several at a time
	memHigh   = 320 << 10 // from here on whoever appends is faster than the log
	memLimit  = 512 << 10 // from here on Room is false

	// The same of a journal. Its oldest run may be done but for the last item.
	journalSize  = 512<<10 + maxBuf
	journalHigh  = 672 << 10
	journalLimit = 768 << 10

	readyLimit = 256 << 10 // bytes of runs read ahead

	maxPacked  = 4         // runs packed ahead of the store
	plainLimit = 256 << 20 // bytes in the store, up to which chunks may be uncompressed
	plainRun   = 256       // so many in a row, some 16 MiB

	retryMin  = 10 * time.Millisecond // until the store is asked again after an error
	retryMax  = time.Second
	restAfter = 700 * time.Millisecond // a log that nobody has used between two ticks is at rest
)

// Config says where a Log keeps its items.
type Config struct {
	Store  Store
	Label  string       // names the kind of the items
	Keep   bool         // deliver what the store holds, and leave in it what remains
	Logger *slog.Logger // faults; nil: discard

	// Journal says that most items will be done while they are still in memory:
	// up to 512 KiB of those that are not stay there, unless SyncLater asks for
	// them to be stored.
	Journal bool

	// Wake, of capacity 1, gets a value when what Next, Room, Refusal, RestDue
	// or Synced returns may have changed.
	Wake chan<- struct{}
}

// A Log is a first-in, first-out log of numbered byte items: in memory while it
// is short, in a [Store] while it is long. Its methods never wait for the
// store, except Finish, Close and, after Finish, Commit. Goroutines of its own
// do, which run only while there is work for them.
//
// Usage, Err and Retry are safe for concurrent use. All other methods belong to
// one goroutine, the log's user.
type Log struct {
	cfg     Config
	tag     uint32 // checksum of the label
	store   Store
	limited bool // the store's limit holds for what is in memory too
	marks   marks

	appender appender // of the user's goroutine

	pending atomic.Int64 // bytes of mem
	restDue atomic.Bool
	over    atomic.Pointer[error] // why it has ended by itself; nil: it has not

	mu      sync.Mutex // held for moments, never while the store is called
	mem     []*pending // sealed and not yet stored or done, oldest first
	ready   []*loaded  // read ahead, oldest first
	cursor  *Cursor    // that the user has, or nil
	acked   uint64     // the items below are done
	read    uint64     // next to be read ahead or handed out; below: in ready, handed out, done
	written uint64     // below, all is stored or done

	packing packingState
	writer  writerState
	syncing syncState
	reading readingState
	ending  *ending // not nil: nothing is read any more, all of mem is written

	settle  bool // all of mem is to be written, though it is little
	resting bool // the goroutines are to end when there is nothing to do
	ticking bool // a tick is to come
	used    bool // whether the log has been used since the last one

	ctx        context.Context // of the calls of the store
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
}

// Open opens the store and returns a log of what it holds. The errors are those
// of [Store.Open].
func Open(ctx context.Context, cfg Config) (*Log, Range, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := cfg.Store.Open(ctx, cfg.Label, cfg.Keep)
	if err != nil {
		return nil, r, err
	}

	l := &Log{
		cfg: cfg, tag: Checksum([]byte(cfg.Label)), store: cfg.Store,
		acked: r.Next, read: r.Next, written: r.End, marks: cfg.marks(),
		resting: true,
	}
	l.syncing.opened(r)
	l.appender.end = r.End
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.reading.r = reader{store: l.store, tag: l.tag}
	l.packing.init(l, maxPackers, l.packDueLocked, l.pack)
	l.writer.init(l, 1, l.writeDueLocked, l.write)
	l.reading.init(l, 1, l.readDueLocked, l.readAhead)
	l.limited = cfg.Keep && l.store.Usage().Limit >= 0
	l.writer.untrimmed = true // Open may not have been able to delete everything
	return l, r, nil
}

// marks say what is done once so many bytes of runs are in memory.
type marks struct {
	write int64 // runs are written
	high  int64 // whoever appends is faster than the log
	limit int64 // Room is false
}

func (c Config) marks() marks {
	if c.Journal {
		return marks{journalSize, journalHigh, journalLimit}
	}
	return marks{writeSize, memHigh, memLimit}
}

// Room reports whether the log takes another item, of any size. held is the
// number of bytes that the caller would have to append as well if it stopped
// now: where items are to be kept, the store's limit holds for these too.
func (l *Log) Room(held int64) bool {
	return l.pending.Load() < l.marks.limit && (!l.limited || l.affords(held))
}

// affords reports whether everything that is kept would fit into the store.
func (l *Log) affords(held int64) bool {
	u := l.store.Usage()
	if u.Limit < 0 {
		return true
	}

	n := u.Bytes + l.pending.Load() + held + overhead
	if t := l.appender.tail; t != nil {
		n += int64(len(t.buf))
	}
	return n <= u.Limit
}

// overhead bounds what the headers and footers of the last segments add.
const overhead = 4 << 10

// Refusal returns why Room is false or a sync fails, or nil if that is only
// because the store is slower than the caller. The error matches [ErrFull] if
// the store has reached its limit, and [ErrHung] if it has not answered for
// some time.
func (l *Log) Refusal(held int64) error {
	if l.limited && !l.affords(held) {
		return ErrFull
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hungLocked() {
		return ErrHung
	}
	if err := l.writer.refusal; err != nil {
		return err
	}
	return l.syncing.refusal
}

// Err returns why the log has come to an end by itself, or nil. The error
// matches [ErrLocked]: another log has taken the store over, and nothing can be
// stored or read any more. What is left to do is to call Close, which counts
// what is lost. Wake gets a value when it changes.
func (l *Log) Err() error {
	if why := l.over.Load(); why != nil {
		return *why
	}
	return nil
}

// endBy notes that the store can't be used any more, if err says so.
func (l *Log) endBy(err error) {
	if errors.Is(err, ErrLocked) && l.over.CompareAndSwap(nil, &err) {
		l.wake()
	}
}

// Usage returns the space that the store takes. It never blocks.
func (l *Log) Usage() Usage { return l.store.Usage() }

// newPending returns an empty run that begins with the item seq.
func (l *Log) newPending(seq uint64) *pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usedLocked()

	return &pending{run: run{first: seq, buf: getBuffer()[:framesAt]}, users: 1}
}

// handOver passes a full run on, to be written if it is not read before. While
// the log is ending it waits until there is room.
func (l *Log) handOver(p *pending) {
	l.mu.Lock()
	l.handOverLocked(p)
	e := l.ending
	full := l.pending.Load() >= l.marks.limit
	l.mu.Unlock()

	if full && e != nil {
		e.waitForRoom(l)
	}
}

func (l *Log) handOverLocked(p *pending) {
	l.usedLocked()
	if p.items == 0 { // all that was in it is done
		l.unrefLocked(p)
		return
	}

	p.state = sealed
	l.mem = append(l.mem, p)
	l.pending.Add(int64(len(p.buf)))
	l.dropLocked()
	l.callPackerLocked()
	l.writer.callLocked()
}

// Next returns the oldest items from the number from on that have not been
// handed out yet, or the report that the oldest are lost, or, with no Items, of
// damage, here or further on, that has cost none. The cursor that was returned
// before is given back. If both are nil there are no items at hand: Wake gets a
// value when there may be.
//
// The items below from are not wanted any more: they were delivered, or the
// caller has them. Those below acked are done, as [Log.Ack] says; the others
// stay in the log. acked must not exceed from.
func (l *Log) Next(from, acked uint64) (*Cursor, *CorruptError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usedLocked()
	l.giveBackLocked()
	l.ackLocked(acked)
	l.passLocked(from)

	if t := l.appender.tail; t != nil && t.end() > l.read && l.caughtUpLocked() {
		l.appender.tail = nil
		l.handOverLocked(t)
	}
	if len(l.ready) > 0 {
		return l.takeReadyLocked()
	}
	if l.read < l.written {
		l.readLocked(max(l.reading.limit, 1)) // not less than before: it is the store that is slow
		return nil, nil
	}
	for _, p := range l.mem {
		if p.end() > l.read {
			p.users++
			l.cursor = p.cursor(l.read)
			l.read = p.end()
			return l.cursor, nil
		}
	}
	return nil, nil
}

// passLocked drops what was read ahead of the items below from. Losses among
// them are not told, but damage that has cost no item is.
func (l *Log) passLocked(from uint64) {
	l.read = max(l.read, from)
	for len(l.ready) > 0 {
		r := l.ready[0]
		switch {
		case r.lost != nil && r.lost.clip(from):
			return
		case r.lost == nil && r.end() > from:
			r.next = max(r.next, from)
			return
		}

		putBuffer(r.buf)
		l.ready = slices.Delete(l.ready, 0, 1)
	}
}

// caughtUpLocked reports whether all that was handed over has been handed out,
// so that only the tail is left.
func (l *Log) caughtUpLocked() bool {
	return len(l.ready) == 0 && l.read >= l.written &&
		(len(l.mem) == 0 || l.mem[len(l.mem)-1].end() <= l.read)
}

func (l *Log) takeReadyLocked() (*Cursor, *CorruptError) {
	r := l.ready[0]
	l.ready = slices.Delete(l.ready, 0, 1)
	l.readLocked(readyLimit)

	if r.lost != nil {
		return nil, r.lost
	}
	l.cursor = r.cursor()
	return l.cursor, nil
}

// Ack says that all items below seq are done: they need not be kept any more. A
// cursor that is used up is given back. It must not come between Begin and
// Commit.
func (l *Log) Ack(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cursor != nil && l.cursor.Left == 0 {
		l.giveBackLocked()
	}
	l.ackLocked(seq)
}

func (l *Log) ackLocked(seq uint64) {
	if seq <= l.acked {
		return
	}
	l.acked = seq
	l.read = max(l.read, seq)
	l.appender.done(seq)
	l.dropLocked()
	l.settledLocked()
	l.writer.callLocked()
}

// settledLocked notes that a log at rest has nothing left to write.
func (l *Log) settledLocked() {
	if l.settle && len(l.mem) == 0 {
		l.settle = false
		restBuffers()
	}
}

// dropLocked drops the runs that need not be written any more: they are stored,
// or all their items are done.
func (l *Log) dropLocked() {
	for len(l.mem) > 0 {
		p := l.mem[0]
		if p.state != stored && p.end() > l.acked {
			return
		}

		l.mem[0] = nil
		l.mem = l.mem[1:]
		l.written = max(l.written, p.end())
		l.forgetLocked(p)
	}
	l.mem = nil // none is left
}

// forgetLocked takes a run that has left mem out of the count.
func (l *Log) forgetLocked(p *pending) {
	n := int64(len(p.buf))
	after := l.pending.Add(-n)
	if limit := l.marks.limit; after < limit && after+n >= limit {
		l.wake()
	}
	l.unrefLocked(p)
	l.callPackerLocked()
}

// unrefLocked gives a run's memory back once nobody uses it.
func (l *Log) unrefLocked(p *pending) {
	p.users--
	if p.users > 0 {
		return
	}
	if !p.plain {
		putBuffer(p.packed)
	}
	putBuffer(p.buf)
	p.packed, p.buf = nil, nil
}

func (l *Log) giveBackLocked() {
	c := l.cursor
	if c == nil {
		return
	}

	l.cursor = nil
	if c.mem != nil {
		l.unrefLocked(c.mem)
	} else {
		putBuffer(c.load.buf)
	}
	c.frames, c.at, c.next = nil, 0, 0
}

func (l *Log) wake() { poke(l.cfg.Wake) }

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// usedLocked notes that the log is in use, so that it is not at rest for a
// while.
func (l *Log) usedLocked() {
	l.used, l.resting = true, false
	if !l.ticking && l.ending == nil {
		l.ticking = true
		time.AfterFunc(restAfter, l.tick)
	}
}

func (l *Log) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.ticking = false
	switch hung := l.hungLocked(); {
	case l.used:
		l.usedLocked() // look again
		l.used = false
	case hung:
		l.usedLocked() // see Refusal; look again
		l.used = false
		l.wake()
	default:
		l.restDue.Store(true)
		l.wake()
	}
}

// RestDue reports whether the log has been out of use for so long that its user
// should call Rest.
func (l *Log) RestDue() bool { return l.restDue.Load() }

// Rest makes the log take next to no memory until it is used again: what is in
// memory is written, and what was handed out or read ahead is forgotten from
// the item from on, at which the caller goes on with the next Next: its items
// are returned again. A journal writes nothing if no item from there on waits,
// and keeps in memory what is not done. Rest reports false, and leaves
// everything as it is, if the store is just being read.
func (l *Log) Rest(from uint64) bool {
	l.restDue.Store(false)
	idle := l.cfg.Journal && from >= l.appender.end
	if !idle {
		l.sealTail()
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading.busy > 0 { // the store does not answer
		l.usedLocked()
		return false
	}

	l.dropEmptyTailLocked()
	l.unreadLocked(from)
	l.used = false
	l.resting = true
	l.sendHomeLocked()
	if idle {
		return true
	}
	l.settle = len(l.mem) > 0
	l.writer.callLocked()
	return true
}

// sendHomeLocked has the goroutines end that have nothing to do.
func (l *Log) sendHomeLocked() {
	l.packing.sendHomeLocked()
	l.writer.sendHomeLocked()
	l.reading.sendHomeLocked()
}

// dropEmptyTailLocked gives up the memory of a tail whose items are all done.
func (l *Log) dropEmptyTailLocked() {
	if t := l.appender.tail; t != nil && t.items == 0 {
		l.appender.tail = nil
		l.unrefLocked(t)
	}
}
