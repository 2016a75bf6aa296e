package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"

	"example.com/hopper/spill"
)

// Defaults, in bytes.
const (
	DefaultSegmentSize = 16 << 20
	DefaultKeepFree    = 256 << 20
)

// minSegmentSize is the least that a small file system makes of the size of a
// segment.
const minSegmentSize = 64 << 10

var (
	// ErrMaxBytes says that the segments are as large as they may be. It
	// matches [spill.ErrFull].
	ErrMaxBytes = fmt.Errorf("%w: the segments are as large as they may be", spill.ErrFull)

	// ErrKeepFree says that what is free on the file system is to be left to
	// others. It matches [spill.ErrFull].
	ErrKeepFree = fmt.Errorf("%w: the rest of the file system is left to others", spill.ErrFull)
)

var (
	errTemporary = errors.New("spill: no items can be left in a temporary directory: name another")
	errNotOpen   = errors.New("spill: the store is not open")
)

// Config says where and how a Store keeps its segments.
type Config struct {
	// Dir is the directory, made if need be. It must be the store's own. If it
	// is empty the store makes a private one under [os.TempDir] at the first
	// Append and removes it when it is done; nothing can be left in that.
	Dir string

	// SegmentSize is the size in bytes at which a segment is sealed and the
	// next one begins. If it is 0 or less it is DefaultSegmentSize, or a
	// quarter of MaxBytes or a sixteenth of the file system where that is less.
	SegmentSize int64

	// MaxBytes limits the size of all segments together, in bytes: 0 refuses
	// everything. If it is negative there is no limit.
	MaxBytes int64

	// KeepFree is the space of the file system that is left to others, in
	// bytes. If it is 0 there is no such space. If it is negative it is
	// DefaultKeepFree, or a twentieth of the file system where that is less.
	KeepFree int64

	// Budget is shared with other stores; nil: there is none. Where SegmentSize
	// is open it is at most an eighth of the store's part then.
	Budget *Budget

	// Logger gets what no error can say; nil: nobody does.
	Logger *slog.Logger
}

// A Store keeps batches in a directory of segment files. It implements
// [spill.Store].
type Store struct {
	cfg    Config
	phase  atomic.Int32
	usage  usage
	notify atomic.Pointer[func()]

	dir    directory
	index  index
	writer writer
	trash  trash
	reader reader
}

var _ spill.Store = (*Store)(nil)

// The phases of a store.
const (
	unopened = iota
	inUse
	ended
)

// usage is what a store takes. All of it may be read at any time.
type usage struct {
	bytes    atomic.Int64
	segments atomic.Int64
	account  *account // the same bytes, in the budget; nil: there is none
}

func (u *usage) add(s *segment) {
	u.grow(s.disk)
	u.segments.Add(1)
}

func (u *usage) drop(s *segment) {
	u.grow(-s.disk)
	u.segments.Add(-1)
}

func (u *usage) grow(n int64) {
	u.bytes.Add(n)
	u.account.add(n)
}

// New returns a Store that is yet to be opened. It does nothing else.
func New(cfg Config) *Store { return newStore(cfg, osFS{}) }

func newStore(cfg Config, fs fsys) *Store {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}

	s := &Store{cfg: cfg}
	s.dir = directory{fs: fs, log: cfg.Logger, temporary: cfg.Dir == ""}
	s.trash = trash{dir: &s.dir, index: &s.index, usage: &s.usage}
	s.reader = reader{fs: fs, index: &s.index}
	s.writer = writer{
		log: cfg.Logger, dir: &s.dir, index: &s.index, trash: &s.trash, usage: &s.usage,
		version: version1,
		limits:  limits{segment: cfg.SegmentSize, max: cfg.MaxBytes, keepFree: cfg.KeepFree},
	}
	s.index.set(nil, nil)
	s.trash.noteDue()
	return s
}

// Open implements [spill.Store]. It makes and locks the directory and finds
// what an earlier store has left in it; of a temporary directory there is
// nothing yet. A Store can be opened once; one whose Open has failed, again.
func (s *Store) Open(_ context.Context, label string, keep bool) (found spill.Range, err error) {
	if !s.phase.CompareAndSwap(unopened, inUse) {
		return found, fmt.Errorf("%w: a store can be opened once: make another", spill.ErrLocked)
	}
	s.usage.account = s.cfg.Budget.join(s.roomAgain)
	if found, err = s.open(label, keep); err != nil {
		s.usage.account.leave()
		s.phase.Store(unopened)
	}
	return found, err
}

// NotifyRoom has f called when the budget that has refused something may have
// room for it now. f is called by whichever store has made the room, and must
// not block.
func (s *Store) NotifyRoom(f func()) { s.notify.Store(&f) }

func (s *Store) roomAgain() {
	if f := s.notify.Load(); f != nil {
		(*f)()
	}
}

func (s *Store) open(label string, keep bool) (found spill.Range, err error) {
	switch {
	case len(label) > maxLabel:
		return found, fmt.Errorf("spill: a label of %d bytes is too long: shorten it to %d",
			len(label), maxLabel)
	case keep && s.dir.temporary:
		return found, errTemporary
	}

	s.writer.label, s.writer.kept, s.dir.durable = label, keep, keep
	if s.dir.temporary {
		return found, nil
	}
	if err := s.dir.open(s.cfg.Dir); err != nil {
		return found, err
	}
	if found, err = s.recover(label, keep); err != nil {
		s.dir.giveUp()
	}
	return found, err
}

// Append implements [spill.Store]. It writes each batch to the active segment,
// with one write or, where it has several chunks, one for each.
func (s *Store) Append(ctx context.Context, batches []*spill.Batch) (stored int, err error) {
	if s.phase.Load() != inUse {
		return 0, errNotOpen
	}
	return s.writer.append(ctx, batches)
}

