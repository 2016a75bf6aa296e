package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"sync"
)

// A plan says how the values of one type are walked. It is a graph of nodes, one for
// each type within T, compiled once and then only read.
//
// # The wire form
//
// A value without pointers is its memory. A length is a uvarint; where nil differs
// from empty, 0 is nil and n+1 is n elements.
//
//	string             length, bytes
//	slice              length or nil, elements
//	map                length or nil, key and value by turns
//	pointer            0 for nil, else 1 and what it points to
//	array, struct      elements, fields; neighbours without pointers as one piece of memory
//	time.Time          8 bytes seconds since 1970, 4 bytes nanoseconds, location (see time.go)
//	binary marshaler   length, what it marshals to
//	interface          0 for nil, else the dynamic type (see interface.go) and the value
//
// A pointer that stands inlineDepth descents deep is written as its 1 only; what it
// points to follows behind all else, the last such pointer first, as if it were an
// item of its own. So the stack stays small, and a list may have any length.

type node struct {
	typ reflect.Type
	op  op
	min int // bytes an encoding takes at least; 0 only for a type of size 0

	// bounded: the type alone bounds how deep a value nests, for it holds neither itself
	// nor an interface. Its values are walked without counting.
	bounded bool
}

// An op encodes and decodes the values of one type, found by their address.
type op interface {
	// encode appends the value at p to dst.
	encode(e *encoder, dst []byte, p ptr) ([]byte, error)
	// decode sets the value at p, all of it, and returns the rest of src.
	decode(d *decoder, src []byte, p ptr) (rest []byte, err error)
}

const (
	inlineDepth = 1_000  // from here on what a pointer points to is put off
	maxDepth    = 10_000 // slices, maps and interfaces in one another
)

var (
	errShort = errors.New("codec: the input ends early")
	errCount = errors.New("codec: a length is larger than the input allows")
	errFlag  = errors.New("codec: a pointer is neither nil nor set")
	errDepth = fmt.Errorf("codec: more than %d slices, maps or interfaces in one another", maxDepth)
)

// planCodec carries a T by its plan.
type planCodec[T any] struct {
	root *node
	pool sync.Pool // of *walk[T]
}

// walk is what one call needs beside its arguments. T has its place here because an
// op's address argument would move it to the heap, once per item, anywhere else.
type walk[T any] struct {
	v T
	e encoder
	d decoder
}

func (c *planCodec[T]) get() *walk[T] {
	if w, ok := c.pool.Get().(*walk[T]); ok {
		return w
	}
	return new(walk[T])
}

// put gives w back without what it refers to.
func (c *planCodec[T]) put(w *walk[T]) {
	var zero T
	w.v = zero
	c.pool.Put(w)
}

