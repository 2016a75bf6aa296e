package codec

import "reflect"

// The ops for what every type is made of. Maps, interfaces, times and
// marshalers have files of their own.

const structKind = reflect.Struct

type stringOp struct{}

func (stringOp) encode(_ *encoder, dst []byte, p ptr) []byte {
	return appendString(dst, *at[string](p))
}

func (stringOp) decode(d *decoder, src []byte, p ptr) []byte {
	*at[string](p), src = d.text(src)
	return src
}

// arrayOp is for arrays whose elements hold pointers.
type arrayOp struct {
	elem *node
	n    int
}

func (o *arrayOp) encode(e *encoder, dst []byte, p ptr) []byte {
	return encodeEach(e, o.elem, dst, p, o.n)
}

func (o *arrayOp) decode(d *decoder, src []byte, p ptr) []byte {
	return decodeEach(d, o.elem, src, p, o.n)
}

// encodeEach encodes n values of one type, the first of which is at p.
func encodeEach(e *encoder, elem *node, dst []byte, p ptr, n int) []byte {
	op := elem.part()
	for i := 0; i < n && e.err == nil; i++ {
		dst = op.encode(e, dst, offset(p, uintptr(i)*elem.size))
	}
	return dst
}

func decodeEach(d *decoder, elem *node, src []byte, p ptr, n int) []byte {
	op := elem.part()
	for i := 0; i < n && d.err == nil; i++ {
		src = op.decode(d, src, offset(p, uintptr(i)*elem.size))
	}
	return src
}

// structOp is for structs that hold pointers.
type structOp struct {
	guards []guard
	parts  []part
}

// part is a field, or neighbouring ones without pointers as one.
type part struct {
	off    uintptr
	op     op
	sparse bool // a value whose first word is zero is one zero byte, and zero memory
}

// add adds the field at off and returns the bytes that it takes at least.
func (o *structOp) add(off uintptr, n *node) int {
	field, isFixed := n.op.(*fixedOp)
	if !isFixed {
		o.parts = append(o.parts, part{off, n.part(), n.sparse()})
		return n.min
	}

	run, start := o.run(off)
	for _, ch := range field.checks {
		ch.off += off - start
		run.checks = append(run.checks, ch)
	}
	grown := off + field.size - start - run.size
	run.size += grown
	return int(grown)
}

// run returns the piece of memory that a field at off belongs to, and where it
// starts: the last part if that is memory, else a new one.
func (o *structOp) run(off uintptr) (run *fixedOp, start uintptr) {
	if n := len(o.parts); n > 0 {
		if run, ok := o.parts[n-1].op.(*fixedOp); ok {
			return run, o.parts[n-1].off
		}
	}
	run = new(fixedOp)
	o.parts = append(o.parts, part{off, run, false})
	return run, off
}

func (o *structOp) encode(e *encoder, dst []byte, p ptr) []byte {
	// What can't be copied is found before anything is.
	if err := o.guarded(p); err != nil {
		return e.fail(dst, err)
	}

	for i := 0; i < len(o.parts) && e.err == nil; i++ {
		f := &o.parts[i]
		at := offset(p, f.off)
		if f.sparse && pointerAt(at) == nil {
			dst = append(dst, 0)
			continue
		}
		dst = f.op.encode(e, dst, at)
	}
	return dst
}

// guarded returns why the struct at p can't be copied as it is now, as far as
// that can be told at a glance, or nil.
func (o *structOp) guarded(p ptr) *ValueError {
	for i := range o.guards {
		if g := &o.guards[i]; pointerAt(offset(p, g.off)) != nil {
			return g.err
		}
	}
	return nil
}

func (o *structOp) decode(d *decoder, src []byte, p ptr) []byte {
	for i := range o.parts {
		f := &o.parts[i]
		if f.sparse && len(src) > 0 && src[0] == 0 {
			src = src[1:]
			continue
		}
		src = f.op.decode(d, src, offset(p, f.off))
	}
	return src
}

// pointerOp copies what a pointer points to.
type pointerOp struct {
	elem *node
	live bool // it leads to what others may be using
}

