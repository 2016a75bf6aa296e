package spill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// readSize is the length of the buffer that a store reads into: two chunks that
// don't compress, just.
const readSize = 128 << 10

// A reader turns the chunks of a store back into runs of items, those put
// together again that run over several chunks. What it does not find it reports
// as lost, in exact ranges.
type reader struct {
	store Store
	tag   uint32

	seq  uint64   // the next item to be found
	pos  Position // of what is to be decoded next
	buf  []byte   // to read into; nil while nothing is read
	rest []byte   // chunks that have been read and not decoded
	last uint64   // not 0: behind rest there is nothing of items below this
	time time.Time

	why   error    // the first damage since the last run that was found
	whyAt Position // and where

	part part
}

// seek makes seq the next item to be found, at pos or, if that is zero,
// wherever the store has it.
func (r *reader) seek(seq uint64, pos Position) {
	r.seq, r.pos, r.rest, r.last = seq, pos, nil, 0
	r.why, r.part = nil, part{}
}

// drop gives the reader's memory back. An item of which it has only a part is
// to be read again.
func (r *reader) drop() {
	at := r.pos
	if r.part.buf != nil {
		at = r.part.at
	}
	r.seek(r.seq, at)
	r.buf = nil
}

// next returns the next items, in into's buffer or in one of their own where
// they need more, or the report that they are lost. It returns nil where it has
// only learned where to go on: there may be no more. An error is one that will
// pass.
func (r *reader) next(ctx context.Context, into []byte) (*loaded, error) {
	for {
		if len(r.rest) == 0 {
			lost, err := r.read(ctx)
			if lost != nil || err != nil || len(r.rest) == 0 {
				return lost, err
			}
		}

		if found := r.decode(into); found != nil {
			return found, nil
		}
	}
}

// read gets the next extent, when the last one has been decoded.
func (r *reader) read(ctx context.Context) (lost *loaded, err error) {
	if last := r.last; last != 0 {
		r.last, r.pos, r.part = 0, Position{}, part{}
		if r.seq < last {
			return r.lose(last), nil
		}
	}

	if r.buf == nil {
		r.buf = make([]byte, readSize)
	}
	ext, err := r.store.Read(ctx, r.seq, r.pos, r.buf)
	if err != nil {
		return nil, err
	}

	if ext.Err != nil && ext.End == 0 {
		return r.notice(ext), nil
	}

	skipped := ext.First > r.seq
	r.seq = max(r.seq, ext.First)
	r.rest, r.pos, r.last, r.time = ext.Chunks, ext.At, ext.End, ext.Stored
	if ext.Err != nil {
		r.note(ext.Err, ext.At)
	}

	if ext.End > r.seq || skipped || len(ext.Chunks) > 0 {
		return nil, nil
	}
	return nil, errors.New("internal error: the store has nothing where it should have items")
}

// notice reports damage that has cost no item.
func (r *reader) notice(ext Extent) *loaded {
	return &loaded{next: r.seq, at: r.pos, lost: &CorruptError{
		Path: ext.At.Path, Offset: ext.At.Offset, First: r.seq, Err: ext.Err,
	}}
}

// note keeps the first reason for what may turn out to be lost.
func (r *reader) note(err error, at Position) {
	if r.why == nil {
		r.why, r.whyAt = err, at
	}
}

// lose reports the items up to end as lost.
func (r *reader) lose(end uint64) *loaded {
	if r.why == nil {
		r.note(errors.New("items are missing"), r.pos)
	}
	lost := &CorruptError{
		Path: r.whyAt.Path, Offset: r.whyAt.Offset,
		First: r.seq, Items: end - r.seq, Err: r.why,
	}

	r.seq, r.why, r.part = end, nil, part{}
	return &loaded{next: lost.First, at: r.whyAt, lost: lost}
}

