package codec

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// A way is how values of a type marshal themselves and are made again. Both
// functions are given a pointer to the value.
type way struct {
	name      string // for the label
	marshal   func(v any, dst []byte) ([]byte, error)
	unmarshal func(v any, src []byte) error

	from, to reflect.Type // the interfaces with the methods
}

// ways are the ways of the standard library. The first that a type has is
// taken.
var ways = []*way{
	newWay("binary", encoding.BinaryAppender.AppendBinary, unmarshalBinary),
	newWay("binary", marshaled(encoding.BinaryMarshaler.MarshalBinary), unmarshalBinary),
	newWay("text", marshaled(encoding.TextMarshaler.MarshalText), unmarshalText),
	newWay("json", marshaled(json.Marshaler.MarshalJSON), json.Unmarshaler.UnmarshalJSON),
}

var (
	unmarshalBinary = encoding.BinaryUnmarshaler.UnmarshalBinary
	unmarshalText   = encoding.TextUnmarshaler.UnmarshalText
)

func newWay[M, U any](
	name string, marshal func(M, []byte) ([]byte, error), unmarshal func(U, []byte) error,
) *way {
	return &way{
		name:      name,
		marshal:   func(v any, dst []byte) ([]byte, error) { return marshal(v.(M), dst) },
		unmarshal: func(v any, src []byte) error { return unmarshal(v.(U), src) },
		from:      reflect.TypeFor[M](),
		to:        reflect.TypeFor[U](),
	}
}

// marshaled makes an appending method of one that allocates.
func marshaled[M any](marshal func(M) ([]byte, error)) func(M, []byte) ([]byte, error) {
	return func(v M, dst []byte) ([]byte, error) {
		b, err := marshal(v)
		return append(dst, b...), err
	}
}

// wayOf returns how a t marshals itself, if it does so by methods of its own
// and in both directions, or nil.
func wayOf(t reflect.Type) *way {
	if w := customOf(t); w != nil {
		return w
	}
	if isProto(t) {
		return &protoWay
	}
	for _, w := range ways {
		if owns(t, w.from, w.to) {
			return w
		}
	}
	return nil
}

// owns reports whether pointers to t have both methods, and not from an
// embedded field: they would carry that field alone.
func owns(t, marshaler, unmarshaler reflect.Type) bool {
	p := reflect.PointerTo(t)
	if t.Kind() == reflect.Interface || !p.Implements(marshaler) || !p.Implements(unmarshaler) {
		return false
	}
	return !embeds(t, func(t reflect.Type) bool {
		return t.Implements(marshaler) || t.Implements(unmarshaler)
	})
}

// embeds reports whether has holds for an embedded field of t, or for a pointer
// to one.
func embeds(t reflect.Type, has func(reflect.Type) bool) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && (has(f.Type) || has(reflect.PointerTo(f.Type))) {
			return true
		}
	}
	return false
}

var customs sync.Map // reflect.Type → *way: those given to RegisterCodec

func customOf(t reflect.Type) *way {
	w, _ := customs.Load(t)
	custom, _ := w.(*way)
	return custom
}

// marshalOp is for types that go as what they marshal to.
type marshalOp struct {
	typ   reflect.Type
	way   *way
	local error // why Local does not take it; nil if it does
	exact bool  // no part of it is live: what is unmarshaled must be equal
	plan  *node // walks what a value is made of
}

func (c compiler) marshaler(t reflect.Type) *marshalOp {
	o := &marshalOp{typ: t, way: wayOf(t), plan: c.shadow(t)}
	switch {
	case customOf(t) != nil || isProto(t):
	case travelsLocally(t):
		o.exact = true
	default:
		o.local = &ValueError{t, ", which has parts that are no data"}
	}
	return o
}

func (o *marshalOp) encode(e *encoder, dst []byte, p ptr) []byte {
	if e.local && o.local != nil {
		return e.fail(dst, o.local)
	}

	start := len(dst)
	out, err := o.marshal(dst, p)
	if err == nil && o.typ != addrType {
		err = o.check(out[start:], p)
	}
	if err != nil {
		return e.fail(dst, err)
	}
	e.blurred++
	return prefixed(out, start)
}

