package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"example.com/hopper/spill"
)

const (
	maxFlights  = 8       // messages under way
	flightBytes = 2 << 20 // bytes of them
)

// An attempt is a message that was sent. It may be stored long after it was
// given up, as long as it still follows the stream's last one.
type attempt struct {
	header
	after uint64 // the number it was to follow
	size  int
}

// A flight is a message that is under way.
type flight struct {
	attempt
	call *call
	data []byte
}

// Append implements [spill.Store]. It makes messages of several batches, and
// has several messages under way. Where the outcome is not known it asks the
// server what is there, in this call or at the beginning of the next. After
// Lift it tries until the context ends.
func (s *store) Append(ctx context.Context, batches []*spill.Batch) (stored int, err error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	most := patience
	if s.lifted {
		most = untilEnd
	}
	err = s.note(insist(ctx, most, func() error { return s.put(ctx, batches) }))
	stored = s.leading(batches)
	switch {
	case s.over.Load():
		return 0, s.taken()
	case stored == len(batches):
		return stored, nil
	case err == nil:
		err = errNoAnswer
	}
	return stored, err
}

// leading returns how many of the batches, from the first on, are stored.
func (s *store) leading(batches []*spill.Batch) (n int) {
	for n < len(batches) && s.index.covered(batches[n].First, batches[n].End()) {
		n++
	}
	return n
}

func (s *store) put(ctx context.Context, batches []*spill.Batch) error {
	if s.unsure {
		if err := s.resolve(ctx); err != nil {
			return err
		}
	}
	s.clearUp(ctx)

	err := s.send(ctx, batches)
	if s.unsure {
		if err := s.resolve(ctx); err != nil {
			return err
		}
	}
	s.scrapOpen()
	s.clearUp(ctx)
	return err
}

// send sends the batches that are not stored yet.
func (s *store) send(ctx context.Context, batches []*spill.Batch) (err error) {
	var under []*flight
	size := 0
	land := func() {
		f := under[0]
		under, size = under[1:], size-len(f.data)
		if landErr := s.land(ctx, f, err != nil); err == nil {
			err = landErr
		}
	}

	var full error
	after := s.last
	for f, packErr := range s.pack(ctx, batches) {
		if packErr != nil {
			full = packErr
			break
		}
		for err == nil && (len(under) == maxFlights ||
			len(under) > 0 && size+len(f.data) > flightBytes) {
			land()
		}
		if err != nil {
			break
		}

		f.after = after
		f.call = s.api.startPublish(ctx, s.stream.Subjects[0],
			s.natsHeader(f.header, after), f.data)
		after++
		under, size = append(under, f), size+len(f.data)
	}
	for len(under) > 0 {
		land()
	}
	if err == nil {
		err = full
	}
	return err
}

// land waits for what has become of a message. Once one has failed those behind
// it can't be stored any more, or nobody knows.
func (s *store) land(ctx context.Context, f *flight, failed bool) error {
	seq, err := published(ctx, f.call)
	if err == nil && (failed || seq != f.after+1) {
		err = errCut // whatever that was
	}
	if err != nil {
		if last, ok := wrongLast(err); ok {
			s.told = last
		}
		if !isFull(err) || failed {
			s.unsure = true
			s.tries = append(s.tries, f.attempt)
		}
		return err
	}

	s.spare = append(s.spare[:min(len(s.spare), 1)], f.data)
	s.took(sent{f.header, seq, f.size, time.Now()})
	return nil
}

// took notes that a message of this store is the stream's last.
func (s *store) took(m sent) {
	s.last = m.seq
	whole, scrap := s.parts.add(m)
	if scrap != nil {
		s.toScrap(scrap)
	}
	if whole != nil {
		s.index.add(whole)
	}
}

// scrapOpen gives up an item of which not all parts could be stored.
func (s *store) scrapOpen() {
	if m := s.parts.open; m != nil && !s.unsure {
		s.parts.open = nil
		s.toScrap(m)
	}
}

func (s *store) toScrap(m *message) {
	m.scrap = true
	s.index.add(m)
	s.scraps = append(s.scraps, m)
}

// clearUp deletes parts of items that were given up. What can't be deleted goes
// when it is trimmed.
func (s *store) clearUp(ctx context.Context) {
	for len(s.scraps) > 0 {
		m := s.scraps[0]
		for seq := m.seq; seq < m.behind(); seq++ {
			if s.api.remove(ctx, seq) != nil {
				return
			}
		}
		s.scraps = s.scraps[1:]
		s.index.remove(m)
	}
}

// resolve finds out which messages the stream has got since last. If one of
// them is not this store's, another has taken over.
func (s *store) resolve(ctx context.Context) error {
	i, err := s.api.info(ctx, s.cfg.StreamName, false)
	if err != nil {
		return err
	}

	end := max(i.State.LastSeq, s.told)
	s.told = 0
	if end < s.last {
		// The server has lost what it had acknowledged, or it is one that does
		// not know yet that it leads no more. The next message tells: it takes
		// the place of what is lost.
		s.last = end
		s.parts = assembler{}
	}
	for seq := s.last + 1; seq <= end; seq++ {
		if err := s.recognise(ctx, seq); err != nil {
			return err
		}
	}

	s.unsure = false
	kept := s.tries[:0]
	for _, a := range s.tries {
		if a.after >= s.last {
			kept = append(kept, a)
		}
	}
	s.tries = kept
	return nil
}

