package backlog

import (
	"context"
	"errors"
)

// An End says what has become of the items of a backlog that was closed.
type End struct {
	Kept Undelivered // they are in the store, for the next start
	Lost Undelivered
	Err  error // what else went wrong, or why they are lost
}

// Undelivered counts the items that are not done at the end.
type Undelivered struct {
	Waiting uint64 // that were never delivered
	Unacked uint64 // that were delivered and not acknowledged
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

// Close ends the backlog. With Keep, what is not done is left in the log's
// store; without, it is lost, and the store is emptied. Close waits for the
// store until ctx ends.
func (b *Backlog[T]) Close(ctx context.Context) End {
	all := Undelivered{Waiting: b.Len(), Unacked: b.Unacked()}
	e := End{Lost: all}
	if b.cfg.Keep {
		e.Lost, e.Err = b.gather(ctx)
	}
	left := b.log.Close(ctx, b.done())

	if b.cfg.Keep {
		e.Lost = e.Lost.plus(left.Unsaved, all)
		e.Err = errors.Join(e.Err, left.Err)
	} else if left.Err != nil {
		b.cfg.Logger.Warn("hopper: what was spilled could not be deleted", "error", left.Err)
	}
	b.tally.Lost += e.Lost.Waiting
	e.Kept = Undelivered{all.Waiting - e.Lost.Waiting, all.Unacked - e.Lost.Unacked}
	e.Lost.Waiting += b.dropped

	b.window, b.lot, b.cursor = window[T]{}, lot[T]{}, nil
	b.logged, b.copied = e.Kept.Waiting, 0
	return e
}

// plus adds n items of which it is not known whether they were delivered, at
// most all that there are: the younger ones are the likelier to be lost.
func (u Undelivered) plus(n uint64, all Undelivered) Undelivered {
	waiting := min(n, all.Waiting-u.Waiting)
	unacked := min(n-waiting, all.Unacked-u.Unacked)
	return Undelivered{u.Waiting + waiting, u.Unacked + unacked}
}

// gather appends to the log what only the window holds. It belongs in front of
// all else that is in the log. What can't be encoded is lost.
func (b *Backlog[T]) gather(ctx context.Context) (lost Undelivered, why error) {
	b.log.Finish(ctx)
	lost.Unacked = uint64(b.lot.delivered(b.head))
	lost.Waiting, why = uint64(b.lot.len())-lost.Unacked, b.lot.why

	seq := b.head + uint64(b.copied)
	b.window.items.from(b.copied, func(v *T) {
		buf, err := b.encode(b.log.Begin(seq), *v)
		if err != nil {
			b.log.Park()
			b.faults.parked(err)
			lost.Waiting, why = lost.Waiting+1, err
		} else {
			b.log.Commit(buf)
		}
		seq++
	})
	return lost, why
}
