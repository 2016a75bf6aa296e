// Package codec turns values of any type into bytes and back. It is what a pipe
// spills its items with.
//
// [For] returns a codec whose bytes another process can read. [Local] returns
// one for a single process: it takes every type, and refuses single values.
// Both walk T by a plan that is compiled once, at about the cost of a deep
// copy. Nothing is left out, unexported fields included, and what comes back is
// equal to what went in, as [cmp.Equal] sees it. What Append accepts, Decode
// returns.
//
// # What is copied
//
//   - Booleans, numbers (a NaN with its bits, a uintptr as a number), strings,
//     arrays, slices, maps, pointers and structs of these, of any name and in
//     any nesting. Nil is not empty.
//   - Values that hold themselves. Two pointers to one variable arrive as two
//     pointers to one variable. Lists may be of any length; slices, maps and
//     interfaces may stand up to 10,000 deep in one another.
//   - [time.Time] and types made of it, with the location but without the
//     monotonic clock reading. A location is the very same *Location within one
//     process. Another process loads it by its name, or makes do with a fixed
//     zone of its abbreviation and offset. Local is the reader's Local.
//   - Interfaces. [Local] carries every dynamic type that [For] does, and
//     others that have an exported name or belong to T's package or to package
//     main. [For] carries those that have been given to [Register]; basic types
//     and the standard library's errors always are.
//   - Errors: the chain made by fmt.Errorf and errors.Join, with types and
//     texts. A sentinel of the standard library, or one given to
//     [RegisterError], comes out as the very same variable, so that errors.Is
//     goes on working. With [Local] every error comes out as the same pointer
//     if it wraps no other and is still in use.
//   - Types that no plan can carry, but that marshal themselves: protobuf
//     messages in their own wire format, others by AppendBinary, MarshalBinary,
//     MarshalText or MarshalJSON, whichever comes first and has a way back.
//     What a marshaler made is decoded once before it counts as encoded.
//   - Types given to [RegisterCodec], as their codec has it.
//
// # What is not copied
//
// Parts of a running program: channels, functions, unsafe.Pointer, contexts,
// the types of sync and sync/atomic and whatever else go vet forbids to copy,
// unique.Handle and weak.Pointer. [For] refuses a type that has a place for
// them. [Local] refuses a value in which they are not nil, or in which an
// interface holds another package's unexported type: its rules are its own, and
// a copy might break them. So it does for the 4,097th location or error that
// must keep its identity at one time.
//
// # What a copy does not keep
//
// The capacity of slices, and that two slices share an array or two places a
// map of plain data. A pointer into the middle of something, to a field or an
// element, arrives as one to a copy of that part, unless the value holds
// itself. Short strings of one item share memory, half a KiB at most.
//
// # Bytes from elsewhere
//
// Decode takes any bytes: it returns an error or a valid Go value, reads
// nothing outside of them, and allocates in proportion to their length. What it
// can't know are the rules that a type has for its unexported fields. Codecs
// are for one program, or one and its successor, on one kind of machine:
// [Label] tells whether two ends agree.
//
// [cmp.Equal]: https://pkg.go.dev/github.com/google/go-cmp/cmp#Equal
package codec

import (
	"reflect"
	"sync"
)

// A Codec turns values of type T into bytes and back. The value that comes back
// equals the one that went in. A Codec is safe for concurrent use.
type Codec[T any] interface {
	// Append appends v's encoding to dst and returns the longer slice. It keeps
	// neither dst nor v. Where it returns an error, v can't be encoded as it is
	// now.
	Append(dst []byte, v T) ([]byte, error)

	// Decode returns the value that src, as it was appended, encodes. It
	// neither keeps nor changes any part of src, which may be on its way to the
	// disk. It must not panic and returns an error where src is not what Append
	// makes.
	Decode(src []byte) (T, error)
}

// For returns the codec for a T whose bytes may be read by another process, as
// the package documentation describes it. The error names the part of T that
// can't be carried, and what to do about it:
//
//	codec: Event.cb is a func(), which is no data: leave it out, or give main.Event
//	a codec with codec.RegisterCodec
//
// T stands for the item where its type has no name. Append fails for a value in
// whose interfaces there is a type that nobody has registered, with a
// [*ValueError]. Another call for the same T returns the same codec. For is
// safe for concurrent use.
func For[T any]() (Codec[T], error) {
	t := reflect.TypeFor[T]()
	if c, ok := codecs.Load(t); ok {
		return c.(Codec[T]), nil
	}

	if err := refusal(t); err != nil {
		return nil, err
	}
	first, _ := codecs.LoadOrStore(t, newCodec[T](false))
	return first.(Codec[T]), nil
}

// Local returns the codec for a T that stays within this process. It takes
// every T, and no type need be registered. Append returns a [*ValueError], at
// little cost, for a value that can't be copied faithfully: the caller then
// keeps the value itself. The bytes mean nothing to another process. Another
// call for the same T returns the same codec. Local is safe for concurrent use.
func Local[T any]() Codec[T] {
	t := reflect.TypeFor[T]()
	if c, ok := localCodecs.Load(t); ok {
		return c.(Codec[T])
	}
	first, _ := localCodecs.LoadOrStore(t, newCodec[T](true))
	return first.(Codec[T])
}

// A ValueError says why Append could not encode a value. It is made once for
// each type, so that returning it costs nothing.
type ValueError struct {
	Type   reflect.Type // of the part that can't be encoded
	reason string
}

func (e *ValueError) Error() string { return "codec: " + article(e.Type) + e.reason }

// The codecs that have been made: reflect.Type → Codec of that type.
var codecs, localCodecs sync.Map

func newCodec[T any](local bool) Codec[T] {
	t := reflect.TypeFor[T]()
	switch formOf(t) {
	case formFixed:
		return &fixedCodec[T]{fixedOp{t.Size(), checksOf(t, 0)}}
	case formString:
		return stringCodec[T]{}
	case formBytes:
		return bytesCodec[T]{}
	}
	return &planCodec[T]{root: planOf(t), mode: mode{local, homeOf(t)}}
}

// mode is what the ops need to know of the codec that they work for.
type mode struct {
	local bool   // the bytes stay within this process
	home  string // the package that T belongs to
}

// planCodec carries a T by its plan.
type planCodec[T any] struct {
	root *node
	mode mode
	pool sync.Pool // of *walk[T]
}

// walk is what one call needs beside its arguments. T has its place here
// because an op's address argument would move it to the heap, once per item,
// anywhere else.
type walk[T any] struct {
	v T
	e encoder
	d decoder
}

func (c *planCodec[T]) get() *walk[T] {
	if w, ok := c.pool.Get().(*walk[T]); ok {
		return w
	}
	return &walk[T]{e: encoder{mode: c.mode}, d: decoder{mode: c.mode}}
}

// put gives w back without what it refers to.
func (c *planCodec[T]) put(w *walk[T]) {
	var zero T
	w.v = zero
	c.pool.Put(w)
}

func (c *planCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	w := c.get()
	w.v = v
	out, err := w.e.run(c.root, dst, addr(&w.v))
	c.put(w)

	if err != nil {
		return dst, err
	}
	return out, nil
}

func (c *planCodec[T]) Decode(src []byte) (v T, err error) {
	w := c.get()
	if err = w.d.run(c.root, src, addr(&w.v)); err == nil {
		v = w.v
	}
	c.put(w)
	return v, err
}
