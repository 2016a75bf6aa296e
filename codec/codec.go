// Package codec turns values of any type into bytes and back. A pipe uses it to
// spill its items.
//
// [For] returns a codec whose bytes another process can read. [Local] returns
// one for use within a single process: it accepts every type, and may refuse
// single values. Both follow a plan for T that is compiled once, at about the
// cost of a deep copy. Nothing is left out, unexported fields included, and
// what comes back equals what went in, as [cmp.Equal] sees it. Whatever Append
// accepts, Decode returns.
//
// # What is copied
//
//   - Booleans, numbers (a NaN keeps its bits, a uintptr is a number), strings,
//     arrays, slices, maps, pointers and structs of these, named or not, nested
//     in any way. Nil and empty stay distinct.
//   - Values that contain themselves. Two pointers to one variable arrive as
//     two pointers to one variable. Lists may have any length; slices, maps and
//     interfaces may be nested 10,000 deep.
//   - [time.Time] and types made of it, with their location but without the
//     monotonic clock reading. Within one process the *Location is the very
//     same. Another process loads it by name, or falls back to a fixed zone
//     with its abbreviation and offset. Local means the reader's Local.
//   - Interfaces. [For] carries dynamic types that have been passed to
//     [Register]; basic types and the standard library's errors always are
//     registered. [Local] carries these too, and any type that has an exported
//     name or belongs to T's package or to package main.
//   - Errors: the chains made by fmt.Errorf and errors.Join, with types and
//     texts. A sentinel of the standard library, or one passed to
//     [RegisterError], comes back as the very same variable, so that errors.Is
//     keeps working. With [Local] so does every error that wraps no other and
//     is still in use.
//   - Types that no plan can carry but that marshal themselves: protobuf
//     messages in their own wire format, others by AppendBinary, MarshalBinary,
//     MarshalText or MarshalJSON, whichever comes first and has its
//     counterpart. What a marshaler returns is decoded once before it counts as
//     encoded.
//   - Types passed to [RegisterCodec], by their codec.
//
// # What is not copied
//
// Parts of a running program: channels, functions, unsafe.Pointer, contexts,
// the types of sync and sync/atomic and whatever else go vet forbids to copy,
// unique.Handle and weak.Pointer. [For] refuses a type that can hold them.
// [Local] refuses a value in which they are not nil, or in which an interface
// holds another package's unexported type: only that package knows its rules,
// and a copy might break them. Local keeps the identity of 4,096 locations and
// of 4,096 errors at a time, and refuses values with more.
//
// # What a copy does not keep
//
// The capacity of slices; that two slices share an array, or two places a map
// of plain data. A pointer to a field or an element becomes a pointer to a copy
// of it, unless the value contains itself. Short strings of one item share
// memory, half a KiB at most.
//
// # Untrusted bytes
//
// Decode accepts any bytes: it returns an error or a valid Go value, reads
// nothing beyond them, and allocates in proportion to their length. It can't
// know the rules that a type has for its unexported fields. Codecs are for one
// program, or one and its successor, on one kind of machine: [Label] tells
// whether two ends agree.
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
	// Append appends v's encoding to dst and returns the extended slice. It
	// keeps neither dst nor v. An error means that v can't be encoded as it is
	// now.
	Append(dst []byte, v T) ([]byte, error)

	// Decode returns the value that src, which Append has appended, encodes. It
	// neither keeps nor changes any part of src, which may be on its way to the
	// disk. It must not panic: if src is not what Append makes it returns an
	// error.
	Decode(src []byte) (T, error)
}

// For returns the codec for a T whose bytes may be read by another process, as
// the package documentation describes it. The error names the part of T that
// can't be carried, and what to do about it:
//
//	codec: Event.cb is a func(), which is no data: leave it out, or give main.Event
//	a codec with codec.RegisterCodec
//
// If T has no name the path begins with "T". Append returns a [*ValueError] for
// a value with a type in an interface that nobody has registered. Another call
// for the same T returns the same codec. For is safe for concurrent use.
func For[T any]() (Codec[T], error) {
	t := reflect.TypeFor[T]()
	if c, ok := codecs.Load(t); ok {
		return c.(Codec[T]), nil
	}

	if err := refusal(t); err != nil {
		return nil, err
	}
	c := codecs.of(t, func(reflect.Type) any { return newCodec[T](false) })
	return c.(Codec[T]), nil
}

// Local returns the codec for a T that stays within this process. It accepts
// every T, and no type need be registered. Append returns a [*ValueError], at
// little cost, for a value that can't be copied faithfully: the caller should
// keep the value itself. The bytes mean nothing to another process. Another
// call for the same T returns the same codec. Local is safe for concurrent use.
func Local[T any]() Codec[T] {
	c := localCodecs.of(reflect.TypeFor[T](), func(reflect.Type) any { return newCodec[T](true) })
	return c.(Codec[T])
}

// A ValueError says why Append could not encode a value. It is made once for
// each type, so that returning it costs nothing.
type ValueError struct {
	Type   reflect.Type // of the part that can't be encoded
	reason string
}

func (e *ValueError) Error() string { return "codec: " + article(e.Type) + e.reason }

// The codecs that have been made: each a Codec of its type.
var codecs, localCodecs memo[any]

// memo remembers what is known of types.
type memo[V any] struct{ sync.Map }

// of returns what is known of t, which learn finds out. It may do so more than
// once at a time: the first to finish is right.
func (m *memo[V]) of(t reflect.Type, learn func(reflect.Type) V) V {
	v, ok := m.Load(t)
	if !ok {
		v, _ = m.LoadOrStore(t, learn(t))
	}
	return v.(V)
}

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
	w := walker{mode: c.mode}
	return &walk[T]{e: encoder{walker: w}, d: decoder{walker: w}}
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