func (c *planCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	w := c.get()
	w.v = v
	out, err := w.e.run(c.root, dst, addr(&w.v))
	c.put(w)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func (c *planCodec[T]) Decode(src []byte) (v T, err error) {
	w := c.get()
	if err = w.d.run(c.root, src, addr(&w.v)); err == nil {
		v = w.v
	}
	c.put(w)
	return v, err
}

// encoder is the state of one encoding.
type encoder struct {
	depth int // descents on the stack
	level int // descents from the item to here, over deferred pointers too

	// marks finds cycles by Brent's algorithm: marks[k] is the place that was entered at
	// the last level of k bits with but one bit set. Further levels of k bits are compared to
	// it; a cycle comes round to a mark before long, and what is no cycle never does.
	marks [bits.UintSize + 1]place
	used  int // marks that may be set

	later []deferred
}

// place is what a descent leads into.
type place struct {
	at   ptr
	n    int   // the length of a slice, whose beginning may be another slice; else 0
	node *node // of the pointer's target, the slice or the map
}

// deferred is a pointer's target whose turn comes when all else is done.
type deferred struct {
	node  *node
	at    ptr
	level int   // the encoder's
	mark  place // the encoder's mark for that level
}

func (e *encoder) run(root *node, dst []byte, p ptr) ([]byte, error) {
	dst, err := root.op.encode(e, dst, p)
	for err == nil && len(e.later) > 0 {
		dst, err = e.resume(dst)
	}
	e.reset()
	return dst, err
}

// reset makes e as new, and drops what it refers to.
func (e *encoder) reset() {
	clear(e.marks[:e.used])
	clear(e.later)
	e.depth, e.level, e.used, e.later = 0, 0, 0, e.later[:0]
}

// resume encodes what was deferred last.
func (e *encoder) resume(dst []byte) ([]byte, error) {
	last := len(e.later) - 1
	it := e.later[last]
	e.later[last] = deferred{}
	e.later = e.later[:last]
	e.depth, e.level = 0, it.level
	*e.mark() = it.mark
	return e.follow(it.node, dst, it.at)
}

// follow encodes what a pointer points to, now or later.
func (e *encoder) follow(n *node, dst []byte, p ptr) ([]byte, error) {
	if n.bounded {
		return n.op.encode(e, dst, p)
	}
	if e.depth >= inlineDepth {
		e.later = append(e.later, deferred{n, p, e.level, *e.mark()})
		return dst, nil
	}
	if err := e.enter(place{p, 0, n}); err != nil {
		return dst, err
	}
	dst, err := n.op.encode(e, dst, p)
	e.leave()
	return dst, err
}

// enter notes the descent into a place and reports a cycle.
func (e *encoder) enter(here place) error {
	if e.depth >= maxDepth {
		return errDepth
	}
	e.depth++
	e.level++
	switch mark := e.mark(); {
	case e.level&(e.level-1) == 0:
		*mark = here
	case *mark == here:
		return fmt.Errorf("codec: %s holds itself: cyclic values need WithCodec", article(here.node.typ))
	}
	return nil
}

// mark returns the mark for the level.
func (e *encoder) mark() *place {
	k := bits.Len(uint(e.level))
	e.used = max(e.used, k+1)
	return &e.marks[k]
}

func (e *encoder) leave() {
	e.depth--
	e.level--
}

// decoder is the state of one decoding.
type decoder struct {
	depth  int // as the encoder's at the same byte
	budget int // bytes of the input that no length has claimed yet
	later  []deferred
	block  []byte // memory for text that is not yet in use
}

func (d *decoder) run(root *node, src []byte, p ptr) error {
	d.budget = len(src)
	rest, err := root.op.decode(d, src, p)
	for err == nil && len(d.later) > 0 {
		rest, err = d.resume(rest)
	}
	clear(d.later)
	*d = decoder{later: d.later[:0]}
	if err == nil && len(rest) > 0 {
		return errTrailing
	}
	return err
}

// resume decodes what was deferred last.
func (d *decoder) resume(src []byte) ([]byte, error) {
	last := len(d.later) - 1
	it := d.later[last]
	d.later[last] = deferred{}
	d.later = d.later[:last]
	d.depth = 0
	return d.follow(it.node, src, it.at)
}

// follow decodes what a pointer points to, now or later.
func (d *decoder) follow(n *node, src []byte, p ptr) ([]byte, error) {
	if n.bounded {
		return n.op.decode(d, src, p)
	}
	if d.depth >= inlineDepth {
		d.later = append(d.later, deferred{node: n, at: p})
		return src, nil
	}
	d.depth++
	src, err := n.op.decode(d, src, p)
	d.depth--
	return src, err
}

// claim is asked before n values of at least min bytes each are allocated. No byte is
// claimed twice, by values within values either: what a decoding allocates stays
// proportional to its input.
func (d *decoder) claim(n, min int) error {
	if min == 0 {
		return nil
	}
	if n > d.budget/min {
		return errCount
	}
	d.budget -= n * min
	return nil
}

// enter notes the descent into a slice, map or interface.
func (d *decoder) enter() error {
	if d.depth >= maxDepth {
		return errDepth
	}
	d.depth++
	return nil
}

// Short strings of one item lie in blocks that they share: a garbage collected object
// each would cost more than they do. A block is small, so that a string which outlives its
// item keeps little else alive.
const (
	shortText = 64
	textBlock = 512
)

// text returns a copy of s, behind which rest bytes of the input are left.
func (d *decoder) text(s []byte, rest int) string {
	n := len(s)
	if n == 0 || n > shortText {
		return string(s)
	}
	if n > len(d.block) {
		d.block = make([]byte, min(n+rest, textBlock))
	}
	copy(d.block, s)
	text := textOf(d.block[:n])
	d.block = d.block[n:]
	return text
}

// appendCount appends the length of a slice or map: 0 for nil, else n+1.
func appendCount(dst []byte, n int, isNil bool) []byte {
	if isNil {
		return append(dst, 0)
	}
	return binary.AppendUvarint(dst, uint64(n)+1)
}

// cutCount cuts from src what appendCount appended.
func cutCount(src []byte) (n int, isNil bool, rest []byte, err error) {
	u, rest, err := cutUvarint(src)
	if u == 0 || err != nil {
		return 0, true, rest, err
	}
	if u > maxInt {
		return 0, false, rest, errCount
	}
	return int(u - 1), false, rest, nil
}

const maxInt = 1<<(bits.UintSize-1) - 1

func cutUvarint(src []byte) (u uint64, rest []byte, err error) {
	if len(src) > 0 && src[0] < 0x80 {
		return uint64(src[0]), src[1:], nil
	}
	u, n := binary.Uvarint(src)
	if n <= 0 {
		return 0, nil, errShort
	}
	return u, src[n:], nil
}

func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// cutString cuts a length and as many bytes, which still belong to src.
func cutString(src []byte) (s, rest []byte, err error) {
	n, rest, err := cutUvarint(src)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(rest)) {
		return nil, nil, errShort
	}
	return rest[:n:n], rest[n:], nil
}
