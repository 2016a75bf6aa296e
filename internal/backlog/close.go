package backlog

import (
	"context"
	"errors"
)

// An End says what has become of the items of a backlog that was closed.
type End struct {
	Kept uint64 // they are in the store, for the next start
	Lost uint64
	Err  error // what else went wrong, or why they are lost
}

// Finish begins the end of a backlog with Keep: what is pushed from here on may
// exceed all limits. Push waits for the store then, until ctx ends.
func (b *Backlog[T]) Finish(ctx context.Context) {
	if b.cfg.Keep {
		b.log.Finish(ctx)
	}
}

// Drop says that n more items were received that are lost with all the others,
// since this backlog is not kept.
func (b *Backlog[T]) Drop(n int) {
	b.tally.Received += uint64(n)
	b.tally.Lost += uint64(n)
	b.dropped += uint64(n)
	b.end += uint64(n)
}

// Close ends the backlog. With Keep, what waits is left in the log's store;
// without, it is lost, and the store is emptied. Close waits for the store until
// ctx ends.
func (b *Backlog[T]) Close(ctx context.Context) End {
	waiting := b.Len()
	e := End{Lost: waiting}
	if b.cfg.Keep {
		e.Lost, e.Err = b.gather(ctx)
	}
	left := b.log.Close(ctx, b.head)

	if b.cfg.Keep {
		e.Lost = min(e.Lost+left.Unsaved, waiting)
		e.Err = errors.Join(e.Err, left.Err)
	} else if left.Err != nil {
		b.cfg.Logger.Warn("hopper: what was spilled could not be deleted", "error", left.Err)
	}
	b.tally.Lost += e.Lost
	e.Kept = waiting - e.Lost
	e.Lost += b.dropped

	b.window, b.lot, b.cursor = window[T]{}, lot[T]{}, nil
	b.logged, b.copied = e.Kept, 0
	return e
}

// gather appends to the log what only the window holds. It belongs in front of
// all else that is in the log. What can't be encoded is lost.
func (b *Backlog[T]) gather(ctx context.Context) (lost uint64, why error) {
	b.log.Finish(ctx)
	lost, why = uint64(b.lot.len()), b.lot.why
	seq := b.head + uint64(b.copied)
	b.window.items.from(b.copied, func(v *T) {
		buf, err := b.encode(b.log.Begin(seq), *v)
		if err != nil {
			b.log.Park()
			b.faults.parked(err)
			lost, why = lost+1, err
		} else {
			b.log.Commit(buf)
		}
		seq++
	})
	return lost, why
}
