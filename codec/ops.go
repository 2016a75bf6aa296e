package codec

import "reflect"

// The ops for what every type is made of. Maps, interfaces, times and marshalers have
// files of their own.

const structKind = reflect.Struct

type stringOp struct{}

func (stringOp) encode(_ *encoder, dst []byte, p ptr) ([]byte, error) {
	return appendString(dst, *at[string](p)), nil
}

func (stringOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	s, rest, err := cutString(src)
	if err != nil {
		return nil, err
	}
	*at[string](p) = d.text(s, len(rest))
	return rest, nil
}

// arrayOp is for arrays whose elements hold pointers.
type arrayOp struct {
	elem *node
	n    int
}

func (o *arrayOp) encode(e *encoder, dst []byte, p ptr) (_ []byte, err error) {
	return encodeEach(e, o.elem, dst, p, o.n)
}

func (o *arrayOp) decode(d *decoder, src []byte, p ptr) (_ []byte, err error) {
	return decodeEach(d, o.elem, src, p, o.n)
}

// encodeEach encodes n values of one type, the first of which is at p.
func encodeEach(e *encoder, elem *node, dst []byte, p ptr, n int) (_ []byte, err error) {
	op := elem.part()
	for i := range n {
		if dst, err = op.encode(e, dst, offset(p, uintptr(i)*elem.size)); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func decodeEach(d *decoder, elem *node, src []byte, p ptr, n int) (_ []byte, err error) {
	op := elem.part()
	for i := range n {
		if src, err = op.decode(d, src, offset(p, uintptr(i)*elem.size)); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// structOp is for structs that hold pointers.
type structOp struct {
	guards []guard
	parts  []part
}

// part is a field, or neighbouring ones without pointers as one.
type part struct {
	off uintptr
	op  op
}

// add adds the field at off and returns the bytes that it takes at least.
func (o *structOp) add(off uintptr, n *node) int {
	field, isFixed := n.op.(*fixedOp)
	if !isFixed {
		o.parts = append(o.parts, part{off, n.part()})
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

// run returns the piece of memory that a field at off belongs to, and where it starts:
// the last part if that is memory, else a new one.
func (o *structOp) run(off uintptr) (run *fixedOp, start uintptr) {
	if n := len(o.parts); n > 0 {
		if run, ok := o.parts[n-1].op.(*fixedOp); ok {
			return run, o.parts[n-1].off
		}
	}
	run = new(fixedOp)
	o.parts = append(o.parts, part{off, run})
	return run, off
}

func (o *structOp) encode(e *encoder, dst []byte, p ptr) (_ []byte, err error) {
	// What can't be copied is found before anything is.
	for i := range o.guards {
		if g := &o.guards[i]; pointerAt(offset(p, g.off)) != nil {
			return dst, g.err
		}
	}

	for i := range o.parts {
		f := &o.parts[i]
		if dst, err = f.op.encode(e, dst, offset(p, f.off)); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (o *structOp) decode(d *decoder, src []byte, p ptr) (_ []byte, err error) {
	for i := range o.parts {
		f := &o.parts[i]
		if src, err = f.op.decode(d, src, offset(p, f.off)); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// pointerOp copies what a pointer points to.
type pointerOp struct {
	elem *node
	live bool // it leads to what others may be using
}

func (o *pointerOp) encode(e *encoder, dst []byte, p ptr) ([]byte, error) {
	p = pointerAt(p)
	if p == nil {
		return append(dst, refNil), nil
	}
	return e.follow(o.elem, dst, p)
}

func (o *pointerOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	ref, src, err := d.cutRef(src)
	if err != nil {
		return nil, err
	}
	switch ref {
	case refNew:
		return o.decodeNew(d, src, p)
	case refBack:
		to, rest, err := d.cutBack(src, o.elem)
		if err != nil {
			return nil, err
		}
		setPointer(p, to.at)
		return rest, nil
	case refForward:
		if !d.fixedPlace {
			return nil, errRef
		}
		d.forward = append(d.forward, deferred{o.elem, p})
	}
	setPointer(p, nil)
	return src, nil
}

func (o *pointerOp) decodeNew(d *decoder, src []byte, p ptr) ([]byte, error) {
	if err := d.claim(1, o.elem.min); err != nil {
		return nil, err
	}
	elem := reflect.New(o.elem.typ).UnsafePointer()
	setPointer(p, elem)
	if o.elem.size == 0 {
		return src, nil
	}
	if d.graph {
		d.met = append(d.met, reference{elem, o.elem, 0})
	}
	return d.descend(o.elem, src, elem)
}

// sliceOp is for slices whose elements hold pointers.
type sliceOp struct{ self, elem *node }

func (o *sliceOp) encode(e *encoder, dst []byte, p ptr) (_ []byte, err error) {
	first, n := sliceAt(p)
	if o.elem.bounded {
		return encodeEach(e, o.elem, appendCount(dst, n, first == nil), first, n)
	}

	dst, done, err := e.begin(dst, first, n, n, o.self)
	if done || err != nil {
		return dst, err
	}
	was, err := e.enter(true)
	if err != nil {
		return dst, err
	}
	dst, err = encodeEach(e, o.elem, dst, first, n)
	e.leave(was)
	return dst, err
}

// begin appends what a slice or map that may hold itself begins with: size is what it
// is told apart by from others in the same place, length the number of its elements.
func (e *encoder) begin(dst []byte, first ptr, size, length int, self *node) (_ []byte, done bool, err error) {
	if e.graph != nil && first != nil {
		dst, known, err := e.refer(dst, place{number(first), self, size})
		if known || err != nil {
			return dst, known, err
		}
		return appendCount(dst, length, false), length == 0, nil
	}
	if length > 0 && e.seen.add(number(first), self) {
		return dst, false, errShared
	}
	return appendCount(dst, length, first == nil), length == 0, nil
}

func (o *sliceOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	n, to, src, err := d.begin(src, o.self)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		setSlice(p, to.at, to.n)
		return src, nil
	}
	if err := d.claim(n, o.elem.min); err != nil {
		return nil, err
	}

	first := makeSlice(o.self.typ, p, n)
	if o.elem.bounded {
		return decodeEach(d, o.elem, src, first, n)
	}
	if d.graph {
		d.met = append(d.met, reference{first, o.self, n})
	}
	if n == 0 {
		return src, nil
	}
	was, err := d.enter(true)
	if err != nil {
		return nil, err
	}
	src, err = decodeEach(d, o.elem, src, first, n)
	d.leave(was)
	return src, err
}

// begin cuts what a slice or map begins with: its length, or else -1 and what it is,
// which is nothing for nil.
func (d *decoder) begin(src []byte, self *node) (n int, to reference, rest []byte, err error) {
	if d.graph && !self.bounded {
		ref, src, err := d.cutRef(src)
		switch {
		case err != nil:
			return 0, to, nil, err
		case ref == refNil:
			return -1, to, src, nil
		case ref == refBack:
			to, src, err = d.cutBack(src, self)
			return -1, to, src, err
		case ref == refForward:
			return 0, to, nil, errRef
		}
		return d.beginNew(src)
	}
	n, isNil, src, err := cutCount(src)
	if isNil {
		n = -1
	}
	return n, to, src, err
}

// beginNew cuts the length of what is not nil.
func (d *decoder) beginNew(src []byte) (n int, to reference, rest []byte, err error) {
	n, isNil, src, err := cutCount(src)
	if err == nil && isNil {
		err = errRef
	}
	return n, to, src, err
}

// makeSlice sets the slice at p, of type t, to n zero elements, and returns the first.
// Grow allocates the elements alone; MakeSlice would allocate a header too.
func makeSlice(t reflect.Type, p ptr, n int) ptr {
	*at[[]byte](p) = []byte{}
	s := reflect.NewAt(t, p).Elem()
	s.Grow(n)
	s.SetLen(n)
	s.SetCap(n)
	first, _ := sliceAt(p)
	return first
}
