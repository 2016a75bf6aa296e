//lint:file-ignore U1000 fields are there to be carried, not to be used

package codec_test

import (
	"bufio"
	list2 "container/list"
	"container/ring"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unique"
	"unsafe"

	"example.com/hopper"
	"example.com/hopper/codec"
	"github.com/google/go-cmp/cmp"
)

// exact compares as cmp.Equal does, with unexported fields, and floats by their
// bits.
var exact = cmp.Options{
	cmp.Exporter(func(reflect.Type) bool { return true }),
	cmp.Comparer(func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }),
	cmp.Comparer(sameBits[float64]), cmp.Comparer(sameBits[celsius]),
	cmp.Comparer(func(a, b complex128) bool { return sameBits(real(a), real(b)) && sameBits(imag(a), imag(b)) }),
}

// pass encodes and decodes v.
func pass[T any](t *testing.T, v T) T {
	t.Helper()
	c := mustFor[T](t)
	b, err := c.Append([]byte("before"), v)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	if string(b[:6]) != "before" {
		t.Fatalf("Append changed what stood before: %q", b)
	}
	got, err := c.Decode(b[6:])
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	clear(b) // the value must not refer to it
	return got
}

func sameBits[F ~float64](a, b F) bool {
	return math.Float64bits(float64(a)) == math.Float64bits(float64(b))
}

// carried is a test that values of one type arrive as they were.
type carried struct {
	name string
	test func(t *testing.T)
}

func carries[T any](values ...T) carried {
	return carried{reflect.TypeFor[T]().String(), func(t *testing.T) {
		var zero T
		values := append(values, zero)
		for _, want := range values {
			if diff := cmp.Diff(want, pass(t, want), exact); diff != "" {
				t.Errorf("%#v (-sent +received):\n%s", want, diff)
			}
		}
		if !raceEnabled { // it takes ten times as long
			throughTheDisk(t, values)
		}
	}}
}

// throughTheDisk sends the values again and again through a pipe, until some
// have been on disk.
func throughTheDisk[T any](t *testing.T, values []T) {
	t.Helper()
	in, out := make(chan T, 64), make(chan T, 64)
	p, err := hopper.Pipe(out, in, hopper.Dir(t.TempDir()), hopper.MaxMemory(0))
	if err != nil {
		t.Fatal(err)
	}
	sent, got := 0, 0
	for ; sent%1000 != 0 || p.Stats().Segments == 0; sent++ {
		in <- values[sent%len(values)]
	}
	close(in)
	for v := range out {
		want := values[got%len(values)]
		if !reflect.DeepEqual(want, v) && !cmp.Equal(want, v, exact) { // cmp is slow
			t.Errorf("item %d: %#v became %#v", got, want, v)
			break
		}
		got++
	}
	if err := p.Close(); got != sent || err != nil {
		t.Errorf("received %d of %d items, %v", got, sent, err)
	}
}

type (
	flag    bool
	celsius float64
	name    string
	raw     []byte
	uuid    [16]byte
	names   []name
	headers map[string][]string
	point   struct{ X, Y int32 }
	padded  struct {
		A bool
		B int64
		C bool
		D int32
		E byte
	}
	hidden struct {
		a int
		b string
		c []byte
	}
	embedded struct {
		hidden
		*point
		time.Time
		Name string
	}
	item struct {
		Name  string
		Price float64
		Parts []item
	}
	list struct {
		Value int
		Next  *list
	}
	tree struct {
		Left, Right *tree
		Key         string
	}
	graph         map[string]graph
	nest          []nest
	result[T any] struct {
		V   T
		Err error
	}
	unnamed struct {
		S struct {
			A string
			B []struct{ C, D string }
		}
	}
	blank struct {
		_ [0]func()
		_ int
		A string
		_ bool
	}
	registered struct {
		A int
		b string
	}
	clock  time.Time
	places struct{ Home, Away *time.Location }
)

// token marshals itself, by value, and counts how often.
type token struct{ text *string }

func (t token) MarshalBinary() ([]byte, error) {
	if t.text == nil {
		return nil, nil
	}
	return []byte("+" + *t.text), nil
}