// check unmarshals what the value at p has marshaled to. Not all that marshals
// can be unmarshaled, nor comes back whole, and now is the time to know.
func (o *marshalOp) check(src []byte, p ptr) error {
	v := reflect.New(o.typ)
	if err := o.unmarshal(v, src); err != nil {
		return err
	}
	if o.exact && !reflect.DeepEqual(v.Interface(), reflect.NewAt(o.typ, p).Interface()) {
		return &ValueError{o.typ, ", which loses something when it marshals itself"}
	}
	return nil
}

// marshal appends what the value at p marshals to. A panic becomes an error:
// its methods are not ours.
func (o *marshalOp) marshal(dst []byte, p ptr) (out []byte, err error) {
	defer recovered(&err, "marshal", o.typ)
	out, err = o.way.marshal(reflect.NewAt(o.typ, p).Interface(), dst)
	if err == nil && len(out) < len(dst) {
		err = errors.New("it returned less than it was given")
	}
	return out, err
}

func (o *marshalOp) decode(d *decoder, src []byte, p ptr) []byte {
	b, rest := d.string(src)
	if d.err != nil {
		return nil
	}
	v := reflect.NewAt(o.typ, p)
	v.Elem().SetZero()
	if err := o.unmarshal(v, b); err != nil {
		return d.fail(err)
	}
	return rest
}

func (o *marshalOp) unmarshal(v reflect.Value, src []byte) (err error) {
	defer recovered(&err, "unmarshal", o.typ)
	return o.way.unmarshal(v.Interface(), src)
}

func (o *marshalOp) measure(m *meter, p ptr) { o.plan.op.measure(m, p) }

// recovered is deferred by what calls a method of t, to say so in its error.
func recovered(err *error, verb string, t reflect.Type) {
	switch p := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("panic: %w", p)
	default:
		*err = errors.New(fmt.Sprint("panic: ", p))
	}
	if *err != nil {
		*err = fmt.Errorf("codec: %s %v: %w", verb, t, *err)
	}
}

// capsuleOp is for types that marshal themselves and whose plan carries most
// values, but not all. A value travels by its plan, as an item within the item,
// or else as what it marshals to. A byte tells which, and a length follows.
type capsuleOp struct{ marshal *marshalOp }

const (
	byPlan    = 0
	byMarshal = 1
)

// maxCapsules is how many capsules may stand in one another. What is further in
// is left to the marshaler of the last.
const maxCapsules = 32

var errCapsules = fmt.Errorf("codec: more than %d marshalers in one another", maxCapsules)

var capsuleEncoders = sync.Pool{New: func() any { return new(encoder) }}

func (o *capsuleOp) encode(e *encoder, dst []byte, p ptr) []byte {
	start := len(dst)
	out, err := o.encodePlan(e, append(dst, byPlan), p)
	switch {
	case err == nil:
		return prefixed(out, start+1)
	case e.local && o.marshal.local != nil:
		return e.fail(dst, err)
	}
	if out = o.marshal.encode(e, append(dst, byMarshal), p); e.err != nil {
		e.err = err // says more of what to do about it
	}
	return out
}

func (o *capsuleOp) encodePlan(e *encoder, dst []byte, p ptr) ([]byte, error) {
	if e.capsules >= maxCapsules {
		return dst, errCapsules
	}
	inner := capsuleEncoders.Get().(*encoder)
	inner.mode, inner.base, inner.capsules = e.mode, e.depth, e.capsules+1

	dst, err := inner.run(o.marshal.plan, dst, p)
	e.blurred += inner.blurred
	inner.blurred = 0
	capsuleEncoders.Put(inner) // not deferred: one that a panic has unwound is not as new
	return dst, err
}

func (o *capsuleOp) decode(d *decoder, src []byte, p ptr) []byte {
	by, src := d.byte(src)
	switch {
	case by == byMarshal:
		return o.marshal.decode(d, src, p)
	case by != byPlan:
		return d.fail(errFlag)
	case d.capsules >= maxCapsules:
		return d.fail(errCapsules)
	}

	b, rest := d.string(src)
	inner := decoder{walker: d.within()}
	inner.capsules++
	if err := inner.run(o.marshal.plan, b, p); err != nil {
		return d.fail(err)
	}
	return rest
}

func (o *capsuleOp) measure(m *meter, p ptr) { o.marshal.measure(m, p) }
