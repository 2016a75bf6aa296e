package codec

import (
	"context"
	"math/bits"
	"reflect"
	"sync"
)

// Sizer returns how much memory a waiting T holds: fixed, the size of T itself, and
// size, which adds all that v refers to. Where a T refers to nothing size is nil, and
// fixed is the answer. A string counts its length, a slice its capacity, a map an
// estimate of its tables. What two pointers share counts twice.
//
// size never walks into what others may be using, since it takes no locks: a func, a
// channel, a context and whatever else no codec copies counts as a pointer, and so
// does a pointer to something with a lock or an atomic in it.
//
// size stops counting soon after it has passed limit and then returns more than
// limit, so that it comes back even from a cyclic value. It keeps nothing and is safe for
// concurrent use.
func Sizer[T any]() (fixed int64, size func(v *T, limit int64) int64) {
	t := reflect.TypeFor[T]()
	g := gaugeOf(t)
	switch {
	case g.measure == nil:
		return g.size, nil
	case t.Kind() == reflect.String:
		return g.size, func(v *T, _ int64) int64 {
			return g.size + int64(len(*at[string](addr(v))))
		}
	case t.Kind() == reflect.Slice && gaugeOf(t.Elem()).measure == nil:
		elem := int64(t.Elem().Size())
		return g.size, func(v *T, _ int64) int64 {
			return g.size + elem*int64(cap(*at[[]byte](addr(v))))
		}
	}
	return g.size, func(v *T, limit int64) int64 { return g.total(addr(v), limit) }
}

// gauge measures values of one type.
type gauge struct {
	size    int64                 // of a value itself
	measure func(m *meter, p ptr) // takes what the value at p refers to off m; nil if nothing
}

// meter is the state of one measurement.
type meter struct {
	left  int64 // until the limit; negative when it is passed
	depth int
	later []unmeasured
}

// unmeasured is a row of values whose turn comes when the stack is small again.
type unmeasured struct {
	g     *gauge
	first ptr
	n     int
}

var meters = sync.Pool{New: func() any { return new(meter) }}

// total returns the size of the value at p.
func (g *gauge) total(p ptr, limit int64) int64 {
	m := meters.Get().(*meter)
	m.left = limit - g.size
	m.row(g, p, 1)
	for len(m.later) > 0 && m.left >= 0 {
		last := len(m.later) - 1
		it := m.later[last]
		m.later[last] = unmeasured{}
		m.later = m.later[:last]
		m.row(it.g, it.first, it.n)
	}
	total := limit - m.left
	clear(m.later)
	*m = meter{later: m.later[:0]}
	meters.Put(m)
	return total
}

// row takes what n values, which stay where they are, from first on refer to, now or later.
func (m *meter) row(g *gauge, first ptr, n int) {
	if g.measure == nil {
		return
	}
	if m.depth >= inlineDepth {
		m.later = append(m.later, unmeasured{g, first, n})
		return
	}
	m.depth++
	for i := 0; i < n && m.left >= 0; i++ {
		g.measure(m, offset(first, uintptr(i)*uintptr(g.size)))
	}
	m.depth--
}

// gauges holds the gauges of every type that was ever measured: all are complete, but
// for those that a compilation under way keeps to itself.
var gauges struct {
	sync.Mutex
	known sync.Map // reflect.Type → *gauge
}

func gaugeOf(t reflect.Type) *gauge {
	if g, ok := gauges.known.Load(t); ok {
		return g.(*gauge)
	}
	gauges.Lock()
	defer gauges.Unlock()
	fresh := gaugeCompiler{}
	g := fresh.gauge(t)
	for t, g := range fresh {
		gauges.known.Store(t, g)
	}
	return g
}

// refers reports whether a t may refer to more memory than its own, as far as that
// is measured.
func refers(t reflect.Type) bool {
	if holdsLock(t) {
		return false
	}
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Interface:
		return true
	case reflect.Pointer:
		return !holdsLock(t.Elem())
	case reflect.Map:
		return !isLive(t.Key()) && !isLive(t.Elem())
	case reflect.Array:
		return t.Len() > 0 && refers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if refers(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// holdsLock reports whether a lock, an atomic or the like is part of a t. Someone
// may be using what stands beside it.
func holdsLock(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && holdsLock(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsLock(t.Field(i).Type) {
				return true
			}
		}
	}
	return t.PkgPath() == "sync" || t.PkgPath() == "sync/atomic" || isLock(t)
}

// isLive reports whether a t that is not nil is part of a running program, and no
// data. A map of such things is likely to be in use.
func isLive(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return true
	case reflect.Pointer:
		return holdsLock(t.Elem())
	case reflect.Interface:
		return t.Implements(contextType)
	}
	return holdsLock(t)
}

var contextType = reflect.TypeFor[context.Context]()

// isData reports whether a codec may copy what an interface holds as a t.
func isData(t reflect.Type) bool {
	if isLive(t) || t.Implements(contextType) {
		return false
	}
	_, err := planOf(t)
	return err == nil
}

// gaugeCompiler holds the gauges of one compilation. A type that comes up again
// within itself finds its gauge here, not yet complete.
type gaugeCompiler map[reflect.Type]*gauge

