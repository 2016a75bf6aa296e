package codec_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/hopper/codec"
)

// event is what services send: the struct that issue 3 names.
type event struct {
	ID       uint64
	At       time.Time
	Host     string
	Message  string
	Tags     []string
	Labels   map[string]string
	Body     []byte
	Duration time.Duration
	Code     int32
	OK       bool
}

func newEvent() event {
	return event{
		ID:       1 << 40,
		At:       time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC),
		Host:     "node-17.eu-central.example.com",
		Message:  "request finished: GET /api/v1/items?limit=100 in 14.2 ms",
		Tags:     []string{"http", "api", "v1"},
		Labels:   map[string]string{"method": "GET", "status": "200", "zone": "eu-1", "tenant": "acme"},
		Body:     bytes.Repeat([]byte("payload "), 16),
		Duration: 14 * time.Millisecond,
		Code:     200,
		OK:       true,
	}
}

// copyEvent is the deep copy that one would write by hand.
func copyEvent(e event) event {
	e.Host = strings.Clone(e.Host)
	e.Message = strings.Clone(e.Message)
	e.Tags = slices.Clone(e.Tags)
	for i, s := range e.Tags {
		e.Tags[i] = strings.Clone(s)
	}
	labels := make(map[string]string, len(e.Labels))
	for k, v := range e.Labels {
		labels[strings.Clone(k)] = strings.Clone(v)
	}
	e.Labels = labels
	e.Body = bytes.Clone(e.Body)
	return e
}

// copier stands in for a codec in a benchmark: its Decode copies what it was
// given.
type copier[T any] struct {
	copy func(T) T
	last T
}

func (c *copier[T]) Append(dst []byte, v T) ([]byte, error) {
	c.last = v
	return dst, nil
}

func (c *copier[T]) Decode([]byte) (T, error) { return c.copy(c.last), nil }

func mustFor[T any](tb testing.TB) codec.Codec[T] {
	tb.Helper()
	c, err := codec.For[T]()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// roundTrips is the benchmark proper: an item encoded and decoded.
func roundTrips[T any](b *testing.B, c codec.Codec[T], v T) {
	b.Helper()
	b.ReportAllocs()
	var buf []byte
	var err error
	for b.Loop() {
		if buf, err = c.Append(buf[:0], v); err != nil {
			b.Fatal(err)
		}
		if _, err = c.Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// oneWay are the halves of roundTrips.
func oneWay[T any](b *testing.B, c codec.Codec[T], v T) {
	b.Helper()
	buf, err := c.Append(nil, v)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = c.Append(buf[:0], v)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Decode(buf)
		}
	})
}

func BenchmarkEvent(b *testing.B) {
	v := newEvent()
	b.Run("codec=copy", func(b *testing.B) { roundTrips(b, codec.Codec[event](&copier[event]{copy: copyEvent}), v) })
	b.Run("codec=plan", func(b *testing.B) { roundTrips(b, mustFor[event](b), v) })
	b.Run("codec=json", func(b *testing.B) { roundTrips(b, codec.Codec[event](codec.JSON[event]{}), v) })
	b.Run("codec=gob", func(b *testing.B) { roundTrips(b, codec.Codec[event](codec.Gob[event]{}), v) })
	b.Run("half", func(b *testing.B) { oneWay(b, mustFor[event](b), v) })
}

// The memmove that a fixed-size T is measured against copies it into the buffer
// and out again.
func BenchmarkFixed(b *testing.B) {
	benchmarkFixed(b, [16]byte{1})
	benchmarkFixed(b, [128]byte{1})
	benchmarkFixed(b, [1024]byte{1})
	benchmarkFixed(b, [8192]byte{1})
}

func benchmarkFixed[T [16]byte | [128]byte | [1024]byte | [8192]byte](b *testing.B, v T) {
	var m codec.Codec[T]
	switch v := any(v).(type) {
	case [16]byte:
		m = any(mover16{}).(codec.Codec[T])
	case [128]byte:
		m = any(mover128{}).(codec.Codec[T])
	case [1024]byte:
		m = any(mover1024{}).(codec.Codec[T])
	case [8192]byte:
		m = any(mover8192{}).(codec.Codec[T])
		_ = v
	}
	name := fmt.Sprintf("bytes=%d/codec=", len(v))
	b.Run(name+"memmove", func(b *testing.B) { roundTrips(b, m, v) })
	b.Run(name+"plan", func(b *testing.B) { roundTrips(b, mustFor[T](b), v) })
}

type (
	mover16   struct{}
	mover128  struct{}
	mover1024 struct{}
	mover8192 struct{}
)

func (mover16) Append(dst []byte, v [16]byte) ([]byte, error)     { return append(dst, v[:]...), nil }
func (mover128) Append(dst []byte, v [128]byte) ([]byte, error)   { return append(dst, v[:]...), nil }
func (mover1024) Append(dst []byte, v [1024]byte) ([]byte, error) { return append(dst, v[:]...), nil }
func (mover8192) Append(dst []byte, v [8192]byte) ([]byte, error) { return append(dst, v[:]...), nil }