func (t *token) UnmarshalBinary(b []byte) error {
	if len(b) > 0 {
		s := string(b[1:])
		t.text = &s
	}
	return nil
}

// set marshals itself, and is no struct.
type set []string

func (s set) MarshalBinary() ([]byte, error) { return []byte(strings.Join(s, "+")), nil }

func (s *set) UnmarshalBinary(b []byte) error {
	*s = strings.Split(string(b), "+")
	return nil
}

// guarded can't be copied, and marshals itself for that.
type guarded struct {
	mu sync.Mutex
	n  byte
}

func (g *guarded) AppendBinary(dst []byte) ([]byte, error) { return append(dst, g.n), nil }

func (g *guarded) UnmarshalBinary(b []byte) error {
	if len(b) != 1 {
		return errors.New("not a guarded")
	}
	g.n = b[0]
	return nil
}

func init() {
	codec.Register[registered]()
	codec.Register[*registered]()
}

func ref[T any](v T) *T { return &v }

// Of the locations of one name a process keeps the first that it has met, so
// tests must not make others.
var (
	berlin = sync.OnceValue(func() *time.Location {
		loc, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			return time.FixedZone("CET", 3600)
		}
		return loc
	})
	here = time.FixedZone("here", 7200)
)

func TestValuesArriveAsTheyWere(t *testing.T) {
	nan := math.Float64frombits(0x7ff8dead_0000beef)
	at := time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC)
	text := "text"
	u, err := url.Parse("https://user:pa%20ss@example.com:80/a%2Fb/?q=1#frag%2Fment")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []carried{
		carries(true),
		carries(flag(true)),
		carries(1, -1, math.MinInt),
		carries(int8(-1)),
		carries(int16(-1)),
		carries(int32(-1)),
		carries(int64(math.MinInt64)),
		carries(uint(1)),
		carries(uint8(255)),
		carries(uint16(1)),
		carries(uint32(1)),
		carries(uint64(math.MaxUint64)),
		carries(float32(1.5)),
		carries(1.5, nan, math.Inf(-1), math.Copysign(0, -1)),
		carries(celsius(nan)),
		carries(complex64(1 + 2i)),
		carries(complex(nan, 1)),
		carries("x", text),
		carries(name("x")),
		carries([]byte("bytes"), []byte{}, []byte{0}, []byte{0, 0, 1}),
		carries(raw("x"), raw{}, raw{0}),
		carries(struct{}{}),
		carries([0]string{}),
		carries([3]bool{true}),
		carries(uuid{1, 2}),
		carries([2]string{"a", "b"}),
		carries([2][2][]byte{{{1}}}),
		carries(point{1, 2}),
		carries(padded{true, 2, true, 4, 5}),
		carries(hidden{1, "b", []byte{}}),
		carries(embedded{hidden{1, "b", nil}, &point{1, 2}, at, "n"}),
		carries(unnamed{}),
		carries(blank{A: "a"}),
		carries([]int{1, 2}, []int{}),
		carries([]bool{true}, []bool{}),
		carries([]string{"a", ""}, []string{}),
		carries(names{"a"}, names{}),
		carries([][]string{{"a"}, nil, {}}),
		carries([]struct{}{{}, {}}, []struct{}{}),
		carries([]*int{ref(1), nil}),
		carries([]padded{{A: true}, {C: true}}),
		carries(map[string]string{"a": "b"}, map[string]string{}),
		carries(map[string]int{"a": 1}),
		carries(headers{"a": {"b"}, "c": nil, "d": {}}, headers{}),
		carries(map[point]name{{1, 2}: "a"}),
		carries(map[name]bool{"a": true}),
		carries(map[int]map[int]string{1: {2: "3"}, 2: nil, 3: {}}),
		carries(map[struct{}]int{{}: 1}),
		carries(map[[2]string]*point{{"a"}: {1, 2}}),
		carries(map[any]any{1: "a", "b": 2.5, registered{1, "b"}: nil}),
		carries(map[bool]struct{}{true: {}, false: {}}),
		carries(map[celsius][]byte{1: {1}, 2: {}, 3: nil}),
		carries(map[string]any{"a": map[string]any{"b": []any{1, "c", nil}}}),
		carries(ref(1)),
		carries(ref(ref("x"))),
		carries(ref([]int(nil))),
		carries(&point{1, 2}),
		carries(&hidden{b: "b"}),
		carries(ref(struct{}{})),
		carries(item{"a", 1, []item{{"b", 2, []item{}}, {"c", 3, nil}}}),
		carries(&list{1, &list{2, nil}}),
		carries(tree{&tree{Key: "l"}, nil, "k"}),
		carries(graph{"a": {"b": nil}, "c": {}}),
		carries(nest{{}, nil, {{}}}),
		carries(at, at.In(berlin()), at.Local(), at.In(time.FixedZone("", -90*60)), at.In(time.FixedZone("odd", 12345))),
		carries([]time.Time{at}),
		carries(map[time.Time]int{at: 1}),
		carries(clock(at), clock(at.In(berlin()))),
		carries(time.March),
		carries(places{time.UTC, berlin()}, places{nil, time.Local}),
		carries(time.Hour),
		carries(netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("fe80::1%eth0")),
		carries(netip.MustParsePrefix("10.0.0.0/8")),
		carries(map[netip.Addr]netip.AddrPort{{}: netip.MustParseAddrPort("[::1]:80")}),
		carries(*big.NewInt(-5), *new(big.Int).Lsh(big.NewInt(1), 300)),
		carries(big.NewRat(1, 3)),
		carries(new(big.Float).SetPrec(100).SetMode(big.ToZero).SetFloat64(0.1)),
		carries(*u, url.URL{Path: "a b", RawPath: "%61 b"}, url.URL{ForceQuery: true, OmitHost: true}),
		carries(u),
		carries(url.Values{"a": {"b"}}),
		carries(net.ParseIP("1.2.3.4")),
		carries(net.IPNet{IP: net.IP{1}, Mask: net.IPMask{2}}),
		carries(mail.Address{Name: "a", Address: "b"}),
		carries(json.RawMessage("{}")),
		carries(json.Number("1")),
		carries(token{&text}),
		carries(&token{&text}, &token{}),
		carries([]token{{&text}, {}}),
		carries(map[string]token{"a": {&text}, "b": {}, "c": {}, "d": {&text}, "e": {}}),
		carries(map[string]*token{"a": {&text}, "b": nil}),
		carries(any(1), any("a"), any([]byte{}), any(at), any(registered{1, "b"}), any(&registered{}), any([]any{}), any(map[string]any(nil))),
		carries([]any{true, int8(1), uint64(2), 1i, time.Second, []string{"a"}}),
		carries(error(io.EOF), fs.ErrNotExist, errors.New("x")),
		carries(result[[]item]{V: []item{{}}, Err: io.EOF}),
		carries([]fmt.Stringer{time.Second, at}),
		carries(newEvent()),
		carries(ref(newEvent())),
		carries([]event{newEvent(), {}}),
	} {
		t.Run(c.name, c.test)
	}
}

