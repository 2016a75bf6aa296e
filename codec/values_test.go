//lint:file-ignore U1000 fields are there to be carried, not to be used

package codec_test

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unique"

	"example.com/hopper/codec"
	"github.com/google/go-cmp/cmp"
)

// bothWays runs a test for the codecs of For and of Local.
func bothWays[T any](t *testing.T, test func(t *testing.T, c codec.Codec[T])) {
	t.Helper()
	t.Run("For", func(t *testing.T) { test(t, mustFor[T](t)) })
	t.Run("Local", func(t *testing.T) { test(t, codec.Local[T]()) })
}

// kept appends v and decodes it, if it can be appended.
func kept[T any](t *testing.T, c codec.Codec[T], v T) (got T, ok bool) {
	t.Helper()
	b, err := c.Append(nil, v)
	if err != nil {
		return got, false
	}
	if got, err = c.Decode(b); err != nil {
		t.Fatalf("%v was appended, and is lost: %v", v, err)
	}
	return got, true
}

func TestAMapKeyThatHoldsATimeComesBackApartOrNotAtAll(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	now := time.Now()
	east, east2 := time.FixedZone("CET", 3600), time.FixedZone("CET", 3600)
	for name, m := range map[string]map[time.Time]int{
		"one instant in two zones of one name":       {at.In(east): 1, at.In(east2): 2},
		"with and without a monotonic reading":       {now: 1, now.Round(0): 2},
		"one time":                                   {now: 1},
		"two times":                                  {at: 1, at.Add(1): 2, at.In(east): 3, {}: 4},
		"a loaded zone, twice, and a fixed zone too": {at.In(load(t)): 1, at.In(load(t)): 2, at.In(time.FixedZone("CET", 3600)): 3},
	} {
		bothWays(t, func(t *testing.T, c codec.Codec[map[time.Time]int]) {
			got, ok := kept(t, c, m)
			if ok == strings.HasPrefix(name, "with and") {
				t.Errorf("%s: encoded: %v", name, ok)
			}
			if ok && len(got) != len(m) {
				t.Errorf("%s: got %v, want %v", name, got, m)
			}
		})
	}
	type key struct {
		At  any
		Ptr *time.Time
	}
	if _, ok := kept(t, mustFor[map[key]int](t), map[key]int{{At: now}: 1, {At: now.Round(0)}: 2}); ok {
		t.Errorf("keys that hold times in an interface are not told apart, and were encoded")
	}
	again := at
	if got, ok := kept(t, mustFor[map[key]int](t), map[key]int{{Ptr: &again}: 1, {Ptr: &at}: 2}); !ok || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

// load returns Berlin's location as new.
func load(t *testing.T) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here")
	}
	return loc
}

func TestAFixedZoneIsNotTakenForALoadedOneOfItsName(t *testing.T) {
	loaded, err := time.LoadLocation("CET")
	if err != nil {
		t.Skip("no time zones here")
	}
	bothWays(t, func(t *testing.T, c codec.Codec[time.Time]) {
		winter := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, loc := range []*time.Location{time.FixedZone("CET", 3600), loaded, time.FixedZone("CET", 3600)} {
			got, ok := kept(t, c, winter.In(loc))
			if !ok || got.Location() != loc {
				t.Errorf("got %v, want it in the very location", got)
			}
			if a, b := got.AddDate(0, 6, 0).String(), winter.In(loc).AddDate(0, 6, 0).String(); a != b {
				t.Errorf("half a year later it is %s, want %s", a, b)
			}
		}
	})
}

func TestManyZonesKeepEachItsOwn(t *testing.T) {
	var locs []*time.Location
	for i := range 2_000 {
		locs = append(locs, time.FixedZone("CET", 3600+i))
	}
	locs = append(locs, load(t))
	summer := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for _, loc := range locs {
		if got := pass(t, summer.In(loc)); got.Location() != loc {
			t.Fatalf("got %v, want it in %v", got, loc)
		}
	}
}

