package codec

import (
	"errors"
	"math/bits"
	"reflect"
	"sync"
)

var (
	errKey  = errors.New("codec: a map's key can't be hashed")
	errKeys = errors.New("codec: a map's key comes twice")
)

// mapOp is for maps. The entries travel in the order in which range gives them.
type mapOp struct {
	self     *node
	key, val *node
	entries  entries
	blurs    *ValueError // says that two keys would arrive as one
}

// entries walks and builds maps of one type. encode and measure are given a map
// that is not empty, decode makes a map of n entries.
type entries interface {
	encode(o *mapOp, e *encoder, dst []byte, p ptr) []byte
	decode(o *mapOp, d *decoder, src []byte, p ptr, n int) []byte
	measure(o *mapOp, m *meter, p ptr)
}

// entriesOf returns the entries for the map type t, whose op is o.
func entriesOf(t reflect.Type, o *mapOp) entries {
	o.blurs = &ValueError{t, ": two of its keys would arrive as one"}
	if f := typed[plain(t.Elem())]; f != nil && formOf(t.Key()) == formString {
		return f()
	}
	hashed := !inline(t.Key(), func(t reflect.Type) bool { return t.Kind() == reflect.Interface })
	return &anyEntries{typ: t, hashed: hashed}
}

// plain returns the unnamed type that values of type t can be taken for in a
// map: what is laid out and compared alike.
func plain(t reflect.Type) reflect.Type {
	switch {
	case t.Kind() == reflect.String:
		return reflect.TypeFor[string]()
	case t.Kind() == reflect.Int:
		return reflect.TypeFor[int]()
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return reflect.TypeFor[[]byte]()
	case t.Kind() == reflect.Interface && t.NumMethod() == 0:
		return reflect.TypeFor[any]()
	}
	return t
}

func (o *mapOp) encode(e *encoder, dst []byte, p ptr) []byte {
	n, before := mapLen(p), e.blurred
	here := reference{pointerAt(p), o.self, n}
	if o.self.bounded {
		if dst = appendCount(dst, n, here.at == nil); n > 0 {
			dst = o.entries.encode(o, e, dst, p)
		}
	} else {
		var done bool
		if dst, done = e.begin(dst, here); done {
			return dst
		}
		was := e.enter(false)
		dst = o.entries.encode(o, e, dst, p)
		e.leave(was)
	}

	if e.blurred != before && n > 1 && e.err == nil {
		o.keepApart(e, p)
	}
	return dst
}

// keepApart fails if two keys of the map at p would arrive as one, as two times
// do that differ in their monotonic reading only. It is slow, and called only
// for maps that hold times, or what marshals itself.
func (o *mapOp) keepApart(e *encoder, p ptr) {
	m := o.self.value(p)
	arrived := reflect.MakeMap(reflect.MapOf(o.key.typ, reflect.TypeFor[struct{}]()))
	inner := encoder{walker: e.within()}
	reader := decoder{walker: e.within()}
	for it := m.MapRange(); it.Next(); {
		key := reflect.New(o.key.typ)
		key.Elem().SetIterKey(it)
		b, err := inner.run(o.key, nil, key.UnsafePointer())
		key.Elem().SetZero()
		if err == nil {
			err = reader.run(o.key, b, key.UnsafePointer())
		}
		if err != nil {
			e.fail(nil, err)
			return
		}
		arrived.SetMapIndex(key.Elem(), reflect.ValueOf(struct{}{}))
	}
	if arrived.Len() != m.Len() {
		e.fail(nil, o.blurs)
	}
}

func (o *mapOp) decode(d *decoder, src []byte, p ptr) []byte {
	n, to, src := d.begin(src, o.self)
	if n < 0 {
		setPointer(p, to.at)
		return src
	}
	least := o.key.min + o.val.min
	switch {
	case least == 0 && n > 1: // there is but one key that takes no bytes
		return d.fail(errKeys)
	case !d.claim(n, least):
		return nil
	}

	if o.self.bounded {
		src = o.entries.decode(o, d, src, p, n)
	} else {
		was := d.enter(false)
		src = o.entries.decode(o, d, src, p, n)
		d.leave(was)
	}
	if d.err == nil && mapLen(p) != n {
		return d.fail(errKeys)
	}
	return src
}

// made notes that the map at p has been made, since what it holds may refer to
// it.
func (o *mapOp) made(d *decoder, p ptr) {
	if d.graph && !o.self.bounded {
		d.met = append(d.met, reference{pointerAt(p), o.self, 0})
	}
}

func (o *mapOp) measure(m *meter, p ptr) {
	at := pointerAt(p)
	if o.self.flat || at == nil || m.shallow || !o.self.bounded && m.seen.add(number(at), o.self) {
		return
	}
	n := mapLen(p)
	m.left -= mapSize(n, int64(o.key.size+o.val.size))
	if n > 0 && !(o.key.flat && o.val.flat) && m.enter() {
		o.entries.measure(o, m, p)
		m.depth--
	}
}

// mapSize estimates the memory of a map with n entries: its header, and slots
// with a control byte each, in a power of two of which at most 7/8 are used.
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

