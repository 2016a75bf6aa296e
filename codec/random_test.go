//lint:file-ignore U1000 fields are there to be carried, not to be used

package codec

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Types that reflect can't make: named ones, with unexported and embedded
// fields, and such as hold themselves.
type (
	soakHidden struct {
		a bool
		b string
		c *soakHidden
		d [2]uint16
	}
	soakEmbedded struct {
		soakHidden
		*soakList
		N int
	}
	soakList struct {
		V    any
		Next *soakList
	}
	soakTree map[string]soakTree
	soakNest []soakNest
	soakKey  struct {
		A string
		B int8
	}
	soakBytes []byte
	soakError struct{ Code int }
)

func (e soakError) Error() string { return fmt.Sprint(e.Code) }

func init() {
	Register[soakError]()
	Register[*soakHidden]()
	Register[soakNest]()
}

// maker makes random types and values.
type maker struct{ *rand.Rand }

var leafTypes = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64](),
	reflect.TypeFor[uint](), reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[complex64](), reflect.TypeFor[complex128](),
	reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[struct{}](), reflect.TypeFor[soakKey](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[time.Time](),
	reflect.TypeFor[any](), reflect.TypeFor[error](), reflect.TypeFor[time.Duration](), reflect.TypeFor[*time.Location](), reflect.TypeFor[url.URL](), reflect.TypeFor[*big.Int](),
	reflect.TypeFor[soakHidden](), reflect.TypeFor[soakEmbedded](), reflect.TypeFor[*soakList](), reflect.TypeFor[soakTree](), reflect.TypeFor[soakNest](), reflect.TypeFor[soakBytes](),
}

const keyTypes = 21 // of leafTypes, from the front, can be a map's key

// typ returns a random type, not more than depth levels of types in one
// another.
func (m maker) typ(depth int) reflect.Type {
	if depth == 0 {
		return leafTypes[m.IntN(len(leafTypes))]
	}
	switch m.IntN(8) {
	case 0:
		return reflect.SliceOf(m.typ(depth - 1))
	case 1:
		return reflect.ArrayOf(m.IntN(4), m.typ(depth-1))
	case 2:
		return reflect.MapOf(m.key(), m.typ(depth-1))
	case 3:
		return reflect.PointerTo(m.typ(depth - 1))
	case 4:
		return m.typ(0)
	}
	var fields []reflect.StructField
	for i := range m.IntN(6) {
		name := fmt.Sprintf("F%d", i)
		fields = append(fields, reflect.StructField{Name: name, Type: m.typ(m.IntN(depth))})
	}
	return reflect.StructOf(fields)
}

func (m maker) key() reflect.Type {
	for {
		t := leafTypes[m.IntN(keyTypes)]
		switch m.IntN(6) {
		case 0:
			t = reflect.ArrayOf(2, t)
		case 1:
			t = reflect.StructOf([]reflect.StructField{{Name: "K", Type: t}, {Name: "L", Type: leafTypes[m.IntN(10)]}})
		}
		if t.Comparable() {
			return t
		}
	}
}

// fill sets v, addressable, to a random value.
func (m maker) fill(v reflect.Value, depth int) {
	if m.special(v) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			m.fill(reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem(), depth-1)
		}
	case reflect.Array:
		for i := range v.Len() {
			m.fill(v.Index(i), depth-1)
		}
	case reflect.Slice:
		if n := m.size(depth); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				m.fill(v.Index(i), depth-1)
			}
		}
	case reflect.Map:
		if n := m.size(depth); n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				m.fill(key, depth-1)
				m.fill(val, depth-1)
				v.SetMapIndex(key, val)
			}
		}
	case reflect.Pointer:
		if m.size(depth) >= 0 {
			v.Set(reflect.New(v.Type().Elem()))
			m.fill(v.Elem(), depth-1)
		}
	default:
		m.basic(v)
	}
}

// size returns the length of a slice or map, or -1 for nil.
func (m maker) size(depth int) int {
	switch {
	case m.IntN(4) == 0:
		return -1
	case depth <= 0:
		return 0
	}
	return m.IntN(5)
}

func (m maker) basic(v reflect.Value) {
	bits := m.Uint64() >> m.IntN(64)
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(bits&1 == 1)
	case reflect.String:
		v.SetString(strings.Repeat("é", int(bits%200)))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(int32(bits)) / 3)
	case reflect.Complex64, reflect.Complex128:
		v.SetComplex(complex(float64(bits), -1))
	default:
		if v.CanInt() {
			v.SetInt(int64(bits))
		} else {
			v.SetUint(bits)
		}
	}
}

// cet is one location: times that are a map's keys hold it by its address.
var cet = time.FixedZone("CET", 3600)

