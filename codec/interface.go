package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
)

// An interface value begins with a tag. 0 is nil; a basic type has its number,
// and its value follows, but that an int is a varint and a bool has a tag for
// each of its values. The rest are below.
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
}

func (o *interfaceOp) encode(e *encoder, dst []byte, p ptr) []byte {
	x := anyAt(p, o.hasMethods)
	switch x := x.(type) {
	case nil:
		return append(dst, tagNil)
	case string:
		return appendString(append(dst, tagString), x)
	case int:
		return binary.AppendVarint(append(dst, tagInt), int64(x))
	case float64:
		return binary.LittleEndian.AppendUint64(append(dst, tagFloat64), math.Float64bits(x))
	case bool:
		if x {
			return append(dst, tagTrue)
		}
		return append(dst, tagFalse)
	}
	return e.appendDynamic(dst, x, p)
}

// appendDynamic appends the interface x, which stands at p and is not nil.
func (e *encoder) appendDynamic(dst []byte, x any, p ptr) []byte {
	d := dynamicOf(x)
	if d.hasOwn || d.sentinels.Load() {
		var known bool
		if dst, known = e.appendIdentity(dst, d, x); known {
			return dst
		}
	}
	if dst = e.appendType(dst, d); e.err != nil {
		return dst
	}

	data := dataWord(x)
	switch {
	case d.copyFirst: // what stands in an interface is nobody's to change
		v := reflect.New(d.typ)
		v.Elem().Set(reflect.ValueOf(x))
		data = v.UnsafePointer()
	case d.direct:
		data = dataAt(p)
	}
	was := e.enter(false)
	if e.err == nil {
		dst = d.node().op.encode(e, dst, data)
	}
	e.leave(was)
	return dst
}

// appendType appends the tag for a type.
func (e *encoder) appendType(dst []byte, d *dynamic) []byte {
	known := d.known.Load()
	switch {
	case known != nil && known.tag != tagNamed:
		return append(dst, known.tag)
	case d.refusal(&e.mode) != nil:
		return e.fail(dst, d.refusal(&e.mode))
	case e.local:
		return binary.AppendUvarint(append(dst, tagLocal), d.id)
	}

	for i, other := range e.types {
		if other == d {
			return binary.AppendUvarint(append(dst, tagAgain), uint64(i))
		}
	}
	e.types = append(e.types, d)
	dst = appendString(append(dst, tagNamed), known.name)
	return append(dst, d.node().outline().encoded...)
}

var metErrors = newMet()

// appendIdentity appends what keeps the identity of an error. It is known if
// nothing else need follow.
func (e *encoder) appendIdentity(dst []byte, d *dynamic, x any) (_ []byte, known bool) {
	if d.sentinels.Load() {
		if name, ok := registry.Load().nameOf(x); ok {
			return appendString(append(dst, tagError), name), true
		}
	}
	if !e.local || !d.hasOwn || dataWord(x) == nil {
		return dst, false
	}

	id := metErrors.number(dataWord(x), typeWord(x))
	if id == 0 {
		return e.fail(dst, d.crowded), true
	}
	return binary.LittleEndian.AppendUint32(append(dst, tagMet), id), false
}

func (o *interfaceOp) decode(d *decoder, src []byte, p ptr) []byte {
	tag, src := d.byte(src)
	switch tag {
	case tagNil:
		return src
	case tagString, tagInt, tagFloat64, tagTrue, tagFalse:
		if !o.hasMethods {
			return d.basic(tag, src, at[any](p))
		}
		return d.fail(errTag)
	case tagError:
		return o.decodeError(d, src, p)
	case tagMet:
		return o.decodeMet(d, src, p)
	}

	dyn, src := d.dynamic(tag, src)
	if dyn == nil {
		return nil
	}
	if !dyn.implements(o.typ) {
		return d.fail(fmt.Errorf("codec: a %v is no %v", dyn.typ, o.typ))
	}
	return o.decodeDynamic(d, dyn, src, p)
}

// basic sets x to a value of a type that is met often.
func (d *decoder) basic(tag byte, src []byte, x *any) []byte {
	switch tag {
	case tagString:
		var s string
		s, src = d.text(src)
		*x = s
	case tagInt:
		i, n := binary.Varint(src)
		if n <= 0 || i != int64(int(i)) {
			return d.fail(errShort)
		}
		*x = int(i)
		return src[n:]
	case tagFloat64:
		if len(src) < 8 {
			return d.fail(errShort)
		}
		*x = math.Float64frombits(binary.LittleEndian.Uint64(src))
		return src[8:]
	default:
		*x = tag == tagTrue
	}
	return src
}