// anyEntries is for maps of every type. Keys and values pass through variables
// that are used again and again, so that iterating allocates nothing.
type anyEntries struct {
	typ    reflect.Type
	hashed bool      // every key can be hashed: it holds no interface
	pool   sync.Pool // of *anyVars
}

type anyVars struct {
	iter     reflect.MapIter
	key, val reflect.Value
}

func (x *anyEntries) get() *anyVars {
	if s, ok := x.pool.Get().(*anyVars); ok {
		return s
	}
	return &anyVars{key: reflect.New(x.typ.Key()).Elem(), val: reflect.New(x.typ.Elem()).Elem()}
}

// put gives s back without what it refers to.
func (x *anyEntries) put(s *anyVars) {
	s.iter.Reset(reflect.Value{})
	s.key.SetZero()
	s.val.SetZero()
	x.pool.Put(s)
}

// next sets the variables to the next entry, if there is one, and returns where
// they are.
func (s *anyVars) next() (key, val ptr, ok bool) {
	if !s.iter.Next() {
		return nil, nil, false
	}
	s.key.SetIterKey(&s.iter)
	s.val.SetIterValue(&s.iter)
	return s.key.Addr().UnsafePointer(), s.val.Addr().UnsafePointer(), true
}

func (x *anyEntries) encode(o *mapOp, e *encoder, dst []byte, p ptr) []byte {
	s := x.get()
	defer x.put(s)
	s.iter.Reset(o.self.value(p))
	for key, val, ok := s.next(); ok && e.err == nil; key, val, ok = s.next() {
		dst = o.key.op.encode(e, dst, key)
		dst = o.val.op.encode(e, dst, val)
	}
	return dst
}

func (x *anyEntries) decode(o *mapOp, d *decoder, src []byte, p ptr, n int) []byte {
	s := x.get()
	defer x.put(s)
	m := reflect.MakeMapWithSize(x.typ, n)
	o.self.value(p).Set(m)
	o.made(d, p)

	key, val := s.key.Addr().UnsafePointer(), s.val.Addr().UnsafePointer()
	for i := 0; i < n; i++ {
		s.key.SetZero()
		s.val.SetZero()
		src = o.key.op.decode(d, src, key)
		src = o.val.op.decode(d, src, val)
		if d.err != nil {
			return nil
		}
		if !x.hashed && !s.key.Comparable() {
			return d.fail(errKey)
		}
		m.SetMapIndex(s.key, s.val)
	}
	return src
}

func (x *anyEntries) measure(o *mapOp, m *meter, p ptr) {
	s := x.get()
	s.iter.Reset(o.self.value(p))
	for key, val, ok := s.next(); ok && m.left >= 0; key, val, ok = s.next() {
		o.key.op.measure(m, key)
		o.val.op.measure(m, val)
	}
	x.put(s)
}

// typed has, by the type of the values, a function for each map of strings that
// gets textEntries: they do as anyEntries do, without reflect, and are for the
// maps that are met most.
var typed = map[reflect.Type]func() entries{
	reflect.TypeFor[string]():   textEntriesFor[string],
	reflect.TypeFor[bool]():     textEntriesFor[bool],
	reflect.TypeFor[int]():      textEntriesFor[int],
	reflect.TypeFor[int64]():    textEntriesFor[int64],
	reflect.TypeFor[float64]():  textEntriesFor[float64],
	reflect.TypeFor[[]byte]():   textEntriesFor[[]byte],
	reflect.TypeFor[[]string](): textEntriesFor[[]string],
	reflect.TypeFor[any]():      textEntriesFor[any],
}

func textEntriesFor[V any]() entries { return new(textEntries[V]) }

// textEntries pass the values through a variable that is used again and again:
// its address goes to an op, which would move one on the stack to the heap.
type textEntries[V any] struct{ pool sync.Pool } // of *V

func (x *textEntries[V]) get() *V {
	if v, ok := x.pool.Get().(*V); ok {
		return v
	}
	return new(V)
}

// put gives v back without what it refers to.
func (x *textEntries[V]) put(v *V) {
	var zero V
	*v = zero
	x.pool.Put(v)
}

func (x *textEntries[V]) encode(o *mapOp, e *encoder, dst []byte, p ptr) []byte {
	v := x.get()
	for key, val := range *at[map[string]V](p) {
		*v = val
		dst = o.val.op.encode(e, appendString(dst, key), addr(v))
		if e.err != nil {
			break
		}
	}
	x.put(v)
	return dst
}

func (x *textEntries[V]) decode(o *mapOp, d *decoder, src []byte, p ptr, n int) []byte {
	m := make(map[string]V, n)
	*at[map[string]V](p) = m
	o.made(d, p)

	v := x.get()
	var zero V
	for i := 0; i < n && d.err == nil; i++ {
		var key string
		key, src = d.text(src)
		*v = zero
		src = o.val.op.decode(d, src, addr(v))
		m[key] = *v
	}
	x.put(v)
	return src
}

func (x *textEntries[V]) measure(o *mapOp, m *meter, p ptr) {
	v := x.get()
	for key, val := range *at[map[string]V](p) {
		m.left -= int64(len(key))
		if !o.val.flat {
			*v = val
			o.val.op.measure(m, addr(v))
		}
		if m.left < 0 {
			break
		}
	}
	x.put(v)
}
