package codec

import (
	"errors"
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
}

// entries reads and builds maps of one type. encode is given a map that is not
// empty, decode makes a map of n entries.
type entries interface {
	len(p ptr) int
	encode(o *mapOp, e *encoder, dst []byte, p ptr) ([]byte, error)
	decode(o *mapOp, d *decoder, src []byte, p ptr, n int) ([]byte, error)
}

func (o *mapOp) encode(e *encoder, dst []byte, p ptr) ([]byte, error) {
	n, m := o.entries.len(p), pointerAt(p)
	dst = appendCount(dst, n, m == nil)
	if n == 0 {
		return dst, nil
	}
	if o.self.bounded {
		return o.entries.encode(o, e, dst, p)
	}
	if err := e.enter(place{m, 0, o.self}); err != nil {
		return dst, err
	}
	dst, err := o.entries.encode(o, e, dst, p)
	e.leave()
	return dst, err
}

func (o *mapOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	n, isNil, src, err := cutCount(src)
	if err != nil {
		return nil, err
	}
	if err := o.claim(d, n); err != nil {
		return nil, err
	}
	if isNil {
		setPointer(p, nil)
		return src, nil
	}
	if n == 0 || o.self.bounded {
		return o.decodeEntries(d, src, p, n)
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	src, err = o.decodeEntries(d, src, p, n)
	d.depth--
	return src, err
}

// claim asks for n entries. Where an entry takes no bytes, there is but one key.
func (o *mapOp) claim(d *decoder, n int) error {
	min := o.key.min + o.val.min
	if min == 0 && n > 1 {
		return errKeys
	}
	return d.claim(n, min)
}

func (o *mapOp) decodeEntries(d *decoder, src []byte, p ptr, n int) ([]byte, error) {
	src, err := o.entries.decode(o, d, src, p, n)
	if err == nil && o.entries.len(p) != n {
		return nil, errKeys
	}
	return src, err
}

// anyEntries is for maps of every type. Keys and values pass through variables that
// are used again and again, so that iterating allocates nothing.
type anyEntries struct {
	typ    reflect.Type
	hashed bool // every key can be hashed: it holds no interface
	vars   entryPool
}

// entryPool holds the variables that a map of one type is iterated with.
type entryPool struct {
	typ  reflect.Type
	pool sync.Pool // of *entryVars
}

type entryVars struct {
	iter     reflect.MapIter
	key, val reflect.Value
}

func (x *entryPool) get() *entryVars {
	if s, ok := x.pool.Get().(*entryVars); ok {
		return s
	}
	return &entryVars{key: reflect.New(x.typ.Key()).Elem(), val: reflect.New(x.typ.Elem()).Elem()}
}

// put gives s back without what it refers to.
func (x *entryPool) put(s *entryVars) {
	s.iter.Reset(reflect.Value{})
	s.key.SetZero()
	s.val.SetZero()
	x.pool.Put(s)
}

func (x *anyEntries) len(p ptr) int { return reflect.NewAt(x.typ, p).Elem().Len() }

func (x *anyEntries) encode(o *mapOp, e *encoder, dst []byte, p ptr) (_ []byte, err error) {
	s := x.vars.get()
	defer x.vars.put(s)
	s.iter.Reset(reflect.NewAt(x.typ, p).Elem())
	for s.iter.Next() {
		s.key.SetIterKey(&s.iter)
		s.val.SetIterValue(&s.iter)
		if dst, err = o.key.op.encode(e, dst, s.key.Addr().UnsafePointer()); err != nil {
			return dst, err
		}
		if dst, err = o.val.op.encode(e, dst, s.val.Addr().UnsafePointer()); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (x *anyEntries) decode(o *mapOp, d *decoder, src []byte, p ptr, n int) (_ []byte, err error) {
	s := x.vars.get()
	defer x.vars.put(s)
	m := reflect.MakeMapWithSize(x.typ, n)
	reflect.NewAt(x.typ, p).Elem().Set(m)
	for range n {
		if src, err = o.key.op.decode(d, src, s.key.Addr().UnsafePointer()); err != nil {
			return nil, err
		}
		if !x.hashed && !s.key.Comparable() {
			return nil, errKey
		}
		if src, err = o.val.op.decode(d, src, s.val.Addr().UnsafePointer()); err != nil {
			return nil, err
		}
		m.SetMapIndex(s.key, s.val)
	}
	return src, nil
}

// typedEntries is for the maps that are met most, without reflect.
type typedEntries[K comparable, V any] struct {
	pool sync.Pool // of *typedVars[K, V]
}

type typedVars[K comparable, V any] struct {
	key K
	val V
}

// newTyped has a function for each unnamed map type that gets typedEntries.
var newTyped = map[reflect.Type]func() entries{
	reflect.TypeFor[map[string]string]():   func() entries { return stringEntries{} },
	reflect.TypeFor[map[string]bool]():     typedFor[string, bool],
	reflect.TypeFor[map[string]int]():      typedFor[string, int],
	reflect.TypeFor[map[string]int64]():    typedFor[string, int64],
	reflect.TypeFor[map[string]float64]():  typedFor[string, float64],
	reflect.TypeFor[map[string][]byte]():   typedFor[string, []byte],
	reflect.TypeFor[map[string][]string](): typedFor[string, []string],
	reflect.TypeFor[map[string]any]():      typedFor[string, any],
	reflect.TypeFor[map[int]string]():      typedFor[int, string],
	reflect.TypeFor[map[int]int]():         typedFor[int, int],
	reflect.TypeFor[map[int64]string]():    typedFor[int64, string],
	reflect.TypeFor[map[uint64]string]():   typedFor[uint64, string],
}

func typedFor[K comparable, V any]() entries { return new(typedEntries[K, V]) }

// entriesOf returns the entries for the map type t.
func entriesOf(t reflect.Type) entries {
	if f := newTyped[reflect.MapOf(t.Key(), t.Elem())]; f != nil {
		return f()
	}
	return &anyEntries{typ: t, hashed: !holdsInterface(t.Key()), vars: entryPool{typ: t}}
}

// holdsInterface reports whether a map's key type t may turn out unhashable.
func holdsInterface(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Array:
		return holdsInterface(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsInterface(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

func (x *typedEntries[K, V]) get() *typedVars[K, V] {
	if s, ok := x.pool.Get().(*typedVars[K, V]); ok {
		return s
	}
	return new(typedVars[K, V])
}

// put gives s back without what it refers to.
func (x *typedEntries[K, V]) put(s *typedVars[K, V]) {
	*s = typedVars[K, V]{}
	x.pool.Put(s)
}

func (x *typedEntries[K, V]) len(p ptr) int { return len(*at[map[K]V](p)) }

func (x *typedEntries[K, V]) encode(o *mapOp, e *encoder, dst []byte, p ptr) (_ []byte, err error) {
	s := x.get()
	defer x.put(s)
	for k, v := range *at[map[K]V](p) {
		s.key, s.val = k, v
		if dst, err = o.key.op.encode(e, dst, addr(&s.key)); err != nil {
			return dst, err
		}
		if dst, err = o.val.op.encode(e, dst, addr(&s.val)); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (x *typedEntries[K, V]) decode(o *mapOp, d *decoder, src []byte, p ptr, n int) (_ []byte, err error) {
	s := x.get()
	defer x.put(s)
	m := make(map[K]V, n)
	*at[map[K]V](p) = m
	for range n {
		if src, err = o.key.op.decode(d, src, addr(&s.key)); err != nil {
			return nil, err
		}
		if src, err = o.val.op.decode(d, src, addr(&s.val)); err != nil {
			return nil, err
		}
		m[s.key] = s.val
	}
	return src, nil
}

// stringEntries is for map[string]string, the map that is met most.
type stringEntries struct{}

func (stringEntries) len(p ptr) int { return len(*at[map[string]string](p)) }

func (stringEntries) encode(_ *mapOp, _ *encoder, dst []byte, p ptr) ([]byte, error) {
	for k, v := range *at[map[string]string](p) {
		dst = appendString(appendString(dst, k), v)
	}
	return dst, nil
}

func (stringEntries) decode(_ *mapOp, d *decoder, src []byte, p ptr, n int) ([]byte, error) {
	m := make(map[string]string, n)
	*at[map[string]string](p) = m
	for range n {
		k, rest, err := cutString(src)
		if err != nil {
			return nil, err
		}
		v, rest, err := cutString(rest)
		if err != nil {
			return nil, err
		}
		m[d.text(k, len(v)+len(rest))] = d.text(v, len(rest))
		src = rest
	}
	return src, nil
}