func (mover16) Decode(src []byte) (v [16]byte, _ error)     { copy(v[:], src); return v, nil }
func (mover128) Decode(src []byte) (v [128]byte, _ error)   { copy(v[:], src); return v, nil }
func (mover1024) Decode(src []byte) (v [1024]byte, _ error) { copy(v[:], src); return v, nil }
func (mover8192) Decode(src []byte) (v [8192]byte, _ error) { copy(v[:], src); return v, nil }

func BenchmarkBytes(b *testing.B) {
	for _, n := range []int{16, 256, 4096} {
		v := bytes.Repeat([]byte("x"), n)
		b.Run(fmt.Sprintf("bytes=%d/codec=copy", n), func(b *testing.B) {
			roundTrips(b, codec.Codec[[]byte](&copier[[]byte]{copy: bytes.Clone}), v)
		})
		b.Run(fmt.Sprintf("bytes=%d/codec=plan", n), func(b *testing.B) { roundTrips(b, mustFor[[]byte](b), v) })
	}
}

func BenchmarkString(b *testing.B) {
	for _, n := range []int{16, 256, 4096} {
		v := strings.Repeat("x", n)
		b.Run(fmt.Sprintf("bytes=%d/codec=copy", n), func(b *testing.B) {
			roundTrips(b, codec.Codec[string](&copier[string]{copy: strings.Clone}), v)
		})
		b.Run(fmt.Sprintf("bytes=%d/codec=plan", n), func(b *testing.B) { roundTrips(b, mustFor[string](b), v) })
	}
}

type level string

// BenchmarkMap pairs the maps that have code of their own with those that go by
// reflect.
func BenchmarkMap(b *testing.B) {
	plain := map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}
	named := map[level]string{"a": "1", "b": "2", "c": "3", "d": "4"}
	dynamic := map[string]any{"a": 1, "b": "2", "c": 3.0, "d": true}
	b.Run("type=string", func(b *testing.B) { roundTrips(b, mustFor[map[string]string](b), plain) })
	b.Run("type=named", func(b *testing.B) { roundTrips(b, mustFor[map[level]string](b), named) })
	b.Run("type=any", func(b *testing.B) { roundTrips(b, mustFor[map[string]any](b), dynamic) })
	b.Run("codec=copy", func(b *testing.B) {
		roundTrips(b, codec.Codec[map[string]string](&copier[map[string]string]{copy: maps.Clone[map[string]string]}), plain)
	})
}

// BenchmarkLog is a line of a structured log.
func BenchmarkLog(b *testing.B) {
	line := map[string]any{
		"ts": 1700000000.123, "level": "info", "msg": "request finished", "caller": "http/server.go:123",
		"method": "GET", "path": "/api/v1/items", "status": 200, "bytes": 5123, "took": 0.0142, "ok": true, "user": nil,
		"tags": []any{"a", "b"}, "http": map[string]any{"host": "example.com", "proto": "HTTP/1.1"},
	}
	b.Run("codec=plan", func(b *testing.B) { roundTrips(b, mustFor[map[string]any](b), line) })
	b.Run("codec=local", func(b *testing.B) { roundTrips(b, codec.Local[map[string]any](), line) })
	b.Run("codec=json", func(b *testing.B) { roundTrips(b, codec.Codec[map[string]any](codec.JSON[map[string]any]{}), line) })
	b.Run("half", func(b *testing.B) { oneWay(b, mustFor[map[string]any](b), line) })
}

// BenchmarkPark is what it costs to find out that a value can't be encoded.
func BenchmarkPark(b *testing.B) {
	v := &request{Body: make([]byte, 1<<10), Meta: map[string]any{"a": "b"}, Reply: make(chan string)}
	inside := &request{Body: make([]byte, 1<<10), Meta: map[string]any{"reply": make(chan string)}}
	c := codec.Local[*request]()
	for name, v := range map[string]*request{"field": v, "interface": inside} {
		b.Run("in="+name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 4<<10)
			for b.Loop() {
				if _, err := c.Append(buf, v); err == nil {
					b.Fatal("no error")
				}
			}
		})
	}
}

// BenchmarkShared pairs a tree with a graph of as many nodes.
func BenchmarkShared(b *testing.B) {
	tree, ring := &list{}, &list{}
	last := ring
	for i := range 100 {
		tree = &list{i, tree}
		last.Next = &list{Value: i}
		last = last.Next
	}
	last.Next = ring
	b.Run("shape=tree", func(b *testing.B) { oneWay(b, mustFor[*list](b), tree) })
	b.Run("shape=graph", func(b *testing.B) { oneWay(b, mustFor[*list](b), ring) })
}

func BenchmarkSize(b *testing.B) {
	benchmarkSize(b, "string", "text")
	benchmarkSize(b, "bytes", []byte("text"))
	benchmarkSize(b, "event", newEvent())
	benchmarkSize(b, "any", any(newEvent().Tags))
}

func benchmarkSize[T any](b *testing.B, name string, v T) {
	_, size := codec.Sizer[T]()
	b.Run("type="+name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			size(&v, 1<<20)
		}
	})
}