// Read implements [spill.Store]. It reads once from one segment.
func (s *Store) Read(
	_ context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	if s.phase.Load() != inUse {
		return spill.Extent{}, errNotOpen
	}
	return s.reader.read(seq, from, buf)
}

// Trim implements [spill.Store]. It deletes the segments that hold no other
// items, the active one included, and a temporary directory with the last one.
func (s *Store) Trim(_ context.Context, acked uint64) error {
	if s.phase.Load() != inUse {
		return errNotOpen
	}
	err := s.trim(acked)
	if s.dir.temporary && err == nil && s.usage.segments.Load() == 0 {
		err = s.dir.close(true)
	}
	return err
}

func (s *Store) trim(acked uint64) error {
	s.writer.acked = acked
	gone := s.index.cut(acked)
	if a := s.writer.active; a != nil && a.end <= acked {
		s.writer.detach()
	}
	s.reader.letGo(gone)

	s.trash.doom(gone...)
	return s.trash.empty()
}

// Sync implements [spill.Store]. It writes a cursor to the active segment, or
// begins one with it, where the segments hold items below acked, and syncs what
// is yet to be.
func (s *Store) Sync(_ context.Context, acked uint64) error {
	if s.phase.Load() != inUse {
		return errNotOpen
	}
	if !s.writer.kept {
		return nil
	}
	return s.sync(acked)
}

// Lift implements [spill.Store].
func (s *Store) Lift() {
	s.writer.limits.max, s.writer.limits.keepFree = -1, 0
	s.usage.account.lift()
}

// Usage implements [spill.Store].
func (s *Store) Usage() spill.Usage {
	return spill.Usage{
		Bytes:    s.usage.bytes.Load(),
		Limit:    max(s.cfg.MaxBytes, -1),
		Segments: int(s.usage.segments.Load()),
		TrimAt:   min(s.index.oldest.Load(), s.trash.due.Load()),
	}
}

// Close implements [spill.Store]. What is left is sealed and synced, also what
// a killed predecessor has left; a receipt makes the next store begin at the
// very item, and notice if anything is gone by then.
func (s *Store) Close(_ context.Context, keep bool, next, end uint64) error {
	if !s.phase.CompareAndSwap(inUse, ended) {
		return errNotOpen
	}
	defer s.usage.account.leave()
	s.reader.close()
	if s.dir.path == "" { // a temporary one that is not there
		return nil
	}

	var errs error
	if keep && !s.dir.temporary {
		s.writer.seal()
		errs = s.leave(next, end)
	} else {
		errs = s.deleteAll()
	}
	return errors.Join(errs, s.dir.close(len(s.trash.doomed) == 0))
}

func (s *Store) deleteAll() error {
	errs := s.trim(never)
	if s.trash.receipt != nil {
		errs = errors.Join(errs, s.trash.removeReceipt())
	}
	return errs
}

// leave makes durable what is left from next on, and vouches for it, or for
// nothing where items are missing or it can't tell.
func (s *Store) leave(next, end uint64) error {
	errs := s.trim(next)
	if err := s.missing(next); err != nil {
		errs, end = errors.Join(errs, err), next
	}
	for _, seg := range s.index.all() {
		errs = errors.Join(errs, s.secure(seg))
	}

	left := receipt{next, max(next, min(end, s.index.reach(next)))}
	switch {
	case s.index.count(next) > 0 || len(s.trash.doomed) > 0:
		if err := s.trash.writeReceipt(left); err != nil {
			err = fmt.Errorf("write receipt: some items will come twice: %w", err)
			errs = errors.Join(errs, err)
		}
	case s.trash.receipt != nil:
		errs = errors.Join(errs, s.trash.removeReceipt())
	}
	return errs
}

// missing takes segments whose files are gone out of the index, and reports the
// items from next on that have gone with them.
func (s *Store) missing(next uint64) error {
	names, err := s.dir.list()
	all := errors.Is(err, fs.ErrNotExist)
	if err != nil && !all {
		return explain(fmt.Errorf("look for the segments: %w", err))
	}

	before := s.index.count(next)
	oldest, _ := s.index.find(next)
	var path string
	var first uint64
	for _, seg := range slices.Backward(s.index.all()) {
		if _, ok := slices.BinarySearch(names, filepath.Base(seg.path)); !ok {
			s.index.remove(seg)
			s.usage.drop(seg)
			path, first = seg.path, seg.first
		}
	}
	if all { // and nobody can tell of earlier losses any more
		s.index.set(nil, nil)
		path, first = s.dir.path, oldest.first
	}

	if gone := before - s.index.count(next); gone > 0 {
		return goneError{&spill.CorruptError{
			Path: path, First: max(first, next), Items: gone, Err: errGone,
		}}
	}
	return nil
}

var errGone = fmt.Errorf("removed by another program: %w", fs.ErrNotExist)

// A goneError says that segments are gone. Those that are left may stand
// between them, so that it does not tell the number of the last item.
type goneError struct{ lost *spill.CorruptError }

func (e goneError) Error() string {
	return fmt.Sprintf("spill: %s is gone, %d items from %d on are lost: "+
		"let no other program remove files there", e.lost.Path, e.lost.Items, e.lost.First)
}

func (e goneError) Unwrap() error { return e.lost }

// secure syncs a segment that is yet to be, and reports whether one can't be
// relied on.
func (s *Store) secure(seg *segment) error {
	if !seg.loose || s.index.retained(seg) {
		return seg.unsafe
	}
	if err := s.dir.fs.Sync(seg.path); err != nil {
		return unsafeError(seg, err)
	}
	return nil
}
