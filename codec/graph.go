package codec

import (
	"encoding/binary"
	"errors"
)

// An item in which something is reached twice, or that holds itself, is encoded
// as a graph. What can be referred to has a number, in the order in which it is
// met: what pointers point to, slices and maps that may hold themselves, and
// structs within others or within slices, since a pointer may point at those
// too. Where a pointer, slice or map would begin, there is one of
const (
	refNil     = 0 // nil
	refNew     = 1 // it follows; for slices and maps, behind the length
	refBack    = 2 // it was met before, under the number that follows
	refForward = 3 // for pointers: to a struct within what comes later
)

// The numbers of the latter stand at the end of the item, in the order of the
// pointers.

var (
	errRef     = errors.New("codec: a reference to what is not there")
	errTangled = errors.New("codec: a map or interface points into the middle of what comes later")
)

// graph is the state of encoding one.
type graph struct {
	met     map[reference]meeting
	numbers int // given so far

	// within holds what a pointer led to before it was met within something
	// else: the next run refers to it from there.
	within map[reference]bool
	missed int // places that this run has added to within

	forward []reference
}

// reference is a value that can be referred to, or whose turn comes later.
type reference struct {
	at   ptr
	node *node
	n    int // length of a slice, whose beginning may be another, of a map or of a row
}

type meeting struct {
	number    int
	byPointer bool
}

// runGraph appends the encoding of the root value at p as a graph. It is tried
// again as long as pointers turn out to lead into the middle of something, but
// not for ever.
func (e *encoder) runGraph(root *node, dst []byte, p ptr) []byte {
	start := len(dst)
	within := map[reference]bool{}
	for range 8 {
		e.reset()
		e.graph = &graph{met: map[reference]meeting{}, within: within}
		dst = e.all(root, append(dst[:start], shapeGraph), p)
		if e.err != nil || e.graph.missed == 0 {
			return e.appendForward(dst)
		}
	}
	return e.fail(dst, errTangled)
}

func (e *encoder) appendForward(dst []byte) []byte {
	for _, to := range e.graph.forward {
		m, ok := e.graph.met[to]
		if !ok {
			return e.fail(dst, errTangled)
		}
		dst = binary.AppendUvarint(dst, uint64(m.number))
	}
	return dst
}

// refer appends a reference. If it is not known what follows is the value
// itself.
func (e *encoder) refer(dst []byte, to reference) (_ []byte, known bool) {
	g := e.graph
	if m, ok := g.met[to]; ok {
		return binary.AppendUvarint(append(dst, refBack), uint64(m.number)), true
	}
	if g.within[to] {
		// The reader can't return to a place that is not fixed.
		if !e.fixedPlace {
			e.fail(dst, errTangled)
		}
		g.forward = append(g.forward, to)
		return append(dst, refForward), true
	}

	g.met[to] = meeting{g.numbers, true}
	g.numbers++
	return append(dst, refNew), false
}

// part returns the op for an n that is part of something else: structs that may
// hold themselves get a number.
func (n *node) part() op {
	if !n.bounded && n.typ.Kind() == structKind {
		return n
	}
	return n.op
}

// A node is the op for such a struct.

func (n *node) encode(e *encoder, dst []byte, p ptr) []byte {
	if g := e.graph; g != nil && e.fixedPlace {
		here := reference{p, n, 0}
		if m, ok := g.met[here]; !ok {
			g.met[here] = meeting{g.numbers, false}
		} else if m.byPointer {
			g.within[here] = true
			g.missed++
		}
		g.numbers++
	}
	return n.op.encode(e, dst, p)
}

func (n *node) decode(d *decoder, src []byte, p ptr) []byte {
	if d.graph && d.fixedPlace {
		d.met = append(d.met, reference{p, n, 0})
	}
	return n.op.decode(d, src, p)
}

func (n *node) measure(m *meter, p ptr) { n.op.measure(m, p) }

// back cuts the number of what was met before, and which is to be an n.
func (d *decoder) back(src []byte, n *node) (to reference, rest []byte) {
	k, rest := d.uvarint(src)
	if k >= uint64(len(d.met)) || d.met[k].node != n {
		return to, d.fail(errRef)
	}
	return d.met[k], rest
}

// resolve sets the pointers that lead forward.
func (d *decoder) resolve(src []byte) []byte {
	for _, it := range d.forward {
		var to reference
		if to, src = d.back(src, it.node); d.err != nil {
			return nil
		}
		setPointer(it.at, to.at)
	}
	return src
}
