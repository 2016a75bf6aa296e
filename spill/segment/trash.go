package segment

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
)

// trash removes files that are not wanted any more. It belongs to the goroutine
// that changes the store.
type trash struct {
	dir   *directory
	index *index
	usage *usage

	doomed  []*segment // could not be removed yet
	receipt *receipt   // the one on disk, which vouches for the oldest segments, or nil

	due atomic.Uint64 // end of a doomed segment; never if there is none
}

// discard deletes a segment's file, or leaves it for the next time. One that
// could not be read stays, with a mark that tells later stores to leave it
// alone, but not in a temporary directory, which nobody looks into again.
func (t *trash) discard(s *segment) error {
	var err error
	if t.index.retained(s) && !t.dir.temporary {
		err = t.dir.mark(retainedName(s.path))
	} else {
		err = t.dir.remove(s.path)
	}
	if err != nil {
		t.doom(s)
		return err
	}

	t.usage.drop(s)
	return nil
}

// doom notes segments that are to be deleted.
func (t *trash) doom(segments ...*segment) {
	t.doomed = append(t.doomed, segments...)
	t.noteDue()
}

func (t *trash) noteDue() {
	due := never
	for _, s := range t.doomed {
		due = min(due, s.end)
	}
	t.due.Store(due)
}

// empty deletes all that is doomed.
func (t *trash) empty() error {
	dead := t.doomed
	if len(dead) == 0 {
		return nil
	}
	if err := t.dropReceipt(dead); err != nil {
		return err
	}

	last := t.holder(dead)
	t.doomed = nil
	var errs error
	for _, s := range dead {
		if s != last {
			errs = errors.Join(errs, t.discard(s))
		}
	}
	errs = errors.Join(errs, t.dir.sync())
	switch {
	case last == nil:
	case errs != nil:
		t.doom(last)
	default:
		errs = errors.Join(t.discard(last), t.dir.sync())
	}
	t.noteDue()
	return errs
}

// holder returns the segment that must be removed last, for good, since nothing
// but its cursor says that items of the others are done, should a power cut
// bring them back. It is nil if there is none.
func (t *trash) holder(dead []*segment) *segment {
	last := slices.MaxFunc(dead, compareAcked)
	if last.acked == 0 || last.version == version1 || len(dead) == 1 {
		return nil
	}
	covered := func(s *segment) bool { return s.acked >= last.acked && (s.synced > 0 || !s.loose) }
	if slices.ContainsFunc(t.index.all(), covered) {
		return nil
	}
	return last
}

func compareAcked(a, b *segment) int { return cmp.Compare(a.acked, b.acked) }

// dropReceipt removes the receipt if it vouches for one of the segments that
// are to go. That is made durable first, so that it never vouches for what is
// no longer there.
func (t *trash) dropReceipt(dead []*segment) error {
	r := t.receipt
	vouches := func(s *segment) bool { return r.covers(s.first, s.end) }
	if r == nil || !slices.ContainsFunc(dead, vouches) {
		return nil
	}
	return t.removeReceipt()
}

// useReceipt takes over the receipt that was found, if there is one, and marks
// it as opened.
func (t *trash) useReceipt(r *receipt) error {
	t.receipt = r
	if r == nil {
		return nil
	}
	return t.dir.mark(r.openedName())
}

// removeReceipt removes the receipt, and then its mark: without the mark it
// would vouch for a clean stop.
func (t *trash) removeReceipt() error {
	for _, name := range []string{t.receipt.name(), t.receipt.openedName()} {
		err := t.dir.remove(t.dir.join(name))
		if err == nil {
			err = t.dir.sync()
		}
		if err != nil {
			return err
		}
	}
	t.receipt = nil
	return nil
}

// writeReceipt puts r in the place of the receipt that is there.
func (t *trash) writeReceipt(r receipt) error {
	old := t.receipt
	if old != nil && *old == r {
		return errors.Join(t.dir.remove(t.dir.join(r.openedName())), t.dir.sync())
	}
	if err := t.dir.mark(r.name()); err != nil {
		return err
	}

	var err error
	if old != nil {
		err = t.removeReceipt()
	}
	t.receipt = &r
	return err
}