func TestAMarshalerThatCannotBeCopiedIsNotCopied(t *testing.T) {
	got := pass(t, &guarded{n: 7})
	if got.n != 7 {
		t.Errorf("got n = %d, want 7", got.n)
	}
}

func TestAMarshalerIsLeftAloneWhereThePlanKeepsMore(t *testing.T) {
	want := set{"a+b", "c"} // it would arrive as three
	if diff := cmp.Diff(want, pass(t, want)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNilAndEmptyAreKeptApart(t *testing.T) {
	type all struct {
		S []string
		I []int
		B []byte
		M map[string]string
		N map[name]int
		A any
		P *[]int
	}
	for _, want := range []all{
		{},
		{S: []string{}, I: []int{}, B: []byte{}, M: map[string]string{}, N: map[name]int{}, A: []any{}, P: &[]int{}},
		{A: []any(nil), P: new([]int)},
	} {
		if diff := cmp.Diff(want, pass(t, want), exact); diff != "" {
			t.Errorf("-sent +received:\n%s", diff)
		}
	}
	empty, err := codec.Bytes{}.Decode(nil)
	if err != nil || empty == nil || len(empty) > 0 {
		t.Errorf("Bytes decodes nothing as %#v, %v; want an empty slice", empty, err)
	}
}

func TestMapsWithNaNKeysKeepTheirEntries(t *testing.T) {
	nan := math.NaN()
	if got := pass(t, map[float64]string{nan: "a", 1: "b"}); len(got) != 2 || got[1] != "b" {
		t.Errorf("got %v", got)
	}
	m := map[any]int{nan: 1}
	m[nan] = 2
	if got := pass(t, m); len(got) != 2 {
		t.Errorf("got %v, want two NaN", got)
	}
}

func TestSharedPointersArriveShared(t *testing.T) {
	shared := &point{1, 2}
	got := pass(t, []*point{shared, shared, {1, 2}})
	if got[0] == shared {
		t.Errorf("a pointer came through as it was")
	}
	if got[0] != got[1] || got[0] == got[2] {
		t.Errorf("got %p, want the first two to be one, and the third another", got)
	}
}

func TestTimesKeepTheirLocation(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 5, time.UTC)
	for _, loc := range []*time.Location{time.UTC, time.Local, berlin(), here} {
		got := pass(t, at.In(loc))
		if !got.Equal(at) || got.Location() != loc {
			t.Errorf("%v: got %v in %p, want it in %p", loc, got, got.Location(), loc)
		}
	}
	now := time.Now()
	if got := pass(t, now); got != now.Round(0) {
		t.Errorf("got %#v, want %#v: the wall clock alone", got, now.Round(0))
	}
	for _, extreme := range []time.Time{{}, time.Unix(1<<62, 999999999), time.Unix(-1<<62, 0)} {
		if got := pass(t, extreme); !got.Equal(extreme) {
			t.Errorf("got %v, want %v", got, extreme)
		}
	}
}

type withFunc struct {
	A  int
	cb func()
}

type spin struct{ v uint32 }

func (*spin) Lock()   {}
func (*spin) Unlock() {}

type spinWord uint32

func (*spinWord) Lock()   {}
func (*spinWord) Unlock() {}

type deep struct {
	Items []struct {
		M map[string]*struct{ C chan<- int }
	}
}

type badKey struct {
	M map[struct{ c chan int }]string
}

type lost struct {
	time.Time
	mu sync.Mutex
}

func TestForRefusesWhatCannotTravel(t *testing.T) {
	type refusal struct {
		err  error
		want string
	}
	for _, r := range []refusal{
		{forErr[withFunc](), "withFunc.cb is a func(), which is no data: leave it out, or give codec_test.withFunc"},
		{forErr[*withFunc](), "withFunc.cb is a func(), which is no data: leave it out, or give codec_test.withFunc"},
		{forErr[[]withFunc](), "T[].cb is a func(), which is no data: leave it out, or give codec_test.withFunc"},
		{forErr[func(int) string](), "T is a func(int) string, which is no data: leave it out, or give func(int) string"},
		{forErr[request](), "request.Ctx is a context.Context, which is no data: leave it out, or give codec_test.request"},
		{forErr[chan int](), "T is a chan int, which is no data: leave it out, or give chan int"},
		{forErr[unsafe.Pointer](), "Pointer is an unsafe.Pointer, which is no data: leave it out, or give unsafe.Pointer"},
		{forErr[deep](), "deep.Items[].M[value].C is a chan<- int, which is no data: leave it out, or give codec_test.deep"},
		{forErr[badKey](), "badKey.M[key].c is a chan int, which is no data: leave it out, or give codec_test.badKey"},
		{forErr[struct{ A [2]unsafe.Pointer }](), "T.A[] is an unsafe.Pointer, which is no data: leave it out, or give struct { A [2]unsafe.Pointer }"},
		{forErr[struct{ sync.Mutex }](), "T.Mutex is a sync.Mutex, which must not be copied: leave it out, or give struct { sync.Mutex }"},
		{forErr[struct{ mu *sync.RWMutex }](), "T.mu is a sync.RWMutex, which must not be copied: leave it out, or give struct { mu *sync.RWMutex }"},
		{forErr[sync.WaitGroup](), "WaitGroup is a sync.WaitGroup, which must not be copied: leave it out, or give sync.WaitGroup"},
		{forErr[*sync.Map](), "Map is a sync.Map, which must not be copied: leave it out, or give *sync.Map"},
		{forErr[struct{ N atomic.Int64 }](), "T.N is an atomic.Int64, which must not be copied: leave it out, or give struct { N atomic.Int64 }"},
		{forErr[[4]atomic.Bool](), "T[] is an atomic.Bool, which must not be copied: leave it out, or give [4]atomic.Bool"},
		{forErr[[]spinWord](), "T[] is a codec_test.spinWord, which must not be copied: leave it out, or give []codec_test.spinWord"},
		{forErr[struct{ s spin }](), "T.s is a codec_test.spin, which must not be copied: leave it out, or give struct { s codec_test.spin }"},
		{forErr[[]unique.Handle[string]](), "T[] is a unique.Handle[string], which means nothing elsewhere: leave it out, or give []unique.Handle[string]"},
		{forErr[lost](), "lost.mu is a sync.Mutex, which must not be copied: leave it out, or give codec_test.lost"},
		{forErr[result[func()]](), "result[func()].V is a func(), which is no data: leave it out, or give codec_test.result[func()]"},
		{forErr[*http.Request](), "Request.GetBody is a func() (io.ReadCloser, error), which is no data: leave it out, or give http.Request"},
		{forErr[struct {
			F *bufio.Reader
			L *log.Logger
		}](), "T.L.outMu is a sync.Mutex, which must not be copied: leave it out, or give log.Logger"},
	} {
		if r.err == nil {
			t.Errorf("no error, want %s", r.want)
		} else if diff := cmp.Diff("codec: "+r.want+" a codec with codec.RegisterCodec", r.err.Error()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func forErr[T any]() error {
	_, err := codec.For[T]()
	return err
}

func TestAListMayHaveAnyLength(t *testing.T) {
	var head *list
	for i := range 100_000 {
		head = &list{i, head}
	}
	got := pass(t, head)
	for want := head; want != nil; want, got = want.Next, got.Next {
		if got == nil || got.Value != want.Value {
			t.Fatalf("got %v, want %v", got, want.Value)
		}
	}
}

func TestDeepTreesArriveWhole(t *testing.T) {
	root := &tree{Key: "root"}
	for i := range 5_000 {
		root = &tree{Left: root, Right: &tree{Key: fmt.Sprint(i)}}
		if i%2 == 0 {
			root.Left, root.Right = root.Right, root.Left
		}
	}
	got := pass(t, root)
	for stack := [][2]*tree{{root, got}}; len(stack) > 0; {
		a, b := stack[len(stack)-1][0], stack[len(stack)-1][1]
		stack = stack[:len(stack)-1]
		if (a == nil) != (b == nil) || a != nil && a.Key != b.Key {
			t.Fatalf("got %v, want %v", b, a)
		}
		if a != nil {
			stack = append(stack, [2]*tree{a.Left, b.Left}, [2]*tree{a.Right, b.Right})
		}
	}
}

func TestCyclesArriveAsCycles(t *testing.T) {
	one := &list{Value: 1}
	one.Next = one
	if got := pass(t, one); got.Next != got || got.Value != 1 {
		t.Errorf("pointer: got %p, which leads to %p", got, got.Next)
	}
	boxed := map[string]any{}
	boxed["self"] = []any{boxed}
	got := pass(t, any(boxed)).(map[string]any)
	got["mark"] = true
	if again := got["self"].([]any)[0].(map[string]any); again["mark"] != true {
		t.Errorf("any: got a copy in the place of the map itself")
	}
	slice := nest{nil, nil}
	slice[1] = slice
	if got := pass(t, slice); len(got) != 2 || &got[1][0] != &got[0] {
		t.Errorf("slice: got %p, which holds %p", got, got[1])
	}
	wide := &tree{Key: "wide"}
	wide.Left, wide.Right = &tree{}, &tree{Left: wide}
	if got := pass(t, wide); got.Right.Left != got || got.Left.Left != nil {
		t.Errorf("tree: got %p, which leads to %p", got, got.Right.Left)
	}
}

func TestALongRingArrivesAsARing(t *testing.T) {
	ring := &list{}
	last := ring
	for i := range 5_000 { // longer than what is encoded in place
		last.Next = &list{Value: i + 1}
		last = last.Next
	}
	last.Next = ring
	got := pass(t, ring)
	at := got
	for i := range 5_001 {
		if at.Value != i {
			t.Fatalf("got %d as number %d", at.Value, i)
		}
		at = at.Next
	}
	if at != got {
		t.Errorf("got a ring of another length")
	}
}

func TestWhatLooksLikeACycleArrivesAsItWas(t *testing.T) {
	nodes := []item{{Name: "a"}, {Name: "b"}}
	nodes[1].Parts = nodes[:1]
	if diff := cmp.Diff(nodes, pass(t, nodes), exact); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
}

func TestContainersOfTheStandardLibraryArriveInWorkingOrder(t *testing.T) {
	var text strings.Builder
	text.WriteString("text")
	wrote := pass(t, &struct{ B strings.Builder }{})
	wrote.B.WriteString("fresh")
	used := &struct{ B *strings.Builder }{&text}
	got := pass(t, used)
	got.B.WriteString(" and more")
	if got.B.String() != "text and more" || text.String() != "text" {
		t.Errorf("strings.Builder: got %q, and %q where it came from", got.B, text.String())
	}

	l := list2.New()
	for i := range 3 {
		l.PushBack(i)
	}
	gotList := pass(t, l)
	gotList.PushBack(3)
	var all []any
	for e := gotList.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value)
	}
	if diff := cmp.Diff([]any{0, 1, 2, 3}, all); diff != "" {
		t.Errorf("list.List: -want +got:\n%s", diff)
	}

	r := ring.New(3)
	for i := range 3 {
		r.Value = i
		r = r.Next()
	}
	all = nil
	pass(t, r).Do(func(v any) { all = append(all, v) })
	if diff := cmp.Diff([]any{0, 1, 2}, all); diff != "" {
		t.Errorf("ring.Ring: -want +got:\n%s", diff)
	}
}

type holder struct {
	Front  *inner // into Within, which comes later
	Within inner
	Back   *inner
	Self   *holder
	Rest   []inner
	Last   *inner // into Rest
}

type inner struct {
	N     int
	Other *inner
}

func TestPointersIntoTheMiddleOfWhatHoldsItselfArriveThere(t *testing.T) {
	v := &holder{Within: inner{N: 1}, Rest: []inner{{N: 2}, {N: 3}}}
	v.Front, v.Back, v.Self, v.Last = &v.Within, &v.Within, v, &v.Rest[1]
	v.Rest[0].Other = &v.Rest[1]
	got := pass(t, v)
	if got.Front != &got.Within || got.Back != &got.Within || got.Self != got || got.Last != &got.Rest[1] || got.Rest[0].Other != &got.Rest[1] {
		t.Errorf("got %+v at %p", got, got)
	}
	if diff := cmp.Diff(v.Rest, got.Rest); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
}

// mix is deep in two ways: by slices, which are encoded in place, and by
// pointers.
type mix struct {
	Kids []mix
	Next *mix
}

func TestASharedListIsNoCycle(t *testing.T) {
	chain := make([]mix, 5_000)
	for i := range chain[1:] {
		chain[i].Next = &chain[i+1]
	}
	inner := mix{Next: &chain[100]} // met at a level past 4096, where chain has its 4096th node
	for range 4_100 {
		inner = mix{Kids: []mix{inner}}
	}
	if err := appendErr(mix{Kids: []mix{inner}, Next: &chain[0]}); err != nil {
		t.Error(err)
	}
}

// box nests in itself without a pointer, slice or map.
type box struct{ In any }

func init() { codec.Register[box]() }

func TestBoxesWithinBoxesArriveWhole(t *testing.T) {
	var want any = &registered{1, "innermost"}
	for range 3_000 { // past what is encoded in place
		want = box{want}
	}
	got := pass(t, want)
	for range 3_000 {
		got = got.(box).In
	}
	if diff := cmp.Diff(any(&registered{1, "innermost"}), got, exact); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
	for range 10_000 {
		want = box{want}
	}
	if appendErr(want) == nil {
		t.Errorf("no error for 13000 boxes")
	}
}

func appendErr[T any](v T) error {
	c, err := codec.For[T]()
	if err != nil {
		return err
	}
	got, err := c.Append([]byte("x"), v)
	if err != nil && string(got) != "x" {
		return fmt.Errorf("an error, and %q appended", got)
	}
	return err
}

func TestNestingHasALimit(t *testing.T) {
	at := func(n int) (v nest) {
		for range n {
			v = nest{v}
		}
		return v
	}
	if diff := cmp.Diff(nil, appendErr(at(10_000))); diff != "" {
		t.Errorf("10000 deep: %v", diff)
	}
	if appendErr(at(10_001)) == nil {
		t.Errorf("10001 deep: no error")
	}
	got := pass(t, at(10_000))
	for range 10_000 {
		got = got[0]
	}
	if got != nil {
		t.Errorf("got more than was sent")
	}
}

func TestFixedAndPlainTypesDoNotAllocate(t *testing.T) {
	noAllocs(t, mustFor[padded](t), padded{A: true}, 0)
	noAllocs(t, mustFor[[1024]byte](t), [1024]byte{}, 0)
	noAllocs(t, mustFor[struct{}](t), struct{}{}, 0)
	noAllocs(t, mustFor[string](t), "some text that does not fit a word", 1)
	noAllocs(t, mustFor[[]byte](t), []byte("some text that does not fit a word"), 1)
	noAllocs(t, mustFor[event](t), newEvent(), 6)
	noAllocs(t, mustFor[map[name]any](t), map[name]any{"a": 1000, "b": "x"}, 99)
	noAllocs(t, mustFor[error](t), error(&fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist}), 99)
}

// noAllocs checks that Append allocates nothing, and Decode as often as told at
// most.
func noAllocs[T any](t *testing.T, c codec.Codec[T], v T, decode float64) {
	t.Helper()
	if raceEnabled {
		return // a sync.Pool then drops things at random
	}
	buf, err := c.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { buf, _ = c.Append(buf[:0], v) }); n > 0 {
		t.Errorf("%T: Append allocates %v times", v, n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Decode(buf) }); n > decode {
		t.Errorf("%T: Decode allocates %v times, want %v", v, n, decode)
	}
}

