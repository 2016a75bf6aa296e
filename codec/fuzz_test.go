package codec_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math"
	"math/big"
	"math/cmplx"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/hopper/codec"
	"github.com/google/go-cmp/cmp"
)

// target decodes data as one type.
type target func(t *testing.T, data []byte)

// hostile returns the target for c: data that is decoded without an error is
// encoded and decoded again, to an equal value. What Append refuses for want of
// room is no finding, nor is what only another order could encode.
func hostile[T any](c codec.Codec[T]) target {
	return func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		v, err := c.Decode(data)
		if !bytes.Equal(before, data) {
			t.Fatal("Decode wrote to its input")
		}
		if err != nil {
			return
		}
		b, err := c.Append(nil, v)
		if err != nil && codec.Depends(err) {
			return
		}
		if err != nil {
			t.Fatalf("Append: %v, of %#v", err, v)
		}
		again, err := c.Decode(b)
		if err != nil {
			t.Fatalf("Decode: %v, of %#v", err, v)
		}
		steps := 10_000
		if reflect.DeepEqual(v, again) || holdsNaN(reflect.ValueOf(&v), &steps) {
			return // cmp takes time exponential in the depth of slices, and panics at a NaN as a key
		}
		if !cmp.Equal(v, again, exact) {
			t.Fatalf("%#v became %#v", v, again)
		}
	}
}

// holdsNaN reports whether v holds a NaN, or so much that it takes more than
// that many steps to know.
func holdsNaN(v reflect.Value, steps *int) bool {
	if *steps--; *steps < 0 {
		return true
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		return math.IsNaN(v.Float())
	case reflect.Complex64, reflect.Complex128:
		return cmplx.IsNaN(v.Complex())
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && holdsNaN(v.Elem(), steps)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if holdsNaN(v.Index(i), steps) {
				return true
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if holdsNaN(key, steps) || holdsNaN(v.MapIndex(key), steps) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if holdsNaN(v.Field(i), steps) {
				return true
			}
		}
	}
	return false
}

func hostileFor[T any](tb testing.TB) target { return hostile(mustFor[T](tb)) }

// seed adds an encoding of v for the target of index i.
func seed[T any](f *testing.F, i int, v T) {
	f.Helper()
	b, err := mustFor[T](f).Append(nil, v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(i), b)
}

// fuzzDecode fuzzes one of several targets, chosen by the first argument.
func fuzzDecode(f *testing.F, targets ...target) {
	for i := range targets {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), bytes.Repeat([]byte{1}, 32))
		f.Add(uint8(i), bytes.Repeat([]byte{2}, 32))
	}
	f.Fuzz(func(t *testing.T, i uint8, data []byte) { targets[int(i)%len(targets)](t, data) })
}

// FuzzDecodeMemory: what is copied as memory, and strings and bytes.
func FuzzDecodeMemory(f *testing.F) {
	seed(f, 0, padded{A: true, E: 1})
	fuzzDecode(f,
		hostileFor[padded](f), hostileFor[[3]bool](f), hostileFor[complex128](f), hostileFor[uuid](f), hostileFor[struct{}](f),
		hostileFor[string](f), hostileFor[name](f), hostileFor[[]byte](f), hostileFor[raw](f), hostile(codec.Codec[[]byte](codec.Bytes{})))
}

// FuzzDecodeData: slices, maps, pointers and structs of every sort.
func FuzzDecodeData(f *testing.F) {
	seed(f, 0, newEvent())
	seed(f, 3, map[name]bool{"a": true, "b": false})
	seed(f, 5, embedded{hidden: hidden{1, "b", []byte{}}, point: &point{}})
	fuzzDecode(f,
		hostileFor[event](f), hostileFor[[]*event](f), hostileFor[map[string]string](f), hostileFor[map[name]bool](f), hostileFor[[][]padded](f),
		hostileFor[embedded](f), hostileFor[map[[2]string]*point](f), hostileFor[[2][]string](f), hostileFor[map[struct{}]int](f), hostileFor[**string](f))
}

// FuzzDecodeRecursive: types that hold themselves.
func FuzzDecodeRecursive(f *testing.F) {
	seed(f, 0, &list{1, &list{2, nil}})
	f.Add(uint8(4), append(bytes.Repeat([]byte{2}, 5_000), 0))
	seed(f, 2, item{"a", 1, []item{{"b", 2, nil}}})
	fuzzDecode(f, hostileFor[*list](f), hostileFor[tree](f), hostileFor[item](f), hostileFor[graph](f), hostileFor[nest](f))
}

