package codec

import "reflect"

// fixedOp copies memory that holds no pointers: a value, or neighbouring fields
// with the padding between them.
type fixedOp struct {
	size   uintptr
	checks []check
}

func (o *fixedOp) encode(_ *encoder, dst []byte, p ptr) []byte {
	return append(dst, memory(p, o.size)...)
}

func (o *fixedOp) decode(d *decoder, src []byte, p ptr) []byte {
	if uintptr(len(src)) < o.size {
		return d.fail(errShort)
	}
	if !o.valid(src[:o.size]) {
		return d.fail(errBool)
	}
	copy(memory(p, o.size), src)
	return src[o.size:]
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

// A check tells whether a part of some memory may become a Go value. Only bool
// has bytes that may not: the compiler relies on its being 0 or 1.
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

// memoryOp is for slices whose elements hold no pointers: they are copied as
// one piece.
type memoryOp struct {
	self *node
	elem fixedOp
}

func (o *memoryOp) encode(_ *encoder, dst []byte, p ptr) []byte {
	first, n := sliceAt(p)
	dst = appendCount(dst, n, first == nil)
	return append(dst, memory(first, uintptr(n)*o.elem.size)...)
}

func (o *memoryOp) decode(d *decoder, src []byte, p ptr) []byte {
	n, src := d.count(src)
	if n < 0 {
		return src
	}
	if o.elem.size > 0 && uintptr(n) > uintptr(len(src))/o.elem.size {
		return d.fail(errCount)
	}

	size := uintptr(n) * o.elem.size
	m, rest := src[:size], src[size:]
	switch {
	case !o.elem.validEach(m):
		return d.fail(errBool)
	case o.elem.size == 1:
		*at[[]byte](p) = cloneBytes(m)
	default:
		copy(memory(o.self.makeSlice(p, n), size), m)
	}
	return rest
}
