package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/spill"
)

var errNotOpen = errors.New("jetstream: the store is not open")

// A store keeps batches in a stream. It implements [spill.Store].
type store struct {
	js     jetstream.JetStream
	cfg    Config
	stream jetstream.StreamConfig // as it would be made
	holder string                 // random

	api   api
	lease *lease
	index index
	phase atomic.Int32
	limit atomic.Int64 // of the index's bytes; negative: none
	over  atomic.Bool  // another store has taken over

	before record // the lease as Open has found it

	// Of the goroutine that appends and trims.
	epoch      uint64
	last       uint64 // number of the stream's last message
	sent       uint64 // messages so far
	acked      atomic.Uint64
	unsure     bool       // there may be more messages than last says
	told       uint64     // by the refusal that made it so: the number of the stream's last message
	tries      []attempt  // messages whose outcome is not known
	parts      assembler  // of what has been stored
	lifted     bool       // the limits are lifted
	maxBytes   int64      // of the stream; not positive: none
	maxMsgSize int        // of the stream; not positive: none
	spare      [][]byte   // buffers of messages
	scraps     []*message // to be deleted
	fetched    reader     // what has been read ahead

	renewing sync.WaitGroup
	halt     context.CancelFunc // ends the renewals
}

var _ spill.Store = (*store)(nil)

// The phases of a store.
const (
	unopened = iota
	inUse
	ended
)

// usable returns why the store can't be used.
func (s *store) usable() error {
	switch {
	case s.phase.Load() != inUse:
		return errNotOpen
	case s.over.Load():
		return s.taken()
	}
	return nil
}

func (s *store) taken() error {
	return fmt.Errorf("%w: another store has taken over the stream %s", spill.ErrLocked,
		s.cfg.StreamName)
}

// note ends the store if the error says that another has taken over.
func (s *store) note(err error) error {
	if errors.Is(err, spill.ErrLocked) && !s.over.Swap(true) {
		s.cfg.Logger.Error("jetstream: another store has taken over: this one has ended",
			"stream", s.cfg.StreamName)
	}
	return explain(err)
}

// Open implements [spill.Store]. It makes the stream if it does not exist,
// takes the lease, waiting for one whose holder may be gone, and puts a fence
// behind all that an earlier store has sent.
func (s *store) Open(ctx context.Context, label string, keep bool) (spill.Range, error) {
	if !s.phase.CompareAndSwap(unopened, ended) {
		return spill.Range{}, fmt.Errorf("%w: a store can be opened once: make another",
			spill.ErrLocked)
	}

	start := time.Now()
	for {
		found, err := s.tryOpen(ctx, label, keep)
		switch {
		case err == nil:
			s.phase.Store(inUse)
			return found, nil
		case !passing(err) || time.Since(start) >= s.cfg.Wait:
			s.phase.Store(unopened)
			return found, explain(err)
		}
		if err := pause(ctx, openPause); err != nil {
			s.phase.Store(unopened)
			return found, err
		}
	}
}

const openPause = 100 * time.Millisecond