func (c gaugeCompiler) gauge(t reflect.Type) *gauge {
	if g, ok := gauges.known.Load(t); ok {
		return g.(*gauge)
	}
	if g := c[t]; g != nil {
		return g
	}
	g := &gauge{size: int64(t.Size())}
	c[t] = g
	if !refers(t) {
		return g
	}
	switch t.Kind() {
	case reflect.String:
		g.measure = func(m *meter, p ptr) { m.left -= int64(len(*at[string](p))) }
	case reflect.Slice:
		g.measure = measureSlice(c.gauge(t.Elem()))
	case reflect.Pointer:
		g.measure = measurePointer(c.gauge(t.Elem()))
	case reflect.Array:
		g.measure = measureArray(c.gauge(t.Elem()), t.Len())
	case reflect.Struct:
		g.measure = c.measureStruct(t)
	case reflect.Map:
		g.measure = measureMap(t, c.gauge(t.Key()), c.gauge(t.Elem()))
	case reflect.Interface:
		g.measure = measureInterface(t)
	}
	return g
}

func measureSlice(elem *gauge) func(*meter, ptr) {
	return func(m *meter, p ptr) {
		first, n := sliceAt(p)
		m.left -= int64(cap(*at[[]byte](p))) * elem.size
		m.row(elem, first, n)
	}
}

func measurePointer(elem *gauge) func(*meter, ptr) {
	return func(m *meter, p ptr) {
		if to := pointerAt(p); to != nil {
			m.left -= elem.size
			m.row(elem, to, 1)
		}
	}
}

func measureArray(elem *gauge, n int) func(*meter, ptr) {
	return func(m *meter, p ptr) {
		for i := 0; i < n && m.left >= 0; i++ {
			elem.measure(m, offset(p, uintptr(i)*uintptr(elem.size)))
		}
	}
}

func (c gaugeCompiler) measureStruct(t reflect.Type) func(*meter, ptr) {
	type part struct {
		off uintptr
		g   *gauge
	}
	var parts []part
	for i := range t.NumField() {
		if f := t.Field(i); refers(f.Type) {
			parts = append(parts, part{f.Offset, c.gauge(f.Type)})
		}
	}
	return func(m *meter, p ptr) {
		for i := range parts {
			parts[i].g.measure(m, offset(p, parts[i].off))
		}
	}
}

func measureMap(t reflect.Type, key, val *gauge) func(*meter, ptr) {
	if t.ConvertibleTo(reflect.TypeFor[map[string]string]()) {
		return func(m *meter, p ptr) { m.strings(*at[map[string]string](p), key.size+val.size) }
	}
	vars := entryPool{typ: t}
	return func(m *meter, p ptr) {
		v := reflect.NewAt(t, p).Elem()
		if v.IsNil() {
			return
		}
		m.left -= mapSize(v.Len(), key.size+val.size)
		if key.measure == nil && val.measure == nil || v.Len() == 0 || !m.enter() {
			return
		}
		s := vars.get()
		s.iter.Reset(v)
		for m.left >= 0 && s.iter.Next() {
			s.key.SetIterKey(&s.iter)
			s.val.SetIterValue(&s.iter)
			m.variable(key, s.key)
			m.variable(val, s.val)
		}
		vars.put(s)
		m.depth--
	}
}

// strings measures the map that is met most.
func (m *meter) strings(v map[string]string, entry int64) {
	if v == nil {
		return
	}
	m.left -= mapSize(len(v), entry)
	for key, val := range v {
		m.left -= int64(len(key) + len(val))
	}
}

// mapSize estimates the memory of a map with n entries: its header, and slots with a
// control byte each, in a power of two of which at most 7/8 are used.
func mapSize(n int, entry int64) int64 {
	if n == 0 {
		return 48
	}
	slots := int64(8)
	if n > 8 {
		slots = 1 << bits.Len(uint(n)*8/7)
	}
	return 48 + slots*(entry+1)
}

var boxedGauges sync.Map // reflect.Type → *gauge

// boxedGaugeOf returns the gauge for what an interface holds as a t.
func boxedGaugeOf(t reflect.Type) *gauge {
	if g, ok := boxedGauges.Load(t); ok {
		return g.(*gauge)
	}
	g := &gauge{size: int64(t.Size())}
	if isData(t) {
		g = gaugeOf(t)
	}
	boxedGauges.Store(t, g)
	return g
}

func measureInterface(t reflect.Type) func(*meter, ptr) {
	return func(m *meter, p ptr) {
		v := reflect.NewAt(t, p).Elem().Elem()
		if !v.IsValid() {
			return
		}
		g := boxedGaugeOf(v.Type())
		if k := v.Kind(); k != reflect.Pointer && k != reflect.Map && k != reflect.Chan && k != reflect.Func {
			m.left -= g.size
		}
		if g.measure == nil || !m.enter() {
			return
		}
		x := variableOf(v.Type())
		x.Set(v)
		m.variable(g, x.Value)
		x.free()
		m.depth--
	}
}

// enter notes the descent into a value that has no address of its own, so that it
// can't be put off. What nests too deep for the stack counts as too large.
func (m *meter) enter() bool {
	if m.depth >= maxDepth {
		m.left = -1
		return false
	}
	m.depth++
	return true
}

// variable takes what a copy in the variable v refers to off m.
func (m *meter) variable(g *gauge, v reflect.Value) {
	if g.measure != nil {
		g.measure(m, v.Addr().UnsafePointer())
	}
}
