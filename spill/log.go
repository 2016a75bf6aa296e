package spill

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultKeepFree is the file system space that is left free where Config.KeepFree is
// negative, in bytes; 5 % of the file system where that is less.
const DefaultKeepFree = 256 << 20

const (
	reserve    = 128 << 10 // of batches that stay in memory, for Next
	writeSize  = 256 << 10 // of these: the others are written; several at a time, since to wake a goroutine costs as much as a chunk
	memHigh    = 320 << 10 // of these: whoever appends is faster than the log
	memLimit   = 512 << 10 // of these: Room is false from there on
	readyLimit = 256 << 10 // of batches read ahead
	maxFree    = 16        // batches kept for reuse

	compressors = 2         // goroutines
	maxPacked   = 4         // batches compressed ahead of the disk
	maxPack     = 256 << 10 // bytes of such a batch; one larger item is compressed chunk by chunk as it is written
	plainLimit  = 256 << 20 // bytes of segment files; while they are smaller, chunks may be stored uncompressed
	plainRun    = 256       // of these in a row, some 16 MiB

	retryMin = 10 * time.Millisecond // after a write error
	retryMax = time.Second
)

// Config says where and how a Log keeps its items.
type Config struct {
	Dir         string          // directory of the segments, made if need be; "": a private new one, removed by Close
	MaxDisk     int64           // bytes of segment files; negative: no limit
	KeepFree    int64           // file system space never used, in bytes; negative: DefaultKeepFree, or 5 % where that is less
	SegmentSize int64           // a segment is sealed once it is as large, in bytes
	Keep        bool            // deliver what is in Dir, and let Close keep what is left
	Label       string          // names the kind of the items; a directory with another label is refused
	Wake        chan<- struct{} // of capacity 1: gets a value when Next or Room may have changed
	Logger      *slog.Logger    // faults; nil: discard

	Temporary bool // Dir was made by Open
	fs        fsys // nil: the real one
}

// A Log is a first-in, first-out log of byte items, in memory where it is short and on
// disk where it is long. Its methods never wait for the disk, except Close; goroutines of its own
// do. Usage and Blocked are safe for concurrent use, all others belong to one goroutine.
type Log struct {
	Appender

	cfg   Config
	store store

	acked   atomic.Uint64 // items below have been delivered
	pending atomic.Int64  // bytes in mem

	mu       sync.Mutex // held for moments, never over I/O
	mem      []*Batch   // handed over and not yet on disk, oldest first
	claimed  int        // so many of these, the first, are being compressed, or packed
	ready    []*Batch   // read ahead, oldest first
	spare    []*Batch   // empty batches
	chunks   [][]byte   // memory to make chunks in
	written  uint64     // the store ends here
	read     uint64     // next item to be read, or taken from mem
	eager    bool       // whether several batches are read ahead: not before the first is taken
	refusal  error      // why the disk takes nothing, nil while it does
	plain    int        // so many more batches are stored uncompressed
	closing  bool
	keep     []*Batch // to be written at the end
	left     receipt  // what is left at the end
	unsaved  uint64   // of that, what could not be written
	closeErr error

	wakeCompressor, wakeWriter, wakeReader chan struct{}

	helpers sync.WaitGroup // all goroutines but the writer
	done    chan struct{}
}

// Open makes and locks the directory and returns a Log of what it holds: items items from the
// sequence number next on. It fails with [ErrLocked], [*LabelError], [ErrVersion], [ErrNotResumed] or an error of
// the file system.
func Open(cfg Config) (l *Log, next, items uint64, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.fs == nil {
		cfg.fs = osFS{}
	}
	if len(cfg.Label) > maxLabel {
		cfg.Label = cfg.Label[:maxLabel]
	}
	if cfg.Dir != "" {
		if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
			return nil, 0, 0, err
		}
	}
	s, next, items, err := openStore(cfg, cfg.fs)
	if err != nil {
		return nil, 0, 0, err
	}
	if inMemory(s.cfg.Dir) {
		cfg.Logger.Warn("hopper: the directory is in memory (tmpfs): what is spilled there takes memory still; give one on a disk", "dir", s.cfg.Dir)
	}
	l = newLog(s.cfg, s, next)
	l.start()
	return l, next, items, nil
}

