package codec

import "reflect"

// The ops for what every type is made of. Maps, interfaces, times and marshalers have
// files of their own.

// fixedOp copies memory that holds no pointers: a value, or neighbouring fields with
// the padding between them.
type fixedOp struct {
	size   uintptr
	checks []check
}

func (o *fixedOp) encode(_ *encoder, dst []byte, p ptr) ([]byte, error) {
	return append(dst, memory(p, o.size)...), nil
}

func (o *fixedOp) decode(_ *decoder, src []byte, p ptr) ([]byte, error) {
	if uintptr(len(src)) < o.size {
		return nil, errShort
	}
	if !o.valid(src[:o.size]) {
		return nil, errBool
	}
	copy(memory(p, o.size), src)
	return src[o.size:], nil
}

func (o *fixedOp) valid(m []byte) bool {
	for i := range o.checks {
		c := &o.checks[i]
		if !c.ok(m[c.off : c.off+c.size]) {
			return false
		}
	}
	return true
}

// A check tells whether a part of some memory may become a Go value. Only bool has
// bytes that may not: the compiler relies on its being 0 or 1.
type check struct {
	off, size uintptr
	ok        func(m []byte) bool
}

// checksOf returns the checks for a t without pointers that stands at off.
func checksOf(t reflect.Type, off uintptr) []check {
	switch t.Kind() {
	case reflect.Bool:
		return []check{{off, 1, func(m []byte) bool { return m[0] <= 1 }}}
	case reflect.Struct:
		var all []check
		for i := range t.NumField() {
			f := t.Field(i)
			all = append(all, checksOf(f.Type, off+f.Offset)...)
		}
		return all
	case reflect.Array:
		elem := fixedOp{t.Elem().Size(), checksOf(t.Elem(), 0)}
		if t.Len() == 0 || elem.checks == nil {
			return nil
		}
		return []check{{off, t.Size(), elem.validEach}}
	}
	return nil
}

// validEach applies valid to each value in m.
func (o *fixedOp) validEach(m []byte) bool {
	if o.checks == nil {
		return true
	}
	for ; len(m) > 0; m = m[o.size:] {
		if !o.valid(m[:o.size]) {
			return false
		}
	}
	return true
}

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
	size uintptr // of an element
	n    int
}

func (o *arrayOp) encode(e *encoder, dst []byte, p ptr) (_ []byte, err error) {
	for i := range o.n {
		if dst, err = o.elem.op.encode(e, dst, offset(p, uintptr(i)*o.size)); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (o *arrayOp) decode(d *decoder, src []byte, p ptr) (_ []byte, err error) {
	for i := range o.n {
		if src, err = o.elem.op.decode(d, src, offset(p, uintptr(i)*o.size)); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// structOp is for structs that hold pointers.
type structOp struct{ parts []part }

// part is a field, or neighbouring ones without pointers as one.
type part struct {
	off uintptr
	op  op
}

func (o *structOp) encode(e *encoder, dst []byte, p ptr) (_ []byte, err error) {
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

// pointerOp copies what a pointer points to. Two pointers to one variable arrive as
// pointers to two.
type pointerOp struct{ elem *node }

func (o *pointerOp) encode(e *encoder, dst []byte, p ptr) ([]byte, error) {
	p = pointerAt(p)
	if p == nil {
		return append(dst, 0), nil
	}
	return e.follow(o.elem, append(dst, 1), p)
}

func (o *pointerOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	if len(src) == 0 {
		return nil, errShort
	}
	flag, src := src[0], src[1:]
	if flag == 0 {
		setPointer(p, nil)
		return src, nil
	}
	if flag != 1 {
		return nil, errFlag
	}
	if err := d.claim(1, o.elem.min); err != nil {
		return nil, err
	}
	elem := reflect.New(o.elem.typ).UnsafePointer()
	setPointer(p, elem)
	return d.follow(o.elem, src, elem)
}

// memoryOp is for slices whose elements hold no pointers: they are copied as one
// piece.
type memoryOp struct {
	typ  reflect.Type
	elem fixedOp
}

func (o *memoryOp) encode(_ *encoder, dst []byte, p ptr) ([]byte, error) {
	first, n := sliceAt(p)
	dst = appendCount(dst, n, first == nil)
	return append(dst, memory(first, uintptr(n)*o.elem.size)...), nil
}

func (o *memoryOp) decode(_ *decoder, src []byte, p ptr) ([]byte, error) {
	n, isNil, src, err := cutCount(src)
	if err != nil {
		return nil, err
	}
	if o.elem.size > 0 && uintptr(n) > uintptr(len(src))/o.elem.size {
		return nil, errCount
	}
	size := uintptr(n) * o.elem.size
	m, rest := src[:size], src[size:]
	if !o.elem.validEach(m) {
		return nil, errBool
	}
	switch {
	case isNil:
		*at[[]byte](p) = nil
	case o.elem.size == 1:
		*at[[]byte](p) = cloneBytes(m)
	default:
		copy(memory(makeSlice(o.typ, p, n), size), m)
	}
	return rest, nil
}

// sliceOp is for slices whose elements hold pointers.
type sliceOp struct {
	self *node
	elem *node
	size uintptr // of an element
}

func (o *sliceOp) encode(e *encoder, dst []byte, p ptr) (_ []byte, err error) {
	first, n := sliceAt(p)
	dst = appendCount(dst, n, first == nil)
	if n == 0 {
		return dst, nil
	}
	if o.elem.bounded {
		return o.encodeEach(e, dst, first, n)
	}
	if err := e.enter(place{first, n, o.self}); err != nil {
		return dst, err
	}
	dst, err = o.encodeEach(e, dst, first, n)
	e.leave()
	return dst, err
}

func (o *sliceOp) encodeEach(e *encoder, dst []byte, first ptr, n int) (_ []byte, err error) {
	for i := range n {
		if dst, err = o.elem.op.encode(e, dst, offset(first, uintptr(i)*o.size)); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (o *sliceOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	n, isNil, src, err := cutCount(src)
	if err != nil {
		return nil, err
	}
	if err := d.claim(n, o.elem.min); err != nil {
		return nil, err
	}
	if isNil {
		*at[[]byte](p) = nil
		return src, nil
	}
	first := makeSlice(o.self.typ, p, n)
	if n == 0 || o.elem.bounded {
		return o.decodeEach(d, src, first, n)
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	src, err = o.decodeEach(d, src, first, n)
	d.depth--
	return src, err
}

func (o *sliceOp) decodeEach(d *decoder, src []byte, first ptr, n int) (_ []byte, err error) {
	for i := range n {
		if src, err = o.elem.op.decode(d, src, offset(first, uintptr(i)*o.size)); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// makeSlice sets the slice at p, of type t, to n zero elements, and returns the
// first. Grow allocates the elements alone; MakeSlice would allocate a header too.
func makeSlice(t reflect.Type, p ptr, n int) ptr {
	*at[[]byte](p) = []byte{}
	s := reflect.NewAt(t, p).Elem()
	s.Grow(n)
	s.SetLen(n)
	first, _ := sliceAt(p)
	return first
}