// FuzzDecodeGraph: values that hold themselves, and pointers into their middle.
func FuzzDecodeGraph(f *testing.F) {
	one := &list{Value: 1}
	one.Next = one
	seed(f, 0, one)
	self := nest{nil}
	self[0] = self
	seed(f, 1, self)
	deep := graph{}
	deep[""] = deep
	seed(f, 2, deep)
	middle := &holder{Rest: make([]inner, 2)}
	middle.Front, middle.Self, middle.Last = &middle.Within, middle, &middle.Rest[1]
	seed(f, 3, middle)
	boxed := map[string]any{}
	boxed["a"], boxed["b"] = boxed, []any{boxed}
	seed(f, 4, any(boxed))
	fuzzDecode(f, hostileFor[*list](f), hostileFor[nest](f), hostileFor[graph](f), hostileFor[*holder](f), hostileFor[any](f), hostileFor[map[*inner]*holder](f))
}

// FuzzDecodeLocal: types by their number, and errors by theirs.
func FuzzDecodeLocal(f *testing.F) {
	b, err := codec.Local[any]().Append(nil, []any{&http.Cookie{Name: "a"}, sql.ErrNoRows, time.Second})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), b)
	fuzzDecode(f, hostile(codec.Local[any]()), hostile(codec.Local[error]()), hostile(codec.Local[request]()))
}

// FuzzDecodeInterface: dynamic types, registered and basic.
func FuzzDecodeInterface(f *testing.F) {
	seed(f, 0, any([]any{1, "a", square{2}, map[string]any{"b": nil}}))
	seed(f, 1, fmt.Errorf("a: %w", errSoldOut))
	seed(f, 3, map[any]any{math.NaN(): 1})
	fuzzDecode(f, hostileFor[any](f), hostileFor[error](f), hostileFor[shape](f), hostileFor[map[any]any](f), hostileFor[result[any]](f))
}

// FuzzDecodeMarshaler: types that marshal themselves, and times.
func FuzzDecodeMarshaler(f *testing.F) {
	seed(f, 0, time.Now())
	seed(f, 0, time.Now().In(berlin()))
	seed(f, 2, netip.MustParseAddr("fe80::1%eth0"))
	fuzzDecode(f,
		hostileFor[time.Time](f), hostileFor[[]*time.Location](f), hostileFor[netip.Addr](f), hostileFor[map[netip.Prefix]netip.AddrPort](f),
		hostileFor[[]token](f), hostileFor[url.URL](f), hostileFor[*big.Int](f), hostileFor[[]picky](f))
}

// FuzzDecodeStandard: the codecs of gob and JSON may refuse, but not panic.
func FuzzDecodeStandard(f *testing.F) {
	gob, _ := codec.Gob[point]{}.Append(nil, point{1, 2})
	f.Add(uint8(0), gob)
	f.Add(uint8(1), []byte(`{"X":1,"Y":-2}`))
	fuzzDecode(f, hostile(codec.Codec[point](codec.Gob[point]{})), hostile(codec.Codec[point](codec.JSON[point]{})))
}

// FuzzRoundTrip sends values made of its arguments.
func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(1), 1.5, "text", []byte("bytes"), true, uint8(3))
	f.Add(int64(-1), 0.0, "", []byte(nil), false, uint8(0))
	f.Fuzz(func(t *testing.T, i int64, x float64, s string, b []byte, ok bool, n uint8) {
		s, b = s[:min(len(s), 256)], b[:min(len(b), 256)]
		roundTrip(t, i)
		roundTrip(t, s)
		roundTrip(t, b)
		roundTrip(t, time.Unix(i, int64(n)).In(time.FixedZone(s, int(int16(i)))))
		e := event{ID: uint64(i), Host: s, Body: b, OK: ok, Code: int32(n), Labels: map[string]string{s: string(b)}}
		for range n {
			e.Tags = append(e.Tags, s)
		}
		roundTrip(t, e)
		roundTrip(t, []any{i, x, s, b, ok, &registered{int(n), s}, e.Tags})
		roundTrip(t, map[name]*item{name(s): {s, x, []item{{Name: string(b)}}}, "": nil})
		roundTrip(t, fmt.Errorf("%s: %w", s, errSoldOut))
	})
}

func roundTrip[T any](t *testing.T, want T) {
	t.Helper()
	if got := pass(t, want); !reflect.DeepEqual(want, got) && !cmp.Equal(want, got, exact) { // cmp is slow
		t.Fatalf("%#v became %#v", want, got)
	}
}

// FuzzDifference: labels come from disk.
func FuzzDifference(f *testing.F) {
	want := codec.Label(mustFor[event](f))
	f.Add(want, want)
	f.Add("gob main.Event", want)
	f.Add(strings.Replace(want, "string", "int", 1), want)
	f.Add("plan", "plan\n…")
	f.Fuzz(func(t *testing.T, found, want string) {
		if got := codec.Difference(found, want); (got == "") != (found == want) {
			t.Fatalf("Difference(%q, %q) is %q", found, want, got)
		}
	})
}
