package codec_test

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

func decodeErr[T any](t *testing.T, src []byte) error {
	t.Helper()
	_, err := mustFor[T](t).Decode(src)
	return err
}

// treeErr decodes src as a tree.
func treeErr[T any](t *testing.T, src []byte) error {
	t.Helper()
	return decodeErr[T](t, append([]byte{0}, src...))
}

// graphErr decodes src as a graph.
func graphErr[T any](t *testing.T, src []byte) error {
	t.Helper()
	return decodeErr[T](t, append([]byte{1}, src...))
}

func TestHostileInputIsAnError(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<63+1)
	many := binary.AppendUvarint(nil, 1<<40)
	changed, err := mustFor[any](t).Append(nil, square{1})
	if err != nil {
		t.Fatal(err)
	}
	changed[len(changed)-20]++ // in the fingerprint, before two lines and the float64
	inBox, err := mustFor[any](t).Append(nil, box{nil})
	if err != nil {
		t.Fatal(err)
	}
	inBox = inBox[:len(inBox)-1]
	boxes := func(n int) []byte { return append(append(inBox, bytes.Repeat([]byte{254, 0}, n)...), 0) }
	if _, err := mustFor[any](t).Decode(boxes(9_000)); err != nil {
		t.Fatal(err)
	}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, err := range map[string]error{
		"bool of 2":             decodeErr[bool](t, []byte{2}),
		"bool of 2 in an array": decodeErr[[3]flag](t, []byte{1, 0, 2}),
		"bool of 2 in a struct": decodeErr[struct {
			A int16
			B [2]bool
			S string
		}](t, []byte{1, 1, 1, 2, 0}),
		"bool of 2 in a slice":          decodeErr[[]bool](t, []byte{3, 1, 2}),
		"int too short":                 decodeErr[int64](t, make([]byte, 7)),
		"int too long":                  decodeErr[int64](t, make([]byte, 9)),
		"string past the end":           decodeErr[[]string](t, []byte{2, 5, 'a'}),
		"slice without its length":      decodeErr[[]string](t, nil),
		"length without an end":         decodeErr[[]string](t, bytes.Repeat([]byte{0xff}, 11)),
		"huge slice of ints":            decodeErr[[]int](t, many),
		"huge slice of strings":         decodeErr[[]string](t, many),
		"slice over half the memory":    decodeErr[[]struct{}](t, huge),
		"huge map":                      decodeErr[map[string]int](t, many),
		"huge map of nothing":           decodeErr[map[struct{}]struct{}](t, many),
		"huge slice in a slice":         decodeErr[[][]string](t, cat([]byte{2}, many)),
		"key that comes twice":          decodeErr[map[string]bool](t, []byte{3, 1, 'a', 0, 1, 'a', 1}),
		"key that comes twice, reflect": decodeErr[map[name]bool](t, []byte{3, 1, 'a', 0, 1, 'a', 1}),
		"key that can't be hashed":      treeErr[map[any]bool](t, []byte{2, 17, 0, 1}),
		"pointer of 2":                  treeErr[*int](t, []byte{2}),
		"pointer to nothing":            treeErr[*[1 << 20]string](t, []byte{1, 0}),
		"unknown basic type":            treeErr[any](t, []byte{200, 0}),
		"unknown named type":            treeErr[any](t, cat([]byte{255, 3}, []byte("a.B12345678"))),
		"a named type cut":              treeErr[any](t, cat([]byte{255, 3}, []byte("a.B123"))),
		"a basic type by name":          treeErr[any](t, cat([]byte{255, 3}, []byte("int1234567812345678"))),
		"unknown error":                 treeErr[error](t, cat([]byte{254, 3}, []byte("a.B"))),
		"an int as an error":            treeErr[error](t, cat([]byte{3}, make([]byte, 8))),
		"an error as a shape":           treeErr[shape](t, cat([]byte{254, 6}, []byte("io.EOF"))),
		"a named type that changed":     decodeErr[any](t, changed),
		"slices too deep":               treeErr[nest](t, bytes.Repeat([]byte{2}, 12_000)),
		"maps too deep":                 treeErr[graph](t, bytes.Repeat([]byte{2, 0}, 12_000)),
		"interfaces too deep":           treeErr[any](t, bytes.Repeat([]byte{20, 2}, 12_000)),
		"boxes too deep":                decodeErr[any](t, boxes(12_000)),
		"neither tree nor graph":        decodeErr[*int](t, []byte{2, 0}),
		"no shape":                      decodeErr[*int](t, nil),
		"a type named before none":      treeErr[any](t, []byte{254, 0}),
		"another process's type":        treeErr[any](t, []byte{252, 1}),
		"an error without a type":       treeErr[error](t, []byte{251, 1, 2, 3, 4, 251, 1, 2, 3, 4, 0}),
		"a reference in a tree":         treeErr[*list](t, []byte{2, 0}),
		"a reference to nothing":        graphErr[*list](t, []byte{2, 0}),
		"a reference to another type":   graphErr[*tree](t, []byte{1, 1, 0, 0, 0, 2, 5}),
		"a forward reference to what":   graphErr[*list](t, []byte{3, 0}),
		"a map that leads forward":      graphErr[graph](t, []byte{3}),
		"a slice that leads forward":    graphErr[nest](t, []byte{3}),
		"a slice that is new and nil":   graphErr[nest](t, []byte{1, 0}),
		"interface cut":                 treeErr[any](t, []byte{}),
		"time without a location":       decodeErr[time.Time](t, make([]byte, 10)),
		"time in nowhere":               decodeErr[time.Time](t, cat(make([]byte, 9), []byte{9})),
		"nanoseconds of a second":       decodeErr[time.Time](t, cat(binary.AppendUvarint(make([]byte, 8), 1e9), []byte{1})),
		"a zone's offset past an int32": decodeErr[time.Time](t, cat(make([]byte, 9), []byte{3, 0, 0, 0, 0, 0, 0}, binary.AppendVarint(nil, 1<<40))),
		"an address of 3 bytes":         decodeErr[netip.Addr](t, []byte{3, 1, 2, 3}),
		"bytes left over":               treeErr[*int](t, []byte{0, 0}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestManyValuesOfNoSizeTakeNoMemory(t *testing.T) {
	for _, n := range []uint64{1, 1 << 30, 1<<(bits.UintSize-1) - 2} {
		v, err := mustFor[[]struct{}](t).Decode(binary.AppendUvarint(nil, n+1))
		if err != nil || uint64(len(v)) != n {
			t.Errorf("got %d values, %v, want %d", len(v), err, n)
		}
		if b, err := mustFor[[]struct{}](t).Append(nil, v); err != nil || len(b) > binary.MaxVarintLen64 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
}

func TestALocationThatIsNewIsLoadedByItsName(t *testing.T) {
	want, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Skip("no time zones here")
	}
	src := append(make([]byte, 9), 4, 0, 0, 0, 0, byte(len("Asia/Kathmandu")))
	src = append(append(src, "Asia/Kathmandu"...), byte(len("+0530")))
	src = binary.AppendVarint(append(src, "+0530"...), 5*3600+30*60) // as it was in 1970
	got, err := mustFor[time.Time](t).Decode(src)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if a, b := later.In(want).String(), later.In(got.Location()).String(); a != b {
		t.Errorf("got %s, want %s", b, a)
	}
}

func TestAZoneThatCannotBeLoadedBecomesAFixedOne(t *testing.T) {
	for _, name := range []string{"../../etc/passwd", "/etc/passwd", "No/Such_Zone", "Europe/Berlin\x00"} {
		src := append(make([]byte, 9), 4, 0, 0, 0, 0, byte(len(name)))
		src = append(append(src, name...), 1, 'X', 2)
		got, err := mustFor[time.Time](t).Decode(src)
		if err != nil {
			t.Fatal(err)
		}
		if abbreviation, offset := got.Zone(); abbreviation != "X" || offset != 1 {
			t.Errorf("got %s, %d seconds", abbreviation, offset)
		}
	}
}

// fat takes much memory for the few bytes that a hostile input gives it.
type fat struct {
	Next *fat
	Rest [1000]string
}

func TestDecodingAllocatesInProportionToItsInput(t *testing.T) {
	const size = 16 << 10
	count := binary.AppendUvarint(nil, size/4)
	ones, twos := bytes.Repeat([]byte{1}, size), bytes.Repeat([]byte{2}, size)
	for name, f := range map[string]func(src []byte) error{
		"nest": func(src []byte) error { return treeErr[nest](t, src) }, "list": func(src []byte) error { return decodeErr[*list](t, src) },
		"graph": func(src []byte) error { return treeErr[graph](t, src) }, "item": func(src []byte) error { return decodeErr[item](t, src) },
		"anys": func(src []byte) error { return decodeErr[[]any](t, src) }, "slices": func(src []byte) error { return decodeErr[[][]string](t, src) },
		"fat":      func(src []byte) error { return decodeErr[*fat](t, src) },
		"pointers": func(src []byte) error { return decodeErr[[]*[100]string](t, src) }, "map": func(src []byte) error { return decodeErr[map[string]event](t, src) },
	} {
		for _, src := range [][]byte{ones, twos, bytes.Repeat(count, size/len(count)), bytes.Repeat([]byte{20}, size), append(count, twos...), append(count, ones...), bytes.Repeat([]byte{2, 20, 2}, size/3)} {
			if got := allocated(func() { _ = f(src) }); got > 100*size {
				t.Errorf("%s: %d MiB for %d KiB that begin with %x", name, got>>20, len(src)>>10, src[:4])
			}
		}
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestEveryPartOfAnEncodingIsAnError(t *testing.T) {
	everyPart(t, newEvent())
	everyPart(t, []any{1, "a", time.Now(), map[string]any{"a": []byte{1}}, errSoldOut, square{1}})
	everyPart(t, &list{1, &list{2, nil}})
	everyPart(t, map[name][]netip.Addr{"a": {netip.MustParseAddr("::1")}})
}

func everyPart[T any](t *testing.T, v T) {
	t.Helper()
	c := mustFor[T](t)
	b, err := c.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := c.Decode(b[:n]); err == nil {
			t.Errorf("%T: no error for %d of %d bytes", v, n, len(b))
		}
	}
	if _, err := c.Decode(append(b, 0)); err == nil {
		t.Errorf("%T: no error for a byte more", v)
	}
}
