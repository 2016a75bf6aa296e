package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/spill"
)

// A scan is what the messages of the stream say of themselves.
type scan struct {
	last     uint64 // number of the last message seen
	messages []*message
	parts    assembler
	epoch    uint64 // the highest
	label    string // of the last fence
	keep     bool
	fenced   bool // there is a fence
	foreign  int  // messages of somebody else
}

// takeIn notes a message.
func (s *scan) takeIn(m jetstream.Msg, md *jetstream.MsgMetadata) error {
	s.last = md.Sequence.Stream
	h, err := parseHeader(m.Headers())
	switch {
	case errors.Is(err, spill.ErrVersion):
		return err
	case err != nil:
		s.foreign++
		return nil
	}

	s.epoch = max(s.epoch, h.epoch)
	if h.fence {
		s.fenced = true
		s.label = m.Headers().Get(labelKey)
		s.keep = m.Headers().Get(keepKey) == "true"
	}
	size, _ := strconv.Atoi(m.Headers().Get(sizeKey))
	whole, scrap := s.parts.add(sent{h, md.Sequence.Stream, size, md.Timestamp})
	if scrap != nil {
		scrap.scrap = true
		s.messages = append(s.messages, scrap)
	}
	if whole != nil {
		s.messages = append(s.messages, whole)
	}
	return nil
}

// read goes on to the message with the number until, or to the last one if that
// is 0. It reads no chunks, only headers.
func (s *scan) read(ctx context.Context, st *store, until uint64) error {
	toEnd := until == 0
	if toEnd {
		i, err := st.api.info(ctx, st.cfg.StreamName, false)
		if err != nil || i.State.Msgs == 0 {
			return err
		}
		until = i.State.LastSeq
	}

	for s.last < until {
		before := s.last
		err := s.consume(ctx, st, until, toEnd)
		switch {
		case err == nil || !passing(err) || ctx.Err() != nil:
			return err
		case s.last == before:
			return s.passLost(ctx, st, until, err)
		}
	}
	return nil
}

// passLost goes on to the message until if the server has lost all up to there:
// a consumer does not tell. Else it returns err.
func (s *scan) passLost(ctx context.Context, st *store, until uint64, err error) error {
	for seq := s.last + 1; seq <= until; seq++ {
		_, getErr := st.api.get(ctx, st.cfg.StreamName, "", seq)
		if !errors.Is(getErr, errMissing) {
			return err
		}
	}
	s.last = until
	return nil
}

// consume reads by way of an ordered consumer, until the connection is lost.
// The server may keep that consumer on a replica that lags: only until, where
// it is a fence, tells for sure that all has been seen. Toward the end of the
// stream a consumer that has nothing more will do: the last messages may be
// deleted.
func (s *scan) consume(ctx context.Context, st *store, until uint64, toEnd bool) error {
	ctx, cancel := st.api.w.whileUp(ctx)
	defer cancel()
	from := func(within context.Context) (jetstream.MessagesContext, error) {
		return s.messagesFrom(within, st)
	}
	it, err := library(ctx, st.api.w, from)
	if err != nil {
		return errors.Join(errCut, fmt.Errorf("jetstream: read the stream: %w", err))
	}
	defer func() { go it.Stop() }() // which asks the server

	for {
		m, err := next(ctx, it)
		if err != nil {
			return errors.Join(errCut, fmt.Errorf("jetstream: read the stream: %w", err))
		}
		md, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := s.takeIn(m, md); err != nil {
			return err
		}
		if s.last >= until || toEnd && md.NumPending == 0 {
			return nil
		}
	}
}

func (s *scan) messagesFrom(ctx context.Context, st *store) (jetstream.MessagesContext, error) {
	c, err := st.js.OrderedConsumer(ctx, st.cfg.StreamName, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: s.last + 1,
		HeadersOnly: true, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	return c.Messages(jetstream.PullMaxMessages(1000))
}

// next returns the next message, if one comes in time.
func next(ctx context.Context, it jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	return await(ctx, func() (jetstream.Msg, error) { return it.Next(jetstream.NextContext(ctx)) })
}

// A plan says what to make of what was found.
type plan struct {
	found spill.Range
	label string // of the items
	keep  bool   // they were left on purpose
}

// arrange puts what was found into the index, in place of what is there, with
// the lost items that are known to have been stored: those that the lease
// vouches for, and those that a later message says it follows.
func (s *scan) arrange(x *index, r record, known bool) plan {
	x.reset(r.Next)
	next, reach := r.Next, r.Next
	var lost []span
	if !known && len(s.messages) > 0 {
		next = s.messages[0].first
		reach = next
	}

	for _, m := range s.messages {
		if m.follows > reach && !m.scrap {
			lost = append(lost, span{reach, m.follows})
		}
		if !m.scrap {
			reach = max(reach, m.end)
		}
		x.add(m)
	}
	if r.Clean && r.Exact {
		x.cut(r.End)
		reach = r.End
	}

	for _, l := range append(lost, vouched(r)...) {
		x.lose(l[0], l[1])
	}
	return s.plan(x, r, known, next, max(reach, r.End))
}

// vouched returns the stretches of items that the record says were stored.
func vouched(r record) (all []span) {
	at := r.Next
	for _, s := range r.Skipped {
		if s[0] > at {
			all = append(all, span{at, s[0]})
		}
		at = max(at, s[1])
	}
	if r.End > at {
		all = append(all, span{at, r.End})
	}
	return all
}

func (s *scan) plan(x *index, r record, known bool, next, end uint64) plan {
	p := plan{label: r.Label, keep: r.Keep}
	if !known {
		p.label, p.keep = s.label, s.keep || !s.fenced
	}

	f := &p.found
	f.Crashed = known && !r.Clean || !known && len(s.messages) > 0
	f.End = max(end, next)
	f.Next = f.End
	if first, ok := x.find(next); ok {
		f.Next = max(next, first.first)
	}
	f.Items = x.count(f.Next, f.End)
	if f.Items == 0 {
		f.Next = f.End
	}
	if m := x.firstLeft(next); m != nil && f.Items > 0 {
		f.Oldest = m.stored
		if f.Crashed { // more would have been deleted
			f.Repeated = x.count(f.Next, min(x.trimAt(next), f.End))
		}
	}
	return p
}