// The location of another process has a number that is none here.
func TestAnotherProcessesZonesAreTheRightOnes(t *testing.T) {
	for _, loc := range []*time.Location{load(t), time.FixedZone("CET", 3600), time.FixedZone("", -90*60)} {
		for _, at := range []time.Time{time.Date(2026, 1, 1, 0, 0, 0, 0, loc), time.Date(2026, 7, 1, 0, 0, 0, 0, loc)} {
			b, err := mustFor[time.Time](t).Append(nil, at)
			if err != nil {
				t.Fatal(err)
			}
			b[8+1+1] ^= 0x55 // in the number, behind a byte for the nanoseconds and the tag
			got, err := mustFor[time.Time](t).Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := got.AddDate(0, 6, 0).String(), at.AddDate(0, 6, 0).String(); a != b {
				t.Errorf("half a year later it is %s, want %s", a, b)
			}
		}
	}
}

type stamp time.Time

func TestATypeMadeOfATimeIsATime(t *testing.T) {
	now := time.Now()
	got := pass(t, stamp(now))
	if time.Time(got) != now.Round(0) {
		t.Errorf("got %#v, want it without the monotonic reading", got)
	}
}

// lossy leaves out a field when it marshals.
type lossy struct {
	A string
	B int
}

func (l lossy) MarshalBinary() ([]byte, error)    { return []byte(l.A), nil }
func (l *lossy) UnmarshalBinary(b []byte) error   { l.A = string(b); return nil }
func (l lossy) MarshalJSON() ([]byte, error)      { return json.Marshal(l.A) }
func (l *lossy) UnmarshalJSON(b []byte) (_ error) { return json.Unmarshal(b, &l.A) }

func TestALossyMarshalerIsNotUsed(t *testing.T) {
	want := map[string]lossy{"a": {"b", 1}}
	if diff := cmp.Diff(want, pass(t, want)); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
}

func TestAMarshalerThatRefusesItsOwnZeroIsNotUsed(t *testing.T) {
	if got := pass(t, x509.OID{}); !got.Equal(x509.OID{}) {
		t.Errorf("got %v", got)
	}
}

// picky marshals to what it does not take back, unless it is set. No plan
// carries it.
type picky struct{ h unique.Handle[string] }

func (p picky) MarshalText() ([]byte, error) {
	if p == (picky{}) {
		return nil, nil
	}
	return []byte(p.h.Value()), nil
}

func (p *picky) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		return errors.New("empty")
	}
	p.h = unique.Make(string(b))
	return nil
}

// viaJSON can be carried as JSON only.
type viaJSON struct{ p picky }

func (v viaJSON) MarshalJSON() ([]byte, error) { return json.Marshal(v.p.h.Value()) }
func (v *viaJSON) UnmarshalJSON(b []byte) error {
	var s string
	err := json.Unmarshal(b, &s)
	v.p.h = unique.Make(s)
	return err
}

