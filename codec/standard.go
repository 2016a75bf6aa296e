package codec

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
)

// Gob carries a T as [encoding/gob] does, each value a stream of its own that
// describes its type. It follows gob's rules: exported fields only, and a field
// that was added or taken away since is no error, so that a backlog may outlive
// a change of T. It is slow: use it where that is needed. Safe for concurrent
// use.
type Gob[T any] struct{}

// Append appends v as one gob stream. The error is gob's.
func (Gob[T]) Append(dst []byte, v T) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	if err := gob.NewEncoder(b).Encode(&v); err != nil {
		return dst, err
	}
	return b.Bytes(), nil
}

// Decode reads src as one gob stream. The error is gob's, or tells of bytes
// that are left over.
func (Gob[T]) Decode(src []byte) (T, error) {
	var v, zero T
	r := bytes.NewReader(src)
	if err := gob.NewDecoder(r).Decode(&v); err != nil {
		return zero, err
	}
	if r.Len() > 0 {
		return zero, errTrailing
	}
	return v, nil
}

// JSON carries a T as [encoding/json] does, by its rules: exported fields only,
// by name, so that a backlog may outlive a change of T and can be read by
// others. Safe for concurrent use.
type JSON[T any] struct{}

// Append appends v as one JSON value. The error is json's.
func (JSON[T]) Append(dst []byte, v T) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(dst, b...), err
}

// Decode reads src as one JSON value. The error is json's.
func (JSON[T]) Decode(src []byte) (T, error) {
	var v, zero T
	if err := json.Unmarshal(src, &v); err != nil {
		return zero, err
	}
	return v, nil
}

// Bytes carries a []byte as it is: what lies on disk is the payload and nothing
// else. Nil arrives as an empty slice; [For] keeps the two apart. Safe for
// concurrent use.
type Bytes struct{}

// Append appends v itself. It never fails.
func (Bytes) Append(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }

// Decode returns a copy of src, never nil. It never fails.
func (Bytes) Decode(src []byte) ([]byte, error) { return append([]byte{}, src...), nil }
