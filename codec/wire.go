package codec

import (
	"encoding/binary"
	"errors"
	"math"
)

// # The wire form
//
// A value without pointers is its memory. A length is a uvarint; where nil
// differs from empty, 0 is nil and n+1 is n elements.
//
//	string             length, bytes
//	slice              length or nil, elements
//	map                length or nil, key and value by turns
//	pointer            0 for nil, else 1 and what it points to
//	array, struct      elements, fields; neighbours without pointers as one piece of memory
//	time.Time          8 bytes seconds since 1970, uvarint nanoseconds, location (time.go)
//	marshaler          length, what it marshals to (marshal.go)
//	interface          0 for nil, else the dynamic type (interface.go) and the value
//	func, chan         0: they can't be anything but nil
//
// An item that may hold pointers begins with a 0 if it is a tree, in which
// nothing is reached twice, or a 1 if it is a graph (graph.go).
//
// A pointer that stands inlineDepth descents deep is written as its 1 only;
// what it points to follows behind all else, the last such pointer first, as if
// it were an item of its own. So the stack stays small, and a list may have any
// length.

var (
	errShort    = errors.New("codec: the input ends early")
	errCount    = errors.New("codec: a length is larger than the input allows")
	errFlag     = errors.New("codec: a pointer is neither nil nor set")
	errTrailing = errors.New("codec: bytes are left over behind the value")
)

// appendCount appends the length of a slice or map: 0 for nil, else n+1.
func appendCount(dst []byte, n int, isNil bool) []byte {
	if isNil {
		return append(dst, 0)
	}
	return binary.AppendUvarint(dst, uint64(n)+1)
}

// count cuts what appendCount appended. It returns -1 for nil.
func (d *decoder) count(src []byte) (n int, rest []byte) {
	u, rest := d.uvarint(src)
	if u > math.MaxInt {
		return -1, d.fail(errCount)
	}
	return int(u) - 1, rest
}

func (d *decoder) uvarint(src []byte) (u uint64, rest []byte) {
	if len(src) > 0 && src[0] < 0x80 {
		return uint64(src[0]), src[1:]
	}
	u, n := binary.Uvarint(src)
	if n <= 0 {
		return 0, d.fail(errShort)
	}
	return u, src[n:]
}

func (d *decoder) byte(src []byte) (b byte, rest []byte) {
	if len(src) == 0 {
		return 0, d.fail(errShort)
	}
	return src[0], src[1:]
}

func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// string cuts a length and as many bytes, which still belong to src.
func (d *decoder) string(src []byte) (s, rest []byte) {
	n, rest := d.uvarint(src)
	if n > uint64(len(rest)) {
		return nil, d.fail(errShort)
	}
	return rest[:n:n], rest[n:]
}

// prefixed inserts the length of what has been appended to dst since start.
func prefixed(dst []byte, start int) []byte {
	var size [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(size[:], uint64(len(dst)-start))
	end := len(dst)
	dst = append(dst, size[:k]...)
	copy(dst[start+k:], dst[start:end])
	copy(dst[start:], size[:k])
	return dst
}