func TestACodecIsSafeForConcurrentUse(t *testing.T) {
	want := ref(newEvent())
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			c, err := codec.For[*event]()
			if err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				b, _ := c.Append(nil, want)
				got, err := c.Decode(b)
				if diff := cmp.Diff(want, got, exact); diff != "" || err != nil {
					t.Errorf("%v, -sent +received:\n%s", err, diff)
				}
			}
		})
	}
	wg.Wait()
}

func TestGobAndJSONCarryWhatTheyCan(t *testing.T) {
	type plain struct {
		A int
		B []string
		C map[string]point
	}
	want := plain{1, []string{"a"}, map[string]point{"b": {1, 2}}}
	for _, c := range []codec.Codec[plain]{codec.Gob[plain]{}, codec.JSON[plain]{}} {
		b, err := c.Append(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Decode(b)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%T: %v, -sent +received:\n%s", c, err, diff)
		}
		if _, err := c.Decode(append(b, "{}"...)); err == nil {
			t.Errorf("%T: bytes behind the value are no error", c)
		}
		if got, err := c.Decode(nil); err == nil {
			t.Errorf("%T: got %v from nothing", c, got)
		}
	}
	if got, err := (codec.Gob[chan int]{}).Append([]byte("kept"), nil); err == nil || string(got) != "kept" {
		t.Errorf("got %q, %v", got, err)
	}
	dst := []byte("kept")
	if got, err := (codec.JSON[chan int]{}).Append(dst, nil); err == nil || string(got) != "kept" {
		t.Errorf("got %q, %v", got, err)
	}
}