func TestWhatAMarshalerCannotReadBackIsNotEncoded(t *testing.T) {
	bothWays(t, func(t *testing.T, c codec.Codec[[]picky]) {
		want := []picky{{unique.Make("a")}, {unique.Make("b")}}
		if got, ok := kept(t, c, want); !ok || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("got %v, want %v", got, want)
		}
		if _, ok := kept(t, c, []picky{{unique.Make("a")}, {}}); ok {
			t.Errorf("what it refuses to read was encoded")
		}
	})
	bothWays(t, func(t *testing.T, c codec.Codec[viaJSON]) {
		want := viaJSON{picky{unique.Make("a")}}
		if got, ok := kept(t, c, want); !ok || got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// greedy takes what it marshals. In an interface it is its only pointer.
type greedy struct{ h unique.Handle[string] }

func (g *greedy) MarshalText() ([]byte, error) {
	s := g.h.Value()
	g.h = unique.Make("taken")
	return []byte(s), nil
}

func (g *greedy) UnmarshalText(b []byte) error {
	g.h = unique.Make(string(b))
	return nil
}

type greedyBox struct{ V []any }

func TestAMarshalerCannotChangeWhatStandsInAnInterface(t *testing.T) {
	box := greedyBox{[]any{greedy{unique.Make("a")}}}
	codec.Local[greedyBox]().Append(nil, box)
	if got := box.V[0].(greedy).h.Value(); got != "a" {
		t.Errorf("the sender's value is %q now", got)
	}
}

// shell travels by its plan, as an item within the item, or not at all.
type shell struct{ V any }

func (shell) MarshalText() ([]byte, error)     { return nil, errors.New("it does not") }
func (*shell) UnmarshalText(text []byte) error { return errors.New("it does not") }

const nestDepth = 1000 // of each: slices and interfaces

// nested returns so many of them, each deep within the other.
func nested(n int) shell {
	v := any("X")
	for range n {
		for range nestDepth / 2 {
			v = []any{v}
		}
		v = shell{v}
	}
	return v.(shell)
}

// The stack is bounded by the depth of an item, those within it included.
func TestDepthIsCountedAcrossItemsWithinItems(t *testing.T) {
	c := codec.Local[shell]()
	if got, ok := kept(t, c, nested(9)); !ok || !reflect.DeepEqual(got, nested(9)) {
		t.Error("what is not too deep does not arrive")
	}
	if _, ok := kept(t, c, nested(30)); ok {
		t.Error("what is too deep is encoded")
	}
}

func TestHostileDepthAcrossItemsWithinItemsIsAnError(t *testing.T) {
	c := codec.Local[shell]()
	encoded := func(v shell) []byte {
		b, err := c.Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	inner := func(b []byte) []byte { // behind the flag and the length
		_, n := binary.Uvarint(b[1:])
		return b[1+n:]
	}
	inNest := inner(encoded(shell{shell{"Y"}}))
	header := inNest[1 : len(inNest)-len(encoded(shell{"Y"}))]
	one := inner(encoded(nested(1)))
	one = one[:len(one)-len("?\x01X")] // without its core

	b := encoded(nested(1))
	for n := 2; n <= 30; n++ {
		in := slices.Concat(one, header, b)
		b = append(binary.AppendUvarint([]byte{0}, uint64(len(in))), in...)
		if _, err := c.Decode(b); (err != nil) != (n >= 10) {
			t.Fatalf("%d items, of depth %d, in one another: %v", n, nestDepth, err)
		}
	}
}

// boxedMarshaler is carried by its plan, but for values whose type is not
// known.
type boxedMarshaler struct{ V any }

func (b boxedMarshaler) MarshalText() ([]byte, error) { return fmt.Append(nil, b.V), nil }
func (b *boxedMarshaler) UnmarshalText(text []byte) error {
	b.V = stranger{len(text)}
	return nil
}

func TestAMarshalerHelpsOutWhereThePlanFails(t *testing.T) {
	c := mustFor[[]boxedMarshaler](t)
	want := []boxedMarshaler{{1}, {"a"}, {stranger{3}}, {[]any{2}}}
	got, ok := kept(t, c, want)
	if diff := cmp.Diff(want, got, exact); diff != "" || !ok {
		t.Errorf("-sent +received:\n%s", diff)
	}
}

// dialer is live: what it marshals to is no copy.
type dialer struct{ set func(string) }

func (l *dialer) MarshalText() ([]byte, error) { return []byte("x"), nil }
func (l *dialer) UnmarshalText([]byte) error   { return nil }

func TestLocalDoesNotMarshalWhatIsLive(t *testing.T) {
	if _, ok := kept(t, mustFor[*dialer](t), &dialer{func(string) {}}); !ok {
		t.Errorf("For does not marshal it")
	}
	parked(t, &dialer{func(string) {}})
}

func TestErrorsOfTheStandardLibraryAreKnown(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, dial := (&net.Dialer{Timeout: -1}).Dial("tcp", "127.0.0.1:1")
	_, canceled := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:1")
	_, escape := url.QueryUnescape("%zz")
	_, host := url.Parse(strings.Join([]string{"http://a", "b/"}, " "))
	_, parse := time.Parse(time.RFC3339, "today")
	_, duration := time.ParseDuration("x")
	_, num := strconv.Atoi("x")
	_, open := os.Open("/does/not/exist")
	_, look := exec.LookPath("/does/not/exist")
	_, addr := net.ResolveTCPAddr("tcp", "a:b:c")
	_, _, cidr := net.ParseCIDR("x")
	var none any
	var wrongType struct{ A int }
	for _, want := range []error{
		dial, canceled, escape, host, parse, duration, num, open, look, addr, cidr,
		json.Unmarshal([]byte("{"), &wrongType), json.Unmarshal([]byte(`{"A":"b"}`), &wrongType), json.Unmarshal([]byte("{}"), none),
		json.NewDecoder(strings.NewReader("")).Decode(&wrongType), &http.MaxBytesError{Limit: 1}, http.ErrHandlerTimeout,
		&exec.ExitError{Stderr: []byte("x")}, context.Canceled, io.ErrUnexpectedEOF, os.ErrProcessDone,
		&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, &url.Error{Op: "Get", Err: dial},
		os.Rename("/does/not/exist", "/tmp"), errors.Join(dial, parse, errPlain), fmt.Errorf("%w, %w", escape, look),
	} {
		bothWays(t, func(t *testing.T, c codec.Codec[error]) {
			got, ok := kept(t, c, want)
			if !ok {
				t.Fatalf("%T %v is refused", want, want)
			}
			if got.Error() != want.Error() || fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
				t.Errorf("got %T %v, want %T %v", got, got, want, want)
			}
			for _, sentinel := range []error{context.DeadlineExceeded, os.ErrNotExist, os.ErrDeadlineExceeded, exec.ErrNotFound, context.Canceled} {
				if errors.Is(got, sentinel) != errors.Is(want, sentinel) {
					t.Errorf("%v: errors.Is(_, %v) is %v", want, sentinel, errors.Is(got, sentinel))
				}
			}
			var a, b net.Error
			if errors.As(want, &a) && (!errors.As(got, &b) || a.Timeout() != b.Timeout()) {
				t.Errorf("%v: Timeout is not %v", want, a.Timeout())
			}
		})
	}
}

func secretValue() any { type secret struct{ A int }; return secret{1} }

func TestRegisterValueRegistersATypeThatCannotBeNamed(t *testing.T) {
	codec.RegisterValue(secretValue())
	if diff := cmp.Diff(secretValue(), pass(t, secretValue()), exact); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
	if !panics(func() { codec.RegisterValue(nil) }) || !panics(func() { codec.RegisterValue(make(chan int)) }) {
		t.Errorf("no panic for nil, or for a type that can't be carried")
	}
}

type conn struct {
	addr string
	out  chan string
}

// connCodec makes a connection anew.
type connCodec struct{}

func (connCodec) Append(dst []byte, c *conn) ([]byte, error) {
	if c.addr == "" {
		return dst, errors.New("no address")
	}
	return append(dst, c.addr...), nil
}
func (connCodec) Decode(src []byte) (*conn, error) {
	if len(src) == 1 {
		return nil, errors.New("too short")
	}
	return &conn{string(src), make(chan string)}, nil
}

func init() { codec.RegisterCodec[*conn](connCodec{}) }

func TestRegisterCodecServesATypeWhereverItStands(t *testing.T) {
	type job struct {
		Conn *conn
		All  map[string]*conn
		Any  any
	}
	bothWays(t, func(t *testing.T, c codec.Codec[job]) {
		a, b := &conn{addr: "aa"}, &conn{addr: "bb"}
		got, ok := kept(t, c, job{Conn: a, All: map[string]*conn{"b": b}})
		if !ok || got.Conn.addr != "aa" || got.Conn.out == nil || got.All["b"].addr != "bb" {
			t.Errorf("got %+v", got)
		}
		for _, bad := range []string{"", "x"} {
			if _, ok := kept(t, c, job{Conn: &conn{addr: bad}, All: nil}); ok {
				t.Errorf("%q was encoded", bad)
			}
		}
	})
	if got := codec.Label(mustFor[job](t)); !strings.Contains(got, "\nConn *example.com/hopper/codec_test.conn example.com/hopper/codec_test.connCodec *example.com/hopper/codec_test.conn") {
		t.Errorf("the label does not name the codec:\n%s", got)
	}
	if !panics(func() { codec.RegisterCodec[*conn](connCodec{}) }) || !panics(func() { codec.RegisterCodec[int](codec.JSON[int]{}) }) {
		t.Errorf("no panic for a second codec, or one for int")
	}
}

func TestADynamicTypeThatHasChangedIsAnErrorThatNamesTheDifference(t *testing.T) {
	type (
		base struct {
			A string
			B int
		}
		retyped struct {
			A string
			B []byte
		}
		longer struct {
			A string
			B int
			C bool
		}
		moved struct {
			B int
			A string
		}
		inside struct {
			A string
			B struct{ N int }
		}
		insideToo struct {
			A string
			B struct{ N uint8 }
		}
	)
	for _, c := range []struct {
		was, is any
		want    string
	}{
		{base{}, base{}, ""},
		{base{}, retyped{}, `field "B" was something else, is []byte`},
		{base{}, longer{}, `field "C", a bool, is new`},
		{longer{}, base{}, "a field is gone, which was number 3"},
		{base{}, struct{}{}, "a field is gone, which was number 1"},
		{struct{}{}, base{}, `field "A", a string, is new`},
		{base{}, moved{}, `field "B" has moved`},
		{inside{}, insideToo{}, `field "B" was something else, is struct { N uint8 }`},
		{wide(reflect.TypeFor[int]()), wide(reflect.TypeFor[string]()), "what differs is not listed: the layout in memory, or a field far down"},
	} {
		got := codec.Changed(reflect.TypeOf(c.was), reflect.TypeOf(c.is))
		if c.want != got {
			t.Errorf("%T that became %T: got %s, want %s", c.was, c.is, got, c.want)
		}
	}
}

// wide returns a struct of a hundred fields.
func wide(last reflect.Type) any {
	fields := make([]reflect.StructField, 100)
	for i := range fields {
		fields[i] = reflect.StructField{Name: fmt.Sprint("F", i), Type: reflect.TypeFor[int]()}
	}
	fields[99].Type = last
	return reflect.Zero(reflect.StructOf(fields)).Interface()
}

func TestATypeIsNamedOnceInAnItem(t *testing.T) {
	c := mustFor[[]any](t)
	one, err := c.Append(nil, []any{square{1}})
	if err != nil {
		t.Fatal(err)
	}
	ten, err := c.Append(nil, []any{square{1}, square{2}, square{3}, square{4}, square{5}})
	if err != nil || len(ten)-len(one) != 4*(1+1+8) {
		t.Errorf("%d bytes for one, %d for five, %v", len(one), len(ten), err)
	}
}

// An item encoded before another type was registered can be read afterwards.
func TestRegisteringAnotherTypeLeavesABacklogReadable(t *testing.T) {
	type unrelated struct{ A int }
	b, err := mustFor[any](t).Append(nil, []any{square{2}, errSoldOut, io.EOF})
	if err != nil {
		t.Fatal(err)
	}
	label := codec.Label(mustFor[any](t))
	codec.Register[unrelated]()
	got, err := mustFor[any](t).Decode(b)
	if diff := cmp.Diff(any([]any{square{2}, errSoldOut, io.EOF}), got, exact); diff != "" || err != nil {
		t.Errorf("%v, -sent +received:\n%s", err, diff)
	}
	if diff := cmp.Diff(label, codec.Label(mustFor[any](t))); diff != "" {
		t.Errorf("the label has changed: %s", diff)
	}
}

func TestTheCodecOfABigTypeIsMadeOnce(t *testing.T) {
	if codec.Local[event]() != codec.Local[event]() || mustFor[event](t) != mustFor[event](t) {
		t.Errorf("there are two")
	}
	if x := pass(t, big.NewInt(7)); x.Int64() != 7 {
		t.Errorf("got %v", x)
	}
}