// passing reports whether it makes sense to try again: the server may only be
// away, or choosing a leader, or be one of a cluster that is still starting.
func passing(err error) bool {
	e := (*jetstream.APIError)(nil)
	switch {
	case errors.As(err, &e):
		return e.Code >= 500 && !isFull(err) ||
			isCode(err, codeWrongLast, codeWrongLastBare, codeNoPeers)
	case errors.Is(err, nats.ErrConnectionClosed):
		return false
	}
	for _, e := range []error{
		errAway, errCut, errNoAnswer, errNobody, errMoved, nats.ErrTimeout, nats.ErrNoResponders,
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, context.DeadlineExceeded,
		jetstream.ErrNoStreamResponse, jetstream.ErrNoHeartbeat, jetstream.ErrOrderedConsumerReset,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// tryOpen opens the store, or leaves no trace.
func (s *store) tryOpen(ctx context.Context, label string, keep bool) (r spill.Range, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	w, err := openWire(ctx, s.js.Conn())
	if err != nil {
		return r, fmt.Errorf("jetstream: use the connection: %w", err)
	}
	s.api.w = w
	defer func() {
		if err != nil {
			s.lease.abandon()
			w.close(ctx)
		}
	}()

	if err := w.up(); err != nil {
		return r, err
	}
	if err := s.makeStream(ctx); err != nil {
		return r, err
	}
	if _, err := s.messageSize(); err != nil {
		return r, err
	}
	before, err := s.lease.free(ctx)
	if err != nil {
		return r, err
	}
	if s.epoch > 0 && before.Epoch == s.epoch { // an earlier try got further
		before = s.before
	}
	known := before.Version > 0

	var sc scan
	if err := sc.read(ctx, s, 0); err != nil {
		return r, err
	}
	err = refuse(sc.arrange(&s.index, before, known), label, keep, s.cfg.StreamName)
	if err != nil {
		return r, err
	}
	if err := s.lease.take(ctx, sc.epoch); err != nil {
		return r, err
	}
	s.epoch, s.before = s.lease.rec.Epoch, before
	if err := s.fence(ctx, label, keep); err != nil {
		return r, err
	}
	if err := sc.read(ctx, s, s.last); err != nil {
		return r, err
	}
	if sc.foreign > 0 {
		s.cfg.Logger.Warn("jetstream: messages that are not hopper's are left alone",
			"stream", s.cfg.StreamName, "messages", sc.foreign)
	}
	return s.begin(ctx, sc.arrange(&s.index, before, known), label, keep)
}

// refuse returns why what was found can't be opened.
func refuse(p plan, label string, keep bool, stream string) error {
	switch {
	case p.found.Items == 0:
		return nil
	case p.label != label && p.label != "":
		return &spill.LabelError{Path: "stream " + stream, Found: p.label, Want: label}
	case p.keep && !keep:
		return fmt.Errorf("%w: stream %s", spill.ErrNotResumed, stream)
	}
	return nil
}

// fence puts a message behind all others, so that a holder that was only slow
// can't append any more: it expects another number.
func (s *store) fence(ctx context.Context, label string, keep bool) error {
	i, err := s.api.info(ctx, s.cfg.StreamName, false)
	if err != nil {
		return err
	}

	last := i.State.LastSeq
	for range maxFences {
		s.sent++
		h := header{fence: true, holder: s.holder, epoch: s.epoch, id: s.sent, last: true}
		nh := s.natsHeader(h, last)
		nh.Set(labelKey, label)
		nh.Set(keepKey, strconv.FormatBool(keep))
		var seq uint64
		seq, err = published(ctx, s.api.startPublish(ctx, s.stream.Subjects[0], nh, nil))
		if err == nil {
			s.last = seq
			return nil
		}

		told, ok := wrongLast(err)
		if !ok {
			return err // if it has been stored it is one fence of many
		}
		last = told
	}
	return err
}

// maxFences is how often somebody else may be faster.
const maxFences = 100

func (s *store) natsHeader(h header, expect uint64) nats.Header {
	return nats.Header{
		headerKey: {h.encode()},
		expectKey: {strconv.FormatUint(expect, 10)},
		streamKey: {s.cfg.StreamName},
	}
}

// begin makes the store the user of what was found.
func (s *store) begin(ctx context.Context, p plan, label string, keep bool) (spill.Range, error) {
	s.acked.Store(p.found.Next)
	if !keep && (p.found.Items > 0 || s.index.usage().Segments > 0) {
		s.cfg.Logger.Warn("jetstream: deleting what a log has left that ended without Close",
			"stream", s.cfg.StreamName, "items", p.found.Items)
		if err := s.wipe(ctx); err != nil {
			return spill.Range{}, err
		}
		p.found = spill.Range{Crashed: p.found.Crashed}
	}

	err := s.lease.save(ctx, func(r *record) {
		r.Label, r.Keep, r.Clean, r.Exact = label, keep, false, false
		r.Next, r.End, r.Skipped = s.vouched()
	})
	if err != nil {
		return spill.Range{}, err
	}
	if err := s.trim(ctx, p.found.Next); err != nil {
		s.cfg.Logger.Warn("jetstream: messages that are done could not be deleted: trying again",
			"stream", s.cfg.StreamName, "error", err)
	}

	ctx, s.halt = context.WithCancel(context.Background())
	s.renewing.Go(func() { s.renew(ctx) })
	return p.found, nil
}

// vouched returns what the lease is to say of the items.
func (s *store) vouched() (next, end uint64, skipped []span) {
	next = s.acked.Load()
	end, skipped = s.index.vouch(next)
	return next, end, skipped
}

// wipe deletes all items.
func (s *store) wipe(ctx context.Context) error {
	if err := s.api.purge(ctx, s.last+1); err != nil {
		return err
	}
	s.index.reset(0)
	s.acked.Store(0)
	return nil
}

// renew is the goroutine that keeps the lease.
func (s *store) renew(ctx context.Context) {
	every := s.cfg.Lease / 3
	for wait := every; pause(ctx, wait) == nil; {
		s.fetched.rest()
		err := s.note(s.lease.save(ctx, func(r *record) {
			r.Next, r.End, r.Skipped = s.vouched()
		}))
		switch {
		case s.over.Load():
			return
		case err != nil:
			wait = min(every, time.Second) / 2
		default:
			wait = every
		}
	}
}

// Trim implements [spill.Store]. It purges the messages in front of the first
// that is still needed, once it has made sure that the lease is still its own.
func (s *store) Trim(ctx context.Context, acked uint64) error {
	if err := s.usable(); err != nil {
		return err
	}
	s.clearUp(ctx)
	return s.note(insist(ctx, patience, func() error { return s.trim(ctx, acked) }))
}

func (s *store) trim(ctx context.Context, acked uint64) error {
	s.acked.Store(max(s.acked.Load(), acked))
	if n, until := s.index.doneUntil(acked, s.last); n > 0 {
		if err := s.purge(ctx, until); err != nil {
			return err
		}
		s.index.drop(n, acked)
	}
	s.index.drop(0, acked)
	return nil
}

// purge deletes the messages in front of a number, if the lease is still the
// store's.
func (s *store) purge(ctx context.Context, until uint64) error {
	err := s.prove(ctx)
	full := isFull(err) // for the lease too: it can be written once there is room
	if full {
		err = s.lease.check(ctx)
	}
	if err == nil {
		err = s.api.purge(ctx, until)
	}
	if err == nil && full {
		err = s.prove(ctx)
	}
	return err
}

// prove makes sure that the lease is still the store's, and lets it know what
// is done.
func (s *store) prove(ctx context.Context) error {
	err := s.lease.save(ctx, func(r *record) {
		r.Next = max(r.Next, s.acked.Load())
		r.Skipped = slices.DeleteFunc(r.Skipped, func(k span) bool { return k[1] <= r.Next })
		r.End = max(r.End, r.Next)
	})
	if err == nil && time.Since(*s.lease.saved.Load()) > s.cfg.Lease/2 {
		return errNoAnswer // it may have been somebody else's since
	}
	return err
}

// Sync makes durable what Append has stored, as far as the server does that:
// what it has acknowledged is with as many servers as the stream has replicas.
// It remembers that all items below acked are done, so that the next Open
// returns a Range.Next of at least acked.
func (s *store) Sync(ctx context.Context, acked uint64) error {
	if err := s.usable(); err != nil {
		return err
	}
	s.acked.Store(max(s.acked.Load(), acked))
	return s.note(insist(ctx, patience, func() error {
		return s.lease.save(ctx, func(r *record) { r.Next, r.End, r.Skipped = s.vouched() })
	}))
}

// insist calls f again while it fails for a reason that may soon pass, for some
// time, or until the context ends.
func insist(ctx context.Context, most time.Duration, f func() error) error {
	for start := time.Now(); ; {
		err := f()
		if err == nil || !passing(err) || time.Since(start) >= most {
			return err
		}
		if pause(ctx, insistPause) != nil {
			return err
		}
	}
}

const (
	patience    = time.Second // for a connection that is just being made anew
	insistPause = 20 * time.Millisecond
)

// Lift implements [spill.Store].
func (s *store) Lift() { s.lifted = true }

// Usage implements [spill.Store].
func (s *store) Usage() spill.Usage {
	u := s.index.usage()
	u.Limit = s.limit.Load()
	return u
}
