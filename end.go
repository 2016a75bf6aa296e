package hopper

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"time"

	"example.com/hopper/spill"
)

const (
	closeGrace  = time.Second      // for the store, to delete the backlog
	resumeGrace = 10 * time.Second // for the store, to make it durable
)

// end gives up everything, in order: what stands in in's buffer, the backlog,
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

// takeBuffered receives what stands in in's buffer when the pump is stopped:
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

func (l *loop[T]) closeOut() {
	if l.opts.keepOpen || l.outClosed {
		return
	}
	defer func() {
		l.outClosed = true
		if recover() != nil { // close panics for no other reason
			l.outGone = true
		}
	}()
	close(l.out)
}

// recoverOutGone ends the loop if it sent on a channel that somebody else has
// closed.
func (l *loop[T]) recoverOutGone() {
	r := recover()
	if r == nil {
		return
	}
	if err, ok := r.(runtime.Error); !ok || !strings.Contains(err.Error(), "send on closed channel") {
		panic(r)
	}
	l.outGone = true
}
