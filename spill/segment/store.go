package segment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// ErrMaxBytes says that the segments are as large as they may be. It matches
	// [spill.ErrFull].
	ErrMaxBytes = fmt.Errorf("%w: the segments are as large as they may be", spill.ErrFull)

	// ErrKeepFree says that what is free on the file system is to be left to
	// others. It matches [spill.ErrFull].
	ErrKeepFree = fmt.Errorf("%w: the rest of the file system is left to others", spill.ErrFull)
)

var errTemporary = errors.New("spill: no items can be left in a temporary directory: name another")

// Config says where and how a Store keeps its segments.
type Config struct {
	// Dir is the directory, made if need be. It must be the store's own. If it
	// is empty the store makes a private one under [os.TempDir] at the first
	// Append and removes it when it is done; nothing can be left in that.
	Dir string

	// SegmentSize is the size in bytes at which a segment is sealed and the next
	// one begins. If it is 0 or less it is DefaultSegmentSize, or a quarter of
	// MaxBytes or a sixteenth of the file system where that is less.
	SegmentSize int64

	// MaxBytes limits the size of all segments together, in bytes: 0 refuses
	// everything. If it is negative there is no limit.
	MaxBytes int64

	// KeepFree is the space of the file system that is left to others, in bytes.
	// If it is 0 there is no such space. If it is negative it is
	// DefaultKeepFree, or a twentieth of the file system where that is less.
	KeepFree int64

	// Logger gets what no error can say; nil: nobody does.
	Logger *slog.Logger
}

// A Store keeps batches in a directory of segment files. It implements
// [spill.Store].
type Store struct {
	cfg   Config
	usage usage

	dir    directory
	index  index
	writer writer
	trash  trash
	reader reader
}

var _ spill.Store = (*Store)(nil)

// usage is what a store takes. All of it may be read at any time.
type usage struct {
	bytes    atomic.Int64
	segments atomic.Int64
}

// New returns a Store that is yet to be opened. It does nothing else.
func New(cfg Config) *Store { return newStore(cfg, osFS{}) }

func newStore(cfg Config, fs fsys) *Store {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}

	s := &Store{cfg: cfg}
	s.dir = directory{fs: fs, log: cfg.Logger, temporary: cfg.Dir == ""}
	s.trash = trash{fs: fs, dir: &s.dir, index: &s.index, usage: &s.usage}
	s.reader = reader{fs: fs, index: &s.index}
	s.writer = writer{
		fs: fs, log: cfg.Logger, dir: &s.dir, index: &s.index, trash: &s.trash, usage: &s.usage,
		limits: limits{segment: cfg.SegmentSize, max: cfg.MaxBytes, keepFree: cfg.KeepFree},
	}
	s.index.set(nil, nil)
	s.trash.noteDue()
	return s
}

// Open implements [spill.Store]. It makes and locks the directory and finds what
// an earlier store has left in it; of a temporary directory there is nothing yet.
func (s *Store) Open(_ context.Context, label string, keep bool) (spill.Range, error) {
	if len(label) > maxLabel {
		label = label[:maxLabel]
	}
	s.writer.label, s.writer.kept, s.dir.durable = label, keep, keep

	if s.dir.temporary {
		if keep {
			return spill.Range{}, errTemporary
		}
		return spill.Range{}, nil
	}

	if err := s.dir.open(s.cfg.Dir); err != nil {
		return spill.Range{}, err
	}
	found, err := s.recover(label, keep)
	if err != nil {
		s.dir.giveUp()
		return spill.Range{}, err
	}
	return found, nil
}

// Append implements [spill.Store]. It writes each batch to the active segment,
// with one write or, where it has several chunks, one for each.
func (s *Store) Append(ctx context.Context, batches []*spill.Batch) (stored int, err error) {
	return s.writer.append(ctx, batches)
}

// Read implements [spill.Store]. It reads once from one segment.
func (s *Store) Read(
	_ context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	return s.reader.read(seq, from, buf)
}

// Trim implements [spill.Store]. It deletes the segments that hold no other
// items, the active one included, and a temporary directory with the last one.
func (s *Store) Trim(_ context.Context, acked uint64) error {
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

// Lift implements [spill.Store].
func (s *Store) Lift() { s.writer.limits.max, s.writer.limits.keepFree = -1, 0 }

// Usage implements [spill.Store].
func (s *Store) Usage() spill.Usage {
	return spill.Usage{
		Bytes:    s.usage.bytes.Load(),
		Limit:    max(s.cfg.MaxBytes, -1),
		Segments: int(s.usage.segments.Load()),
		TrimAt:   min(s.index.oldest.Load(), s.trash.due.Load()),
	}
}

// Close implements [spill.Store]. What is left is sealed and synced, also what a
// killed predecessor has left; a receipt makes the next store begin at the very
// item, and notice if anything is gone by then.
func (s *Store) Close(_ context.Context, keep bool, next, end uint64) error {
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

// leave makes durable what is left from next on.
func (s *Store) leave(next, end uint64) error {
	errs := s.trim(next)
	for _, seg := range s.index.all() {
		errs = errors.Join(errs, s.secure(seg))
	}

	left := receipt{next, max(next, min(end, s.index.reach(next)))}
	switch {
	case next < s.writer.last || len(s.trash.doomed) > 0:
		if err := s.trash.writeReceipt(left); err != nil {
			err = fmt.Errorf("write receipt: some items will come twice: %w", err)
			errs = errors.Join(errs, err)
		}
	case s.trash.receipt != nil:
		errs = errors.Join(errs, s.trash.removeReceipt())
	}
	return errs
}

// secure syncs a segment that an earlier process has left, and reports whether
// one can't be relied on.
func (s *Store) secure(seg *segment) error {
	if !seg.loose || s.index.retained(seg) {
		return seg.unsafe
	}
	if err := s.dir.fs.Sync(seg.path); err != nil {
		return unsafeError(seg, err)
	}
	return nil
}
