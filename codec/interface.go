package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
)

// An interface value begins with a tag. 0 is nil; a basic type has its number, and its
// value follows, but that an int is a varint and a bool has a tag for each of its
// values; the rest are below.
const (
	tagNil   = 0
	tagTrue  = 249
	tagFalse = 250
	tagMet   = 251 // then the error's number, and the error itself in case it is gone
	tagLocal = 252 // then a type's number in this process, a uvarint
	tagError = 253 // then the name of a registered error, which is all there is to it
	tagAgain = 254 // then a type's place among those that this item has named, a uvarint
	tagNamed = 255 // then the name of a registered type, and its layout's outline
)

// The numbers of the types that are met most.
const (
	tagString  = 2
	tagInt     = 3
	tagFloat64 = 14
)

var errTag = errors.New("codec: an interface's type is none that is known")

type interfaceOp struct {
	typ        reflect.Type
	hasMethods bool
	unknown    *ValueError
}

func (o *interfaceOp) encode(e *encoder, dst []byte, p ptr) ([]byte, error) {
	x := anyAt(p, o.hasMethods)
	switch x := x.(type) {
	case nil:
		return append(dst, tagNil), nil
	case string:
		return appendString(append(dst, tagString), x), nil
	case int:
		return binary.AppendVarint(append(dst, tagInt), int64(x)), nil
	case bool:
		if x {
			return append(dst, tagTrue), nil
		}
		return append(dst, tagFalse), nil
	}

	d := dynamicOf(x)
	if d.hasOwn || d.sentinels.Load() {
		var known bool
		var err error
		if dst, known, err = e.appendIdentity(dst, d, x); known || err != nil {
			return dst, err
		}
	}
	dst, err := e.appendType(dst, d)
	if err != nil {
		return dst, err
	}
	return e.appendDynamic(dst, d, x, p)
}

// appendDynamic appends the value of the interface x, which stands at p.
func (e *encoder) appendDynamic(dst []byte, d *dynamic, x any, p ptr) ([]byte, error) {
	n := d.node()
	data := dataWord(x)
	if d.direct {
		data = dataAt(p)
	}
	was, err := e.enter(false)
	if err != nil {
		return dst, err
	}
	if d.copyFirst {
		v := reflect.New(d.typ)
		v.Elem().Set(reflect.ValueOf(x))
		data = v.UnsafePointer()
	}
	dst, err = n.op.encode(e, dst, data)
	e.leave(was)
	return dst, err
}

// appendType appends the tag for a type.
func (e *encoder) appendType(dst []byte, d *dynamic) ([]byte, error) {
	known := d.known.Load()
	switch {
	case known != nil && known.tag != tagNamed:
		return append(dst, known.tag), nil
	case e.local:
		if err := d.refusal(&e.mode); err != nil {
			return dst, err
		}
		return binary.AppendUvarint(append(dst, tagLocal), d.id), nil
	case known == nil:
		return dst, d.unknown
	}

	for i, other := range e.types {
		if other == d {
			return binary.AppendUvarint(append(dst, tagAgain), uint64(i)), nil
		}
	}
	e.types = append(e.types, d)
	dst = appendString(append(dst, tagNamed), known.name)
	return known.layout().append(dst), nil
}

var metErrors = newMet()

// appendIdentity appends what keeps the identity of an error. It is known if nothing
// else need follow.
func (e *encoder) appendIdentity(dst []byte, d *dynamic, x any) (_ []byte, known bool, err error) {
	if d.sentinels.Load() {
		if name, ok := registry.Load().nameOf(x); ok {
			return appendString(append(dst, tagError), name), true, nil
		}
	}
	if !e.local || !d.hasOwn {
		return dst, false, nil
	}

	id := metErrors.number(dataWord(x), typeWord(x))
	if id == 0 {
		return dst, false, d.crowded
	}
	return binary.LittleEndian.AppendUint32(append(dst, tagMet), id), false, nil
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
	case tagString, tagInt, tagTrue, tagFalse:
		if !o.hasMethods {
			return d.basic(tag, src, at[any](p))
		}
		return nil, errTag
	case tagError:
		return o.decodeError(src, p)
	case tagMet:
		return o.decodeMet(d, src, p)
	}

	dyn, src, err := d.cutType(tag, src)
	if err != nil {
		return nil, err
	}
	if !dyn.implements(o.typ) {
		return nil, fmt.Errorf("codec: a %v is no %v", dyn.typ, o.typ)
	}
	return o.decodeDynamic(d, dyn, src, p)
}

// basic sets x to a value of a type that is met often.
func (d *decoder) basic(tag byte, src []byte, x *any) ([]byte, error) {
	switch tag {
	case tagString:
		s, rest, err := cutString(src)
		if err == nil {
			*x = d.text(s, len(rest))
		}
		return rest, err
	case tagInt:
		i, n := binary.Varint(src)
		if n <= 0 || i != int64(int(i)) {
			return nil, errShort
		}
		*x = int(i)
		return src[n:], nil
	}
	*x = tag == tagTrue
	return src, nil
}

