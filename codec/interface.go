package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// An interface value begins with a tag: 0 for nil; a basic type's number; tagNamed,
// then the name and the fingerprint of a registered type (8 bytes, little-endian); or
// tagError and the name of a registered error, which is all there is to it.
const (
	tagNil   = 0
	tagError = 254
	tagNamed = 255
)

var errTag = errors.New("codec: an interface's type is none that is known")

// dynamic is a type that interface values may have.
type dynamic struct {
	typ  reflect.Type
	name string // stable across processes
	tag  byte   // a basic type's number, else tagNamed

	compile     func() error // once; root and fingerprint are set where it returned nil
	root        *node
	fingerprint uint64

	fits sync.Map // interface type → bool: typ implements it
}

func newDynamic(t reflect.Type, name string, tag byte) *dynamic {
	d := &dynamic{typ: t, name: name, tag: tag}
	d.compile = sync.OnceValue(func() (err error) {
		if d.root, err = planOf(t); err == nil {
			_, d.fingerprint = shape(t)
		}
		return err
	})
	return d
}

// variable is a variable of a type known at run time.
type variable struct {
	reflect.Value
	pool *sync.Pool // of *variable, which are zero
}

var variables sync.Map // reflect.Type → *sync.Pool

// variableOf returns a zero variable of type t. Call free when it is done with.
func variableOf(t reflect.Type) *variable {
	pool, ok := variables.Load(t)
	if !ok {
		pool, _ = variables.LoadOrStore(t, new(sync.Pool))
	}
	if x, ok := pool.(*sync.Pool).Get().(*variable); ok {
		return x
	}
	return &variable{reflect.New(t).Elem(), pool.(*sync.Pool)}
}

func (x *variable) free() {
	x.SetZero()
	x.pool.Put(x)
}

func (d *dynamic) implements(iface reflect.Type) bool {
	if iface.NumMethod() == 0 {
		return true
	}
	if ok, found := d.fits.Load(iface); found {
		return ok.(bool)
	}
	ok := d.typ.Implements(iface)
	d.fits.Store(iface, ok)
	return ok
}

type interfaceOp struct{ typ reflect.Type }

func (o *interfaceOp) encode(e *encoder, dst []byte, p ptr) ([]byte, error) {
	v := reflect.NewAt(o.typ, p).Elem().Elem()
	if !v.IsValid() {
		return append(dst, tagNil), nil
	}
	k := registry.Load()
	if name, ok := k.nameOf(v); ok {
		return appendString(append(dst, tagError), name), nil
	}
	d, err := k.typeOf(v.Type())
	if err != nil {
		return dst, err
	}
	if e.depth >= maxDepth {
		return dst, errDepth
	}
	x := variableOf(d.typ)
	x.Set(v)
	e.depth++
	dst, err = d.root.op.encode(e, d.appendType(dst), x.Addr().UnsafePointer())
	e.depth--
	x.free()
	return dst, err
}

func (d *dynamic) appendType(dst []byte) []byte {
	dst = append(dst, d.tag)
	if d.tag == tagNamed {
		dst = appendString(dst, d.name)
		dst = binary.LittleEndian.AppendUint64(dst, d.fingerprint)
	}
	return dst
}

func (o *interfaceOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	if len(src) == 0 {
		return nil, errShort
	}
	tag, src := src[0], src[1:]
	switch tag {
	case tagNil:
		reflect.NewAt(o.typ, p).Elem().SetZero()
		return src, nil
	case tagError:
		return o.decodeError(src, p)
	}
	dyn, src, err := cutType(tag, src)
	if err != nil {
		return nil, err
	}
	if !dyn.implements(o.typ) {
		return nil, fmt.Errorf("codec: a %v is no %v", dyn.typ, o.typ)
	}
	if err := d.claim(1, dyn.root.min); err != nil {
		return nil, err
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	x := variableOf(dyn.typ)
	src, err = dyn.root.op.decode(d, src, x.Addr().UnsafePointer())
	if err == nil {
		reflect.NewAt(o.typ, p).Elem().Set(x.Value)
	}
	x.free()
	d.depth--
	return src, err
}

// decodeError sets the interface at p to the registered error whose name src begins
// with.
func (o *interfaceOp) decodeError(src []byte, p ptr) ([]byte, error) {
	name, src, err := cutString(src)
	if err != nil {
		return nil, err
	}
	registered := registry.Load().errors[string(name)]
	if registered == nil {
		return nil, fmt.Errorf("codec: no error is registered as %q: call codec.RegisterError at start", name)
	}
	v := reflect.ValueOf(registered)
	if !v.Type().Implements(o.typ) {
		return nil, fmt.Errorf("codec: a %v is no %v", v.Type(), o.typ)
	}
	reflect.NewAt(o.typ, p).Elem().Set(v)
	return src, nil
}

// cutType cuts the rest of what appendType appended.
func cutType(tag byte, src []byte) (d *dynamic, rest []byte, err error) {
	k := registry.Load()
	if tag != tagNamed {
		if int(tag) > len(k.basic) {
			return nil, nil, errTag
		}
		d = k.basic[tag-1]
		return d, src, d.compile()
	}
	name, src, err := cutString(src)
	if err != nil {
		return nil, nil, err
	}
	if len(src) < 8 {
		return nil, nil, errShort
	}
	d = k.names[string(name)]
	if d == nil || d.tag != tagNamed {
		return nil, nil, fmt.Errorf("codec: no type is registered as %q: call codec.Register at start", name)
	}
	if err := d.compile(); err != nil {
		return nil, nil, err
	}
	if binary.LittleEndian.Uint64(src) != d.fingerprint {
		return nil, nil, fmt.Errorf("codec: %s has changed since it was written", name)
	}
	return d, src[8:], nil
}