// recognise looks at a message behind the last that is known.
func (s *store) recognise(ctx context.Context, seq uint64) error {
	m, err := s.api.get(ctx, s.cfg.StreamName, "", seq)
	if errors.Is(err, errMissing) {
		// Somebody has deleted it: a store that has taken over, or an
		// administrator.
		if err := s.prove(ctx); err != nil {
			return err
		}
		s.last = seq
		return nil
	}
	if err != nil {
		return err
	}

	h, err := parseHeader(m.header)
	if err != nil || h.holder != s.holder {
		return fmt.Errorf("%w: message %d of the stream %s is from somebody else",
			spill.ErrLocked, seq, s.cfg.StreamName)
	}
	if h.fence {
		s.last = seq
		return nil
	}
	s.took(sent{h, seq, len(m.Data), m.Time})
	return nil
}

// messageSize returns how many bytes of chunks a message may hold.
func (s *store) messageSize() (int, error) {
	size := min(s.cfg.MessageSize, int(s.api.w.maxPayload.Load()))
	if s.maxMsgSize > 0 {
		size = min(size, s.maxMsgSize)
	}
	if size < minMessageSize {
		return 0, fmt.Errorf("jetstream: the server's max_payload is %d bytes, and a message "+
			"takes up to %d: raise max_payload in the server's configuration", size, minMessageSize)
	}
	return size - headerRoom, nil
}

// A packer makes messages of batches.
type packer struct {
	s     *store
	ctx   context.Context
	size  int // of a message, in bytes
	used  int64
	reach uint64
	yield func(*flight, error) bool

	data       []byte
	first, end uint64 // of the items in data
}

// pack yields the messages for the batches that are not stored yet, or why the
// next can't be sent.
func (s *store) pack(ctx context.Context, batches []*spill.Batch) iter.Seq2[*flight, error] {
	return func(yield func(*flight, error) bool) {
		size, err := s.messageSize()
		if err != nil {
			yield(nil, err)
			return
		}

		p := &packer{
			s: s, ctx: ctx, size: size, yield: yield,
			used: s.index.usage().Bytes, reach: s.index.behind(),
		}
		for _, b := range batches {
			if !s.index.covered(b.First, b.End()) && !p.add(b) {
				return
			}
		}
		p.flush()
	}
}

// add adds a batch to the message that is being made, or to one or more of its
// own.
func (p *packer) add(b *spill.Batch) (more bool) {
	size, parts := p.measure(b)
	alone := size > int64(p.size)
	if p.data != nil && (alone || b.First != p.end || int64(len(p.data))+size > int64(p.size)) {
		if !p.flush() {
			return false
		}
	}
	if err := p.s.room(p.ctx, p.used+int64(len(p.data))+size+int64(parts)*overhead); err != nil {
		return p.flush() && p.yield(nil, err)
	}

	if alone {
		return p.parts(b)
	}
	if p.data == nil {
		p.data, p.first = p.s.buffer(), b.First
	}
	for chunk := range b.Chunks {
		p.data = append(p.data, chunk...)
	}
	p.end = b.End()
	return true
}

// measure returns how many bytes the batch's chunks take, and how many messages
// at most. It makes them only to see whether they fit where they might not.
func (p *packer) measure(b *spill.Batch) (size int64, parts int) {
	bound := b.FrameBytes() + b.FrameBytes()/64 + 64
	if bound <= chunkBytes {
		for chunk := range b.Chunks {
			size += int64(len(chunk))
		}
		return size, 1
	}
	if p.s.room(p.ctx, p.used+bound+overhead*(bound/int64(p.size)+1)) != nil ||
		bound > int64(p.size) {
		for chunk := range b.Chunks {
			size += int64(len(chunk))
		}
		bound = size
	}
	return bound, int(bound/int64(p.size-chunkBytes)) + 1
}

// chunkBytes is the length of the longest chunk.
const chunkBytes = 66 << 10

// room returns spill.ErrFull if the stream may not take so many bytes.
func (s *store) room(ctx context.Context, bytes int64) error {
	if limit := s.limit.Load(); limit >= 0 && bytes > limit && !s.lifted {
		return fmt.Errorf("%w: the backlog is as large as it may be", spill.ErrFull)
	}
	most := s.maxBytes
	if most <= 0 || bytes <= most-fenceRoom {
		return nil
	}

	if s.lifted && s.raise(ctx, bytes+slack(bytes)) == nil {
		return nil
	}
	return fmt.Errorf("%w: the stream's max_bytes", spill.ErrFull)
}

// parts sends a batch that is a single item as several messages.
func (p *packer) parts(b *spill.Batch) bool {
	part := 0
	p.data = p.s.buffer()
	for chunk := range b.Chunks {
		if len(p.data)+len(chunk) > p.size {
			if !p.launch(b.First, b.End(), part, false) {
				return false
			}
			part++
			p.data = p.s.buffer()
		}
		p.data = append(p.data, chunk...)
	}
	return p.launch(b.First, b.End(), part, true)
}

// flush sends the message that is being made.
func (p *packer) flush() bool {
	return p.data == nil || p.launch(p.first, p.end, 0, true)
}

func (p *packer) launch(first, end uint64, part int, last bool) bool {
	s := p.s
	s.sent++
	h := header{
		holder: s.holder, epoch: s.epoch, id: s.sent, first: first, end: end, part: part,
		last: last,
	}
	if first >= p.reach && part == 0 {
		h.follows = p.reach
	}
	if last {
		p.reach = max(p.reach, end)
	}

	f := &flight{attempt: attempt{header: h, size: len(p.data)}, data: p.data}
	p.used += int64(len(p.data)) + overhead
	p.data = nil
	return p.yield(f, nil)
}

// buffer returns an empty buffer for a message.
func (s *store) buffer() []byte {
	if n := len(s.spare); n > 0 {
		b := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 4*chunkBytes)
}
