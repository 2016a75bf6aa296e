package codec

import (
	"reflect"
	"sync"
)

// Sizer returns how much memory, in bytes, a T takes: fixed, the size of T
// itself, and size, which adds everything that v refers to. If a T refers to
// nothing, size is nil. A string counts its length, a slice its capacity, a map
// an estimate of its tables. What two pointers share counts once.
//
// size takes no locks, so it never looks at what others may be using: a func, a
// channel, a context or anything else that no codec copies counts as a pointer,
// and so does a pointer to something with a lock or an atomic in it.
//
// size stops soon after it has passed limit, and then returns more than limit.
// It keeps nothing and is safe for concurrent use.
func Sizer[T any]() (fixed int64, size func(v *T, limit int64) int64) {
	t := reflect.TypeFor[T]()
	root := planOf(t)
	fixed = int64(t.Size())
	if root.flat {
		return fixed, nil
	}
	if formOf(t) == formString {
		return fixed, func(v *T, _ int64) int64 { return fixed + int64(len(*at[string](addr(v)))) }
	}
	if op, ok := root.op.(*memoryOp); ok {
		elem := int64(op.elem.size)
		return fixed, func(v *T, _ int64) int64 {
			return fixed + elem*int64(cap(*at[[]byte](addr(v))))
		}
	}

	home := homeOf(t)
	return fixed, func(v *T, limit int64) int64 {
		m := meters.Get().(*meter)
		m.mode = mode{true, home}
		total := m.total(root, addr(v), limit)
		meters.Put(m)
		return total
	}
}

// meter is the state of one measurement.
type meter struct {
	mode
	left  int64 // until the limit; negative when it is passed
	depth int
	seen  places      // pointers, slices and maps that have been measured
	later []reference // rows of values whose turn comes when the stack is small again

	// shallow: in a struct that has live parts, whoever has their other end may
	// be using what stands beside them too. It counts by itself.
	shallow bool
}

var meters = sync.Pool{New: func() any { return new(meter) }}

// total returns the size of the value at p.
func (m *meter) total(root *node, p ptr, limit int64) int64 {
	m.left = limit - int64(root.size)
	m.row(root, p, 1)
	for len(m.later) > 0 && m.left >= 0 {
		it := pop(&m.later)
		m.row(it.node, it.at, it.n)
	}
	total := limit - m.left

	m.seen.reset()
	clear(m.later)
	*m = meter{seen: m.seen, later: m.later[:0]}
	return total
}

// row takes what n values, which stay where they are, from first on refer to
// off m, now or later.
func (m *meter) row(n *node, first ptr, count int) {
	if n.flat || m.shallow {
		return
	}
	if m.depth >= inlineDepth {
		m.later = append(m.later, reference{first, n, count})
		return
	}

	m.depth++
	for i := 0; i < count && m.left >= 0; i++ {
		n.op.measure(m, offset(first, uintptr(i)*n.size))
	}
	m.depth--
}

// enter notes the descent into a value that has no address of its own, so that
// it can't be put off. What nests too deep for the stack counts as too large.
func (m *meter) enter() bool {
	if m.depth >= maxDepth {
		m.left = -1
		return false
	}
	m.depth++
	return true
}

func (o *fixedOp) measure(*meter, ptr) {}

func (stringOp) measure(m *meter, p ptr) { m.left -= int64(len(*at[string](p))) }

func (o *memoryOp) measure(m *meter, p ptr) {
	m.left -= int64(o.elem.size) * int64(cap(*at[[]byte](p)))
}

func (o *sliceOp) measure(m *meter, p ptr) {
	first, n := sliceAt(p)
	if n > 0 && !o.elem.bounded && m.seen.add(number(first), o.self) {
		return
	}
	m.left -= int64(o.elem.size) * int64(cap(*at[[]byte](p)))
	m.row(o.elem, first, n)
}

func (o *arrayOp) measure(m *meter, p ptr) { m.row(o.elem, p, o.n) }

func (o *structOp) measure(m *meter, p ptr) {
	was := m.shallow
	m.shallow = was || o.guarded(p) != nil
	for i := range o.parts {
		f := &o.parts[i]
		f.op.measure(m, offset(p, f.off))
	}
	m.shallow = was
}

func (o *pointerOp) measure(m *meter, p ptr) {
	to := pointerAt(p)
	if to == nil || o.live || m.shallow || m.seen.add(number(to), o.elem) {
		return
	}
	m.left -= int64(o.elem.size)
	m.row(o.elem, to, 1)
}