func (o *pointerOp) encode(e *encoder, dst []byte, p ptr) []byte {
	p = pointerAt(p)
	if p == nil {
		return append(dst, refNil)
	}
	return e.follow(o.elem, dst, p)
}

func (o *pointerOp) decode(d *decoder, src []byte, p ptr) []byte {
	ref, src := d.ref(src)
	switch ref {
	case refNew:
		return o.decodeNew(d, src, p)
	case refBack:
		to, rest := d.back(src, o.elem)
		setPointer(p, to.at)
		return rest
	case refForward:
		if !d.fixedPlace {
			return d.fail(errRef)
		}
		d.forward = append(d.forward, reference{p, o.elem, 0})
	}
	return src
}

func (o *pointerOp) decodeNew(d *decoder, src []byte, p ptr) []byte {
	if !d.claim(1, o.elem.min) {
		return nil
	}
	elem := reflect.New(o.elem.typ).UnsafePointer()
	setPointer(p, elem)
	if o.elem.size == 0 {
		return o.elem.op.decode(d, src, elem)
	}
	if d.graph {
		d.met = append(d.met, reference{elem, o.elem, 0})
	}
	return d.descend(o.elem, src, elem)
}

// ref cuts the byte that a pointer begins with, or a slice or map in a graph.
func (d *decoder) ref(src []byte) (ref byte, rest []byte) {
	ref, rest = d.byte(src)
	if ref > refForward || ref > refNew && !d.graph {
		return refNil, d.fail(errFlag)
	}
	return ref, rest
}

// sliceOp is for slices whose elements hold pointers.
type sliceOp struct{ self, elem *node }

func (o *sliceOp) encode(e *encoder, dst []byte, p ptr) []byte {
	first, n := sliceAt(p)
	if o.elem.bounded {
		return encodeEach(e, o.elem, appendCount(dst, n, first == nil), first, n)
	}

	dst, done := e.begin(dst, reference{first, o.self, n})
	if done {
		return dst
	}
	was := e.enter(true)
	dst = encodeEach(e, o.elem, dst, first, n)
	e.leave(was)
	return dst
}

// begin appends what a slice or map begins with that may hold itself. It is
// done if no elements follow.
func (e *encoder) begin(dst []byte, here reference) (_ []byte, done bool) {
	if e.graph != nil && here.at != nil {
		if dst, done = e.refer(dst, here); done {
			return dst, true
		}
	} else if here.n > 0 && e.seen.add(number(here.at), here.node) {
		return e.fail(dst, errShared), true
	}
	return appendCount(dst, here.n, here.at == nil), here.n == 0
}

func (o *sliceOp) decode(d *decoder, src []byte, p ptr) []byte {
	n, to, src := d.begin(src, o.self)
	if n < 0 {
		setSlice(p, to.at, to.n)
		return src
	}
	if !d.claim(n, o.elem.min) {
		return nil
	}

	first := o.self.makeSlice(p, n)
	if o.elem.bounded {
		return decodeEach(d, o.elem, src, first, n)
	}
	if d.graph {
		d.met = append(d.met, reference{first, o.self, n})
	}
	was := d.enter(true)
	src = decodeEach(d, o.elem, src, first, n)
	d.leave(was)
	return src
}

// begin cuts what a slice or map begins with: its length, or else -1 and what
// it is, which is nothing for nil.
func (d *decoder) begin(src []byte, self *node) (n int, to reference, rest []byte) {
	if !d.graph || self.bounded {
		n, rest = d.count(src)
		return n, to, rest
	}

	ref, rest := d.ref(src)
	switch ref {
	case refNew:
		if n, rest = d.count(rest); n < 0 {
			rest = d.fail(errRef)
		}
		return n, to, rest
	case refBack:
		to, rest = d.back(rest, self)
	case refForward:
		rest = d.fail(errRef)
	}
	return -1, to, rest
}

// makeSlice sets the slice at p to n zero elements, and returns the first. Grow
// allocates the elements alone; MakeSlice would allocate a header too.
func (n *node) makeSlice(p ptr, count int) ptr {
	*at[[]byte](p) = []byte{}
	s := n.value(p)
	s.Grow(count)
	s.SetLen(count)
	s.SetCap(count)
	first, _ := sliceAt(p)
	return first
}
