package codec

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
)

var (
	appenderType    = reflect.TypeFor[encoding.BinaryAppender]()
	marshalerType   = reflect.TypeFor[encoding.BinaryMarshaler]()
	unmarshalerType = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// marshals reports whether t's values go as what they marshal to: t has both
// directions, by methods of its own, and loses nothing by it.
func marshals(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	if !p.Implements(unmarshalerType) || !p.Implements(appenderType) && !p.Implements(marshalerType) {
		return false
	}
	// A URL marshals to its text, from which not every URL can be read back.
	if t == reflect.TypeFor[url.URL]() {
		return false
	}
	return !promotes(t)
}

// promotes reports whether an embedded field of t has one of the methods: t may have
// it from there, and it would carry that field alone.
func promotes(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.Anonymous {
			continue
		}
		for _, has := range []reflect.Type{f.Type, reflect.PointerTo(f.Type)} {
			if has.Implements(appenderType) || has.Implements(marshalerType) || has.Implements(unmarshalerType) {
				return true
			}
		}
	}
	return false
}

// marshalOp is for types that marshal themselves.
type marshalOp struct{ typ reflect.Type }

func (o *marshalOp) encode(_ *encoder, dst []byte, p ptr) ([]byte, error) {
	start := len(dst)
	dst, err := marshal(reflect.NewAt(o.typ, p).Interface(), append(dst, 0))
	if err != nil {
		return nil, fmt.Errorf("codec: marshal %v: %w", o.typ, err)
	}
	n := len(dst) - start - 1
	if n < 0 {
		return nil, fmt.Errorf("codec: marshal %v: AppendBinary returned less than it was given", o.typ)
	}
	if n < 0x80 {
		dst[start] = byte(n)
		return dst, nil
	}
	var size [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(size[:], uint64(n))
	dst = slices.Insert(dst, start, size[:k-1]...)
	copy(dst[start:], size[:k])
	return dst, nil
}

// marshal appends what v, a pointer to a marshaler, marshals to. A panic becomes an
// error: v's methods are not ours.
func marshal(v any, dst []byte) (_ []byte, err error) {
	defer recovered(&err)
	if a, ok := v.(encoding.BinaryAppender); ok {
		return a.AppendBinary(dst)
	}
	b, err := v.(encoding.BinaryMarshaler).MarshalBinary()
	return append(dst, b...), err
}

func (o *marshalOp) decode(_ *decoder, src []byte, p ptr) ([]byte, error) {
	b, rest, err := cutString(src)
	if err != nil {
		return nil, err
	}
	v := reflect.NewAt(o.typ, p)
	v.Elem().SetZero()
	if err := unmarshal(v.Interface().(encoding.BinaryUnmarshaler), b); err != nil {
		return nil, fmt.Errorf("codec: unmarshal %v: %w", o.typ, err)
	}
	return rest, nil
}

func unmarshal(v encoding.BinaryUnmarshaler, src []byte) (err error) {
	defer recovered(&err)
	return v.UnmarshalBinary(src)
}

// recovered is deferred by what calls a user's method.
func recovered(err *error) {
	switch p := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("panic: %w", p)
	default:
		*err = errors.New(fmt.Sprint("panic: ", p))
	}
}