// special fills the values that random fields would make no sense of.
func (m maker) special(v reflect.Value) bool {
	pick := func(from ...any) { // nil stands for the zero value
		if x := from[m.IntN(len(from))]; x != nil {
			v.Set(reflect.ValueOf(x))
		}
	}
	at := time.Unix(int64(m.Int32()), int64(m.IntN(1e9)))
	switch v.Interface().(type) {
	case time.Time:
		pick(at.UTC(), at, at.In(cet), nil)
	case *time.Location:
		pick(cet, time.UTC, time.Local, nil)
	case netip.Addr:
		pick(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1%eth0"), nil)
	case url.URL:
		pick(url.URL{Scheme: "http", Host: "a", User: url.UserPassword("b", "c"), RawQuery: "d"}, nil)
	case *big.Int:
		pick(big.NewInt(m.Int64()), big.NewInt(-1), (*big.Int)(nil))
	default:
		switch v.Type() {
		case reflect.TypeFor[error]():
			pick(io.EOF, errors.New("x"), fmt.Errorf("at %d: %w", m.Int(), io.ErrUnexpectedEOF), errors.Join(io.EOF, soakError{m.Int()}), nil)
		case reflect.TypeFor[any]():
			pick(true, m.Int(), "text", 1.5, at, cet.String(), soakError{m.Int()}, time.Second, nil)
		default:
			return false
		}
	}
	return true
}

var soakOptions = cmp.Options{cmp.Exporter(func(reflect.Type) bool { return true })}

// TestRandomTypesArriveAsTheyWere makes types, and values of each.
// HOPPER_SOAK=1 makes a million values of twenty thousand types.
func TestRandomTypesArriveAsTheyWere(t *testing.T) {
	types, values := 100, 10
	if os.Getenv("HOPPER_SOAK") != "" {
		types, values = 20_000, 50
	}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			m := maker{rand.New(rand.NewPCG(1, uint64(w)))}
			for i := w; i < types && !t.Failed(); i += workers {
				m.check(t, m.typ(1+m.IntN(4)), values)
			}
		})
	}
	wg.Wait()
}

// check sends values of type typ through its plan.
func (m maker) check(t *testing.T, typ reflect.Type, values int) {
	root := planOf(typ)
	for range values {
		want := reflect.New(typ)
		m.fill(want.Elem(), 5)
		mode := mode{local: m.IntN(2) == 0}
		b, err := encodeAt(root, want, mode)
		if err != nil {
			t.Errorf("%v: encode: %v", typ, err)
			return
		}
		got, err := decodeNew(root, b, mode)
		if err != nil {
			t.Errorf("%v: decode: %v", typ, err)
			return
		}
		if diff := cmp.Diff(want.Interface(), got.Interface(), soakOptions); diff != "" {
			t.Errorf("%v (-sent +received):\n%s", typ, diff)
			return
		}
		if new(meter).total(root, want.UnsafePointer(), 1<<40) < int64(root.size) {
			t.Errorf("%v: measured as less than the value itself", typ)
		}
		if root.min > len(b) {
			t.Errorf("%v: an encoding of %d bytes, below the least of %d", typ, len(b), root.min)
		}
		m.damage(t, root, b, mode)
	}
}

// damage decodes what is no encoding, or another value's: it may not panic.
func (m maker) damage(t *testing.T, root *node, b []byte, mode mode) {
	if len(b) == 0 {
		return
	}
	if _, err := decodeNew(root, b[:m.IntN(len(b))], mode); err == nil {
		t.Errorf("%v: no error for a part of an encoding", root.typ)
	}
	if _, err := decodeNew(root, append(b[:len(b):len(b)], 0), mode); err == nil {
		t.Errorf("%v: no error for more than an encoding", root.typ)
	}
	b[m.IntN(len(b))] ^= byte(1 << m.IntN(8))
	got, err := decodeNew(root, b, mode)
	if err != nil {
		return
	}
	if _, err := encodeAt(root, got, mode); err != nil {
		t.Errorf("%v: decoded, but not to be encoded again: %v", root.typ, err)
	}
}

// encodeAt encodes what v points to.
func encodeAt(root *node, v reflect.Value, mode mode) ([]byte, error) {
	e := encoder{walker: walker{mode: mode}}
	return e.run(root, nil, v.UnsafePointer())
}

// decodeNew returns a pointer to a new value, decoded from b.
func decodeNew(root *node, b []byte, mode mode) (reflect.Value, error) {
	d := decoder{walker: walker{mode: mode}}
	v := reflect.New(root.typ)
	return v, d.run(root, b, v.UnsafePointer())
}
