// Package codec turns values of any type into bytes and back. It is what a pipe spills
// its items with.
//
// [For] returns a codec that needs no set-up: it walks T by a plan that is compiled once,
// at about the cost of a deep copy. Nothing is left out, unexported fields included, and
// what comes back is equal to what went in, as [cmp.Equal] sees it.
//
// # What travels
//
//   - Booleans, numbers (a NaN with its bits), strings, arrays, slices, maps, pointers
//     and structs of these, of any name and in any nesting. Nil is not empty.
//   - Recursive types. A list may be of any length; slices, maps and interfaces may
//     stand up to 10,000 deep in one another. A value that holds itself is an error.
//   - [time.Time], with its location but without the monotonic clock reading. A location
//     is the very same *Location within one process, or an equal one that it met
//     before. Another process loads it by its name, or makes do with a fixed zone of its
//     abbreviation and offset. Local is the reader's Local.
//   - Types with methods MarshalBinary or AppendBinary, and UnmarshalBinary: what they
//     marshal to, wherever they stand. Not so where copying keeps more: types without
//     pointers, strings and bytes are copied as they are, and so are url.URL and structs
//     that have the methods from an embedded field only.
//   - Interfaces, if the dynamic type is known: basic types are, errors of the standard
//     library are, and [Register] makes others so. Otherwise Append fails and tells which
//     type is missing.
//   - Errors: the chain made by fmt.Errorf and errors.Join, with types and texts. A
//     sentinel of the standard library, or one given to [RegisterError], comes out as
//     the very same variable, so that errors.Is goes on working.
//
// # What arrives as a copy
//
// Everything a pointer, slice or map refers to. Two pointers to one variable
// arrive as pointers to two, so a value that shares much grows. A slice arrives with
// whatever capacity. Short strings of one item share memory, half a KiB at most.
//
// # What is refused
//
// For fails, and names the field, for: functions, channels, unsafe.Pointer and
// uintptr (but syscall.Errno is a number); the types of sync and sync/atomic and
// whatever else go vet forbids to copy, since neither a used lock nor an atomic may be
// read as plain memory; unique.Handle and weak.Pointer. A type that marshals itself is
// never refused.
//
// # Bytes from elsewhere
//
// Decode takes any bytes: it returns an error or a valid Go value, reads nothing
// outside of them, and allocates in proportion to their length. What it can't know are
// the rules that a type has for its unexported fields. Codecs are for one program, or one
// and its successor, on one kind of machine: [Label] tells whether two ends agree.
//
// [cmp.Equal]: https://pkg.go.dev/github.com/google/go-cmp/cmp#Equal
package codec

import (
	"reflect"
	"sync"
)

// A Codec turns values of type T into bytes and back. The value that comes back is to
// equal the one that went in. A Codec is safe for concurrent use.
type Codec[T any] interface {
	// Append appends v's encoding to dst and returns the longer slice. It keeps neither
	// dst nor v. Where it returns an error, v can't be encoded as it is now.
	Append(dst []byte, v T) ([]byte, error)

	// Decode returns the value that src, as it was appended, encodes. It neither keeps nor
	// changes any part of src, which may be on its way to the disk. It must not panic and
	// returns an error where src is not what Append makes.
	Decode(src []byte) (T, error)
}

var codecs sync.Map // reflect.Type → Codec of that type

// For returns the best codec for T, as the package documentation describes it. The
// error names the field of T that can't be carried, such as
//
//	hopper: Event.cb is a func(): give WithCodec
//
// T stands for the item where its type has no name. Another call for the same T returns
// the same codec. For is safe for concurrent use.
func For[T any]() (Codec[T], error) {
	t := reflect.TypeFor[T]()
	if c, ok := codecs.Load(t); ok {
		return c.(Codec[T]), nil
	}
	c, err := newCodec[T](t)
	if err != nil {
		return nil, err
	}
	first, _ := codecs.LoadOrStore(t, c)
	return first.(Codec[T]), nil
}

func newCodec[T any](t reflect.Type) (Codec[T], error) {
	switch formOf(t) {
	case formFixed:
		return &fixedCodec[T]{fixedOp{t.Size(), checksOf(t, 0)}}, nil
	case formString:
		return stringCodec[T]{}, nil
	case formBytes:
		return bytesCodec[T]{}, nil
	}
	root, err := planOf(t)
	if err != nil {
		return nil, err
	}
	return &planCodec[T]{root: root}, nil
}