func newLog(cfg Config, s store, next uint64) *Log {
	l := &Log{
		cfg: cfg, store: s, written: s.end(), read: next,
		wakeCompressor: make(chan struct{}, 1), wakeWriter: make(chan struct{}, 1), wakeReader: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	l.acked.Store(next)
	l.Appender = Appender{full: l.handOver, next: l.spareBatch, tail: newBatch()}
	l.tail.reset(s.free())
	poke(l.wakeReader)
	poke(l.wakeWriter)
	return l
}

func (l *Log) start() {
	for range compressors {
		l.helpers.Go(l.compressLoop)
	}
	l.helpers.Go(l.readLoop)
	go l.writeLoop()
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// End returns the sequence number behind the last item, which is the least that the next one may have.
func (l *Log) End() uint64 { return l.tail.end() }

// Room reports whether the log takes another item. It always takes one, of any size, if it is
// asked for no more than that once Room is true. held is the number of bytes that the caller would want
// kept besides if it were to stop now: with Config.Keep, MaxDisk holds for them too.
func (l *Log) Room(held int64) bool {
	pending := l.pending.Load()
	if pending >= memLimit {
		return false
	}
	if !l.cfg.Keep || l.cfg.MaxDisk < 0 {
		return true
	}
	disk, _ := l.store.usage()
	return disk+pending+int64(len(l.tail.buf))+held+keepOverhead <= l.cfg.MaxDisk
}

// keepOverhead bounds what the headers and footers of the last segments add.
const keepOverhead = 4 << 10

// handOver passes a full batch on, to be written.
func (l *Log) handOver(b *Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.refs = 1
	l.mem = append(l.mem, b)
	if l.pending.Add(int64(len(b.buf))) >= writeSize {
		poke(l.wakeCompressor)
	}
}

func (l *Log) spareBatch() *Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeSpare()
}

// takeSpare wants mu.
func (l *Log) takeSpare() *Batch {
	n := len(l.spare)
	if n == 0 {
		return newBatch()
	}
	b := l.spare[n-1]
	l.spare = l.spare[:n-1]
	return b
}

// takeChunks wants mu.
func (l *Log) takeChunks() []byte {
	n := len(l.chunks)
	if n == 0 {
		return make([]byte, 0, maxChunk)
	}
	c := l.chunks[n-1]
	l.chunks = l.chunks[:n-1]
	return c[:0]
}

// Next returns the oldest batch, or nil where there is none yet: then Wake gets a value when
// there may be. Items that were appended but not written come straight from memory. The
// caller gives the batch back with Release.
func (l *Log) Next() *Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.ready) > 0:
		b := l.ready[0]
		l.ready = slices.Delete(l.ready, 0, 1)
		l.eager = true
		poke(l.wakeReader)
		return b
	case l.written > l.read: // the reader is at it
		return nil
	case len(l.mem) > 0:
		b := l.mem[0]
		l.forget()
		l.read = b.end()
		return b
	case l.tail.Items > 0:
		b := l.tail
		b.refs = 1
		l.tail = l.takeSpare()
		l.tail.reset(b.end())
		l.read = b.end()
		return b
	}
	return nil
}

// forget drops the first batch of mem: it is on disk, or the caller of Next has it. It wants mu.
func (l *Log) forget() {
	n := int64(len(l.mem[0].buf))
	after := l.pending.Add(-n)
	if after < memLimit && after+n >= memLimit {
		poke(l.cfg.Wake)
	}
	l.mem = slices.Delete(l.mem, 0, 1)
	l.claimed = max(l.claimed-1, 0)
	if l.claimable() {
		poke(l.wakeCompressor)
	}
}

// Release gives a batch back.
func (l *Log) Release(b *Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unref(b)
}

// unref wants mu. A buffer is used again only if it is of about the usual size: the codec may have put another in its place.
func (l *Log) unref(b *Batch) {
	b.refs--
	if b.refs > 0 {
		return
	}
	if !b.plain && cap(b.chunks) == maxChunk && len(l.chunks) < maxPacked {
		l.chunks = append(l.chunks, b.chunks)
	}
	b.chunks = nil
	if len(l.spare) < maxFree && cap(b.buf) >= maxBuf && cap(b.buf) <= 2*maxBuf {
		l.spare = append(l.spare, b)
	}
}

// Ack says that all items below seq have been delivered, so that their segments can go.
func (l *Log) Ack(seq uint64) {
	l.acked.Store(seq)
	if seq >= l.store.trimAt() {
		poke(l.wakeWriter)
	}
}

// Stored reports whether the item is on disk.
func (l *Log) Stored(seq uint64) bool { return l.store.has(seq) }

// Usage returns the size in bytes and the number of the segment files.
func (l *Log) Usage() (bytes int64, segments int) { return l.store.usage() }

// Blocked returns why the disk takes nothing now, or nil.
func (l *Log) Blocked() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

// Dir returns the directory of the segments.
func (l *Log) Dir() string { return l.cfg.Dir }

// errHung is the cause of an unsaved backlog where the disk did not answer in time.
var errHung = errors.New("spill: the disk does not answer: it is left to itself")

// Close ends the log. With Config.Keep it makes durable what has not been delivered: the items from
// next on, of which keep holds those that the log has handed out or never had. unsaved is the number
// of them that could not be written. Without, it deletes everything. It waits for the disk until
// ctx ends; a disk that hangs longer is left to the log's goroutines, which end when it answers.
func (l *Log) Close(ctx context.Context, next uint64, keep *Keep) (unsaved uint64, err error) {
	l.mu.Lock()
	l.closing = true
	if l.tail.Items > 0 {
		l.tail.refs = 1
		l.mem = append(l.mem, l.tail)
	}
	if keep != nil {
		l.keep, l.unsaved = keep.done(), keep.skipped
	}
	l.left = receipt{next, max(next, l.tail.end())}
	for _, b := range l.keep {
		l.left.end = max(l.left.end, b.end())
	}
	inMemory := l.unsaved + count(l.mem) + count(l.keep)
	l.mu.Unlock()
	l.acked.Store(next)
	poke(l.wakeCompressor)
	poke(l.wakeWriter)
	poke(l.wakeReader)
	select {
	case <-l.done:
		return l.unsaved, l.closeErr
	case <-ctx.Done():
		return inMemory, errHung
	}
}

func count(bs []*Batch) (items uint64) {
	for _, b := range bs {
		items += uint64(b.Items)
	}
	return items
}