// decodeDynamic sets the interface at p to a value of the given type.
func (o *interfaceOp) decodeDynamic(d *decoder, dyn *dynamic, src []byte, p ptr) ([]byte, error) {
	n := dyn.node()
	if err := d.claim(1, n.min); err != nil {
		return nil, err
	}
	was, err := d.enter(false)
	if err != nil {
		return nil, err
	}

	data := reflect.New(dyn.typ).UnsafePointer()
	src, err = n.op.decode(d, src, data)
	d.leave(was)
	if err != nil {
		return nil, err
	}
	if dyn.direct {
		data = pointerAt(data)
	}
	o.set(p, withData(dyn.zero, data))
	return src, nil
}

// set sets the interface at p to x, whose type implements it.
func (o *interfaceOp) set(p ptr, x any) {
	if o.hasMethods {
		reflect.NewAt(o.typ, p).Elem().Set(reflect.ValueOf(x))
		return
	}
	*at[any](p) = x
}

// decodeError sets the interface at p to the registered error whose name src begins
// with.
func (o *interfaceOp) decodeError(src []byte, p ptr) ([]byte, error) {
	name, src, err := cutString(src)
	if err != nil {
		return nil, err
	}
	known := registry.Load().errors[string(name)]
	if known == nil {
		return nil, fmt.Errorf("codec: no error is registered as %q: call codec.RegisterError at start", name)
	}
	if t := reflect.TypeOf(known); !t.Implements(o.typ) {
		return nil, fmt.Errorf("codec: a %v is no %v", t, o.typ)
	}
	o.set(p, known)
	return src, nil
}

// decodeMet sets the interface at p to an error that is still in use, or to a copy.
func (o *interfaceOp) decodeMet(d *decoder, src []byte, p ptr) ([]byte, error) {
	if len(src) < 5 || src[4] == tagMet {
		return nil, errShort
	}
	id := binary.LittleEndian.Uint32(src)
	src, err := o.decode(d, src[4:], p)
	if err != nil {
		return nil, err
	}
	x := anyAt(p, o.hasMethods)
	if x == nil || !dynamicOf(x).hasOwn {
		return nil, errTag
	}
	if object := metErrors.object(id, typeWord(x)); object != nil && d.local {
		o.set(p, withData(x, object))
	}
	return src, nil
}

// cutType cuts the rest of what appendType appended.
func (d *decoder) cutType(tag byte, src []byte) (dyn *dynamic, rest []byte, err error) {
	switch tag {
	case tagNamed:
		return d.cutNamed(src)
	case tagAgain, tagLocal:
		id, src, err := cutUvarint(src)
		if err != nil {
			return nil, nil, err
		}
		if tag == tagAgain && id < uint64(len(d.types)) {
			return d.types[id], src, nil
		}
		if tag == tagLocal && d.local {
			dyn = dynamicAt(id)
		}
		if dyn == nil || dyn.refusal(&d.mode) != nil {
			return nil, nil, errTag
		}
		return dyn, src, nil
	}
	basic := registry.Load().basic
	if int(tag) > len(basic) {
		return nil, nil, errTag
	}
	return basic[tag-1], src, nil
}

// cutNamed cuts the name and the outline of a registered type.
func (d *decoder) cutNamed(src []byte) (dyn *dynamic, rest []byte, err error) {
	name, src, err := cutString(src)
	if err != nil {
		return nil, nil, err
	}
	was, src, err := cutOutline(src)
	if err != nil {
		return nil, nil, err
	}
	dyn = registry.Load().types[string(name)]
	if dyn == nil {
		return nil, nil, fmt.Errorf("codec: no type is registered as %q: call codec.Register at start", name)
	}
	if is := dyn.known.Load().layout(); !is.is(was) {
		return nil, nil, fmt.Errorf("codec: %s has changed since it was written: %s", name, is.difference(was))
	}
	d.types = append(d.types, dyn)
	return dyn, src, nil
}

// measure takes what the interface at p holds off m.
func (o *interfaceOp) measure(m *meter, p ptr) {
	x := anyAt(p, o.hasMethods)
	if x == nil {
		return
	}
	d := dynamicOf(x)
	data := dataWord(x)
	if d.direct {
		data = dataAt(p)
	} else {
		m.left -= int64(d.typ.Size())
	}
	if d.live != nil || d.refusal(&m.mode) != nil {
		return
	}
	if n := d.node(); !n.flat && m.enter() {
		n.op.measure(m, data)
		m.depth--
	}
}

// typeOp is for a reflect.Type, which goes by what it is as an interface's type. It is
// a pointer to what the program knows of it.
type typeOp struct{}

func (typeOp) encode(e *encoder, dst []byte, p ptr) ([]byte, error) {
	if pointerAt(p) == nil {
		return append(dst, tagNil), nil
	}
	t := reflect.NewAt(rtypeType, p).Elem().Interface().(reflect.Type)
	return e.appendType(dst, dynamicFor(t))
}

func (typeOp) decode(d *decoder, src []byte, p ptr) ([]byte, error) {
	if len(src) == 0 {
		return nil, errShort
	}
	if src[0] == tagNil {
		setPointer(p, nil)
		return src[1:], nil
	}
	dyn, src, err := d.cutType(src[0], src[1:])
	if err != nil {
		return nil, err
	}
	setPointer(p, dataWord(dyn.typ))
	return src, nil
}

func (typeOp) measure(*meter, ptr) {}