// decodeDynamic sets the interface at p to a value of the given type.
func (o *interfaceOp) decodeDynamic(d *decoder, dyn *dynamic, src []byte, p ptr) []byte {
	n := dyn.node()
	was := d.enter(false)
	if !d.claim(1, n.min) {
		return nil
	}
	data := dyn.newValue()
	src = n.op.decode(d, src, data)
	d.leave(was)

	if d.err != nil {
		return nil
	}
	if dyn.direct {
		data = pointerAt(data)
	}
	o.set(p, withData(dyn.zero, data))
	return src
}

// set sets the interface at p to x, whose type implements it.
func (o *interfaceOp) set(p ptr, x any) {
	if o.hasMethods {
		reflect.NewAt(o.typ, p).Elem().Set(reflect.ValueOf(x))
		return
	}
	*at[any](p) = x
}

// decodeError sets the interface at p to the registered error whose name src
// begins with.
func (o *interfaceOp) decodeError(d *decoder, src []byte, p ptr) []byte {
	name, src := d.string(src)
	known := registry.Load().errors[string(name)]
	if known == nil {
		return d.fail(fmt.Errorf("codec: no error %q: call codec.RegisterError at start", name))
	}
	if t := reflect.TypeOf(known); !t.Implements(o.typ) {
		return d.fail(fmt.Errorf("codec: a %v is no %v", t, o.typ))
	}
	o.set(p, known)
	return src
}

// decodeMet sets the interface at p to an error that is still in use, or to a
// copy.
func (o *interfaceOp) decodeMet(d *decoder, src []byte, p ptr) []byte {
	if len(src) < 5 || src[4] == tagMet {
		return d.fail(errShort)
	}
	id := binary.LittleEndian.Uint32(src)
	src = o.decode(d, src[4:], p)
	if d.err != nil {
		return nil
	}
	x := anyAt(p, o.hasMethods)
	if x == nil || !dynamicOf(x).hasOwn {
		return d.fail(errTag)
	}
	if object := metErrors.object(id, typeWord(x)); object != nil && d.local {
		o.set(p, withData(x, object))
	}
	return src
}

// dynamic cuts the rest of what appendType appended. It returns nil where it
// fails.
func (d *decoder) dynamic(tag byte, src []byte) (dyn *dynamic, rest []byte) {
	known := registry.Load()
	switch {
	case tag == tagNamed:
		return d.named(src)
	case tag == tagAgain:
		i, rest := d.uvarint(src)
		if i < uint64(len(d.types)) {
			return d.types[i], rest
		}
	case tag == tagLocal && d.local:
		id, rest := d.uvarint(src)
		if dyn = dynamicAt(id); dyn != nil && dyn.refusal(&d.mode) == nil {
			return dyn, rest
		}
	case tag > 0 && int(tag) <= len(known.basic):
		return known.basic[tag-1], src
	}
	return nil, d.fail(errTag)
}

// named cuts the name and the outline of a registered type.
func (d *decoder) named(src []byte) (dyn *dynamic, rest []byte) {
	name, src := d.string(src)
	was, src := d.outline(src)
	if d.err != nil {
		return nil, nil
	}
	dyn = registry.Load().types[string(name)]
	if dyn == nil {
		return nil, d.fail(fmt.Errorf("codec: no type %q: call codec.Register at start", name))
	}
	if is := dyn.node().outline(); !bytes.Equal(is.encoded, was) {
		text := is.difference(was)
		return nil, d.fail(fmt.Errorf("codec: %s has changed since it was written: %s", name, text))
	}
	d.types = append(d.types, dyn)
	return dyn, src
}

// measure takes what the interface at p holds off m.
func (o *interfaceOp) measure(m *meter, p ptr) {
	x := anyAt(p, o.hasMethods)
	if x == nil || m.shallow {
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

// typeOp is for a reflect.Type, which goes by what it is as an interface's
// type. It is a pointer to what the program knows of it.
type typeOp struct{}

func (typeOp) encode(e *encoder, dst []byte, p ptr) []byte {
	if pointerAt(p) == nil {
		return append(dst, tagNil)
	}
	t := reflect.NewAt(rtypeType, p).Elem().Interface().(reflect.Type)
	return e.appendType(dst, dynamicFor(t))
}

func (typeOp) decode(d *decoder, src []byte, p ptr) []byte {
	tag, src := d.byte(src)
	if tag == tagNil {
		return src
	}
	dyn, src := d.dynamic(tag, src)
	if dyn != nil {
		setPointer(p, dataWord(dyn.typ))
	}
	return src
}

func (typeOp) measure(*meter, ptr) {}
