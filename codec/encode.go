package codec

import "errors"

// The first byte of an item that may hold pointers.
const (
	shapeTree  = 0
	shapeGraph = 1
)

// errShared ends the encoding of a tree that turns out to be a graph.
var errShared = errors.New("codec: internal error: a shared value in a tree")

// encoder is the state of one encoding.
type encoder struct {
	walker

	seen  places // where the descents of a tree have led
	graph *graph // nil while the item may be a tree

	// blurred counts values that may come back equal to one they differ from,
	// as two times do that differ in their monotonic reading only. Map keys
	// must not.
	blurred int
}

// fail ends the encoding. Those who encode many values in a row look at e.err.
func (e *encoder) fail(dst []byte, err error) []byte {
	e.walker.fail(err)
	return dst
}

// run appends the encoding of the root value at p.
func (e *encoder) run(root *node, dst []byte, p ptr) ([]byte, error) {
	start := len(dst)
	e.depth = e.base
	if root.linked {
		dst = append(dst, shapeTree)
	}
	dst = e.all(root, dst, p)
	if e.err == errShared {
		dst = e.runGraph(root, dst[:start], p)
	}

	err := e.err
	if root.linked || err != nil {
		e.reset()
	}
	return dst, err
}

// all encodes a value and what was deferred.
func (e *encoder) all(root *node, dst []byte, p ptr) []byte {
	dst = root.op.encode(e, dst, p)
	for len(e.later) > 0 && e.err == nil {
		it := e.resume()
		dst = it.node.op.encode(e, dst, it.at)
	}
	return dst
}

// reset makes e as new, and drops what it refers to.
func (e *encoder) reset() {
	e.walker.reset()
	e.seen.reset()
	e.graph = nil
}

// follow encodes a pointer to the n at p.
func (e *encoder) follow(n *node, dst []byte, p ptr) []byte {
	switch {
	case n.size == 0:
		e.blurred++                                   // all such pointers may be one
		return n.op.encode(e, append(dst, refNew), p) // it may be a lock even so
	case e.graph != nil:
		var known bool
		if dst, known = e.refer(dst, reference{p, n, 0}); known {
			return dst
		}
	case e.seen.add(number(p), n):
		return e.fail(dst, errShared)
	default:
		dst = append(dst, refNew)
	}
	return e.descend(n, dst, p)
}

// descend encodes what a pointer points to, now or later.
func (e *encoder) descend(n *node, dst []byte, p ptr) []byte {
	if n.bounded {
		return n.op.encode(e, dst, p)
	}
	if e.depth >= inlineDepth {
		e.later = append(e.later, reference{p, n, 0})
		return dst
	}
	was := e.enter(true)
	dst = n.op.encode(e, dst, p)
	e.leave(was)
	return dst
}

// places is a set of addresses of values: open addressing, a power of two of
// slots, at most half of them in use.
type places struct {
	slots []seenPlace
	n     int
}

type seenPlace struct {
	at   uintptr
	node *node
}

const fewPlaces = 32

// add adds the value of type n at p. It reports whether it was there already.
func (s *places) add(p uintptr, n *node) bool {
	if 2*s.n >= len(s.slots) {
		s.grow()
	}

	mask := uintptr(len(s.slots) - 1)
	for i := spread(p) & mask; ; i = (i + 1) & mask {
		slot := &s.slots[i]
		if slot.node == nil {
			*slot = seenPlace{p, n}
			s.n++
			return false
		}
		if slot.at == p && slot.node == n {
			return true
		}
	}
}

func (s *places) grow() {
	old := s.slots
	s.slots, s.n = make([]seenPlace, max(fewPlaces, 2*len(old))), 0
	for _, slot := range old {
		if slot.node != nil {
			s.add(slot.at, slot.node)
		}
	}
}

func (s *places) reset() {
	if s.n == 0 {
		return
	}
	// Clearing many slots after an item of a few pointers would cost more than
	// that item.
	if len(s.slots) > fewPlaces && s.n < len(s.slots)/16 || len(s.slots) > 1<<12 {
		s.slots = nil
	}
	clear(s.slots)
	s.n = 0
}

// spread makes a hash of an address, the lowest bits of which are mostly zero.
func spread(p uintptr) uintptr {
	h := uint64(p) * 0x9e3779b97f4a7c15
	return uintptr(h >> 33)
}
