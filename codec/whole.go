package codec

import "errors"

// The codecs of this file carry an item that is one piece of memory.

var (
	errSize = errors.New("codec: the input is not as long as the type")
	errBool = errors.New("codec: a bool is neither 0 nor 1")
)

// fixedCodec carries a T that holds no pointers.
type fixedCodec[T any] struct{ op fixedOp }

func (c *fixedCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	return append(dst, memoryOf(&v)...), nil
}

func (c *fixedCodec[T]) Decode(src []byte) (v T, err error) {
	m := memoryOf(&v)
	if len(src) != len(m) {
		return v, errSize
	}
	if !c.op.valid(src) {
		return v, errBool
	}
	copy(m, src)
	return v, nil
}

// stringCodec carries a T of kind string.
type stringCodec[T any] struct{}

func (stringCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	return append(dst, *at[string](addr(&v))...), nil
}

func (stringCodec[T]) Decode(src []byte) (v T, err error) {
	*at[string](addr(&v)) = string(src)
	return v, nil
}

// bytesCodec carries a T of kind []byte. Nil takes no bytes at all. Any other
// slice is its bytes, behind a zero if it is empty or begins with a zero
// itself.
type bytesCodec[T any] struct{}

func (bytesCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	b := *at[[]byte](addr(&v))
	if b != nil && (len(b) == 0 || b[0] == 0) {
		dst = append(dst, 0)
	}
	return append(dst, b...), nil
}

func (bytesCodec[T]) Decode(src []byte) (v T, err error) {
	if len(src) == 0 {
		return v, nil
	}
	if src[0] == 0 {
		src = src[1:]
	}
	*at[[]byte](addr(&v)) = cloneBytes(src)
	return v, nil
}

// cloneBytes returns a copy of b that is not nil, and whose capacity is its
// length: an item that came from the disk counts as what it was.
func cloneBytes(b []byte) []byte {
	c := make([]byte, len(b))
	copy(c, b)
	return c
}