// decode decodes one chunk. It returns nil if the chunk was not needed, is
// damaged, or is no more than a part of an item.
func (r *reader) decode(into []byte) *loaded {
	n, err := ChunkLen(r.rest)
	if err == nil && n > len(r.rest) {
		err = ErrTorn
	}
	if err != nil { // the store should have told; nothing behind can be found
		r.note(err, r.pos)
		r.pos.Offset += int64(len(r.rest))
		r.rest = nil
		return nil
	}

	p, err := DecodeChunk(into[payloadAt:maxBuf], r.rest[:n])
	if err == nil && p.Tag != r.tag {
		err = errTag
	}
	if err == nil && p.Offset == 0 && p.First > r.seq {
		return r.lose(p.First) // the chunk is decoded again once that is told
	}

	at := r.pos
	r.rest = r.rest[n:]
	r.pos.Offset += int64(n)

	var found run
	if err == nil {
		found, at, err = r.assemble(p, at, into)
	}
	if err != nil {
		r.part = part{}
		r.note(err, at)
		return nil
	}
	if found.items == 0 || found.end() <= r.seq {
		return nil
	}

	next := r.seq
	r.seq, r.why = found.end(), nil
	return &loaded{run: found, next: max(next, found.first), at: at, stored: r.time}
}

// A part is the beginning of an item that runs over several chunks.
type part struct {
	seq uint64
	at  Position // of its first chunk
	buf []byte   // as a run's; nil: there is none
	all uint64   // how long buf will be, as the frame claims
}

// assemble returns the payload's items, which stand in into, or the item whose
// last part it is, in memory of its own. There is none yet if items is 0.
func (r *reader) assemble(p Payload, at Position, into []byte) (run, Position, error) {
	if p.whole() {
		r.part = part{}
		return run{p.First, int(p.Count), into[:framesAt+len(p.Frames)]}, at, nil
	}

	if p.Offset == 0 {
		size, n := binary.Uvarint(p.Frames)
		all := framesAt + uint64(n) + size
		r.part = part{seq: p.First, at: at, buf: make([]byte, framesAt), all: all}
	}
	part := &r.part
	if part.buf == nil || p.First != part.seq || p.Offset != uint64(len(part.buf)-framesAt) {
		return run{}, at, errors.New("part of an item whose other parts are missing")
	}

	part.add(p.Frames)
	if p.Count == 0 {
		return run{}, at, nil
	}
	item := run{part.seq, 1, part.buf}
	at = part.at
	r.part.buf = nil
	return item, at, checkLarge(item.frames())
}

// add makes room for twice what has really been read at most, whatever length
// the frame claims.
func (p *part) add(frames []byte) {
	read := uint64(len(p.buf) + len(frames))
	if read > uint64(cap(p.buf)) && read < p.all {
		p.buf = slices.Grow(p.buf, len(frames)+int(min(p.all-read, read)))
	}
	p.buf = append(p.buf, frames...)
}

// checkLarge checks the frame of an item that ran over several chunks, as only
// one that is too large for a chunk does.
func checkLarge(frame []byte) error {
	if len(frame) <= maxFrames {
		return errors.New("small item in parts")
	}
	return checkFrames(frame, 1)
}

// An Item is one item of a store.
type Item struct {
	Seq    uint64 // its number
	Bytes  []byte // valid until the next item
	Parked bool   // it was in the memory of a process that has ended; there are no bytes
}

// Items returns the items of a range that an open store holds, in order. In
// place of items that are lost comes a [*CorruptError], behind which the
// iteration goes on; any other error ends it.
func Items(ctx context.Context, s Store, label string, r Range) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		rd := reader{store: s, tag: Checksum([]byte(label))}
		rd.seek(r.Next, Position{})
		into := getBuffer()
		defer putBuffer(into)
		defer rd.drop()

		for rd.seq < r.End {
			found, err := rd.next(ctx, into)
			if err != nil {
				yield(Item{}, fmt.Errorf("spill: read item %d: %w", rd.seq, err))
				return
			}
			if found != nil && !found.yield(yield) {
				return
			}
		}
	}
}

// yield yields the run's items, or the report of their loss.
func (r *loaded) yield(yield func(Item, error) bool) bool {
	if r.lost != nil {
		return yield(Item{}, r.lost)
	}

	for c := r.cursor(); c.Left > 0; c.Advance() {
		item, parked := c.Item()
		if !yield(Item{c.Seq, item, parked}, nil) {
			return false
		}
	}
	return true
}
