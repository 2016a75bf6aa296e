package jetstream

import (
	"context"
	"errors"
	"math"
	"slices"

	"example.com/hopper/spill"
)

// Close implements [spill.Store]. What is left stays in the stream, and the
// lease says what that is, and that nobody has it.
func (s *store) Close(ctx context.Context, keep bool, next, end uint64) error {
	if !s.phase.CompareAndSwap(inUse, ended) {
		return errNotOpen
	}
	s.halt()
	s.renewing.Wait()

	err := s.leave(ctx, keep, next, end)
	if err != nil && !s.over.Load() {
		s.lease.abandon()
	}
	s.fetched.drop()
	s.api.w.close(ctx)
	return err
}

func (s *store) leave(ctx context.Context, keep bool, next, end uint64) error {
	if s.over.Load() {
		return s.taken()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.unsure { // what may have been stored after all is left too, or deleted
		if err := s.resolve(ctx); err != nil && s.over.Load() {
			return s.note(err)
		}
	}

	return s.note(insist(ctx, untilEnd, func() error {
		if keep {
			return s.leaveItems(ctx, next, end)
		}
		return s.leaveNothing(ctx)
	}))
}

// untilEnd is for what is tried until its context ends.
const untilEnd = math.MaxInt64

// leaveNothing deletes everything.
func (s *store) leaveNothing(ctx context.Context) error {
	if err := s.prove(ctx); err != nil {
		return err
	}
	if err := s.wipe(ctx); err != nil {
		return err
	}
	return s.lease.save(ctx, func(r *record) {
		*r = record{Version: r.Version, Epoch: r.Epoch, Writes: r.Writes, TTL: r.TTL, Clean: true}
	})
}

// leaveItems leaves the items from next up to end, and vouches for them.
func (s *store) leaveItems(ctx context.Context, next, end uint64) error {
	lost := s.missing(ctx, next)
	s.acked.Store(max(s.acked.Load(), next))
	exact := next < end && lost == nil
	if exact {
		s.index.cut(end)
	}

	err := s.lease.save(ctx, func(r *record) {
		r.Holder, r.Clean, r.Exact = "", true, exact
		r.Next = next
		r.End, r.Skipped = s.index.vouch(next)
		if exact && r.End != end && len(r.Skipped) < maxSkipped {
			r.Skipped = append(r.Skipped, span{r.End, end})
		}
		if exact {
			r.End = end
		}
	})
	if err != nil {
		return errors.Join(lost, err)
	}

	n, until := s.index.doneUntil(next, s.last)
	if n > 0 && s.api.purge(ctx, until) == nil { // else the next store does it
		s.index.drop(n, next)
	}
	return lost
}

// missing returns a [*spill.CorruptError] if messages with items from next on
// are no longer in the stream, and forgets these.
func (s *store) missing(ctx context.Context, next uint64) error {
	i, err := s.api.info(ctx, s.cfg.StreamName, true)
	if err != nil {
		return nil // saving the lease will tell
	}

	st := i.State
	slices.Sort(st.Deleted)
	first, items := s.index.missing(next, func(m *message) bool {
		if m.lost != nil || m.seq < st.FirstSeq || m.behind() > st.LastSeq+1 {
			return true
		}
		at, _ := slices.BinarySearch(st.Deleted, m.seq)
		return at < len(st.Deleted) && st.Deleted[at] < m.behind()
	})
	if items == 0 {
		return nil
	}
	return &spill.CorruptError{
		Path: s.path(), First: first, Items: items, Err: errMissing,
	}
}
