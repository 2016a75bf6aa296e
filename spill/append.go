package spill

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"
)

// An appender frames items into runs of a chunk each. It is the part of a log
// that its user works on, one item at a time, without a lock.
type appender struct {
	tail    *pending // the run being filled; nil while it has no item
	end     uint64   // number behind the last item appended
	frameAt int      // offset in the tail's buffer of the frame that is being made
	prefix  int      // bytes reserved for its length; guessed right, that saves a copy
	last    int      // size of the last frame
}

// Begin returns the buffer to which the caller appends the encoding of the item
// seq. It then calls [Log.Commit], or [Log.Park] if the item can't be encoded.
//
// The numbers grow. Only after [Log.Finish] may an item come that belongs in
// front of all others.
func (l *Log) Begin(seq uint64) []byte {
	a := &l.appender
	if t := a.tail; t != nil && (len(t.buf)+a.last > maxBuf || t.end() != seq) {
		l.sealTail()
	}
	if a.tail == nil {
		a.tail = l.newPending(seq)
	}

	a.frameAt = len(a.tail.buf)
	a.prefix = max(a.prefix, 1)
	return slices.Grow(a.tail.buf, a.prefix)[:a.frameAt+a.prefix]
}

// Commit adds the item whose encoding was appended to the buffer of Begin. It
// does not block, and keeps b.
func (l *Log) Commit(b []byte) {
	a := &l.appender
	b = a.setLength(b)
	a.last = len(b) - a.frameAt
	l.add(b)
}

// Park adds a placeholder for an item that its owner keeps in memory, in place
// of Commit.
func (l *Log) Park() {
	a := &l.appender
	l.add(append(a.tail.buf[:a.frameAt], placeholder...))
}

// add makes b, which ends in another frame, the tail's buffer. If that is too
// much for a chunk the frame begins a run of its own.
func (l *Log) add(b []byte) {
	a := &l.appender
	if len(b) > maxBuf && a.tail.items > 0 {
		full := a.tail
		a.tail = l.newPending(full.end())
		b = append(a.tail.buf, b[a.frameAt:]...)
		l.handOver(full)
	}

	t := a.tail
	if unsafe.SliceData(b) == unsafe.SliceData(t.buf) {
		t.buf = t.buf[:len(b)] // sets no pointer, which has its price: see Cursor
	} else {
		putBuffer(t.buf) // a larger one has taken its place
		t.buf = b
	}
	t.items++
	a.end = max(a.end, t.end())

	if len(b) > maxBuf {
		l.sealTail()
	}
}

// setLength writes the length in front of the item, for which Begin has
// reserved what the item before needed.
func (a *appender) setLength(b []byte) []byte {
	item := b[a.frameAt+a.prefix:]
	size := len(item)

	if n := uvarintLen(size); n != a.prefix {
		b = slices.Grow(b, n)[:a.frameAt+n+size]
		copy(b[a.frameAt+n:], item)
		a.prefix = n
	}
	binary.PutUvarint(b[a.frameAt:], uint64(size))
	return b
}

// uvarintLen returns how many bytes n takes as a varint.
func uvarintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// done empties the tail if all of its items are done, so that its memory is
// used again.
func (a *appender) done(seq uint64) {
	if t := a.tail; t != nil && t.items > 0 && t.end() <= seq {
		t.first, t.items, t.buf = t.end(), 0, t.buf[:framesAt]
	}
}

// skip drops the items below seq from the tail, which holds others.
func (a *appender) skip(seq uint64) {
	t := a.tail
	if t == nil || seq <= t.first || seq >= t.end() {
		return
	}

	rest := t.run.from(seq)
	n := copy(t.frames(), rest)
	t.items, t.first = int(t.end()-seq), seq
	t.buf = t.buf[:framesAt+n]
}

// sealTail passes the tail on, if there is one.
func (l *Log) sealTail() {
	if t := l.appender.tail; t != nil {
		l.appender.tail = nil
		l.handOver(t)
	}
}
