package codec_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/hopper/codec"
)

const noLimit = 1 << 40

func sizeOf[T any](v T, limit int64) int64 {
	fixed, size := codec.Sizer[T]()
	if size == nil {
		return fixed
	}
	return size(&v, limit)
}

// on64 skips a test whose sizes are those of a 64-bit platform.
func on64(t *testing.T) {
	t.Helper()
	if reflect.TypeFor[uintptr]().Size() != 8 {
		t.Skip("the sizes below are those of a 64-bit platform")
	}
}

func TestSizesAreThoseOfTheMemory(t *testing.T) {
	on64(t)
	ten := strings.Repeat("x", 10)
	for name, c := range map[string]struct{ got, want int64 }{
		"int":               {sizeOf(1, noLimit), 8},
		"struct{}":          {sizeOf(struct{}{}, noLimit), 0},
		"fixed struct":      {sizeOf(padded{}, noLimit), 32},
		"atomic":            {sizeOf(&atomic.Int64{}, noLimit), 8},
		"func":              {sizeOf(func() {}, noLimit), 8},
		"chan":              {sizeOf(make(chan int, 9), noLimit), 8},
		"string":            {sizeOf(ten, noLimit), 26},
		"named string":      {sizeOf(name(ten), noLimit), 26},
		"[]byte":            {sizeOf(make([]byte, 10, 99), noLimit), 24 + 99},
		"[]byte in a field": {sizeOf(hidden{c: make([]byte, 10, 99)}, noLimit), 48 + 99},
		"[]byte in an any":  {sizeOf(any(make([]byte, 10, 99)), noLimit), 16 + 24 + 99},
		"[][]byte":          {sizeOf(make([][]byte, 1, 10), noLimit), 24 + 240},
		"[]int":             {sizeOf([]int{1, 2}, noLimit), 40},
		"[]string":          {sizeOf([]string{ten, ten}, noLimit), 24 + 2*26},
		"[2]string":         {sizeOf([2]string{ten, ten}, noLimit), 2 * 26},
		"nil pointer":       {sizeOf((*point)(nil), noLimit), 8},
		"pointer":           {sizeOf(&point{}, noLimit), 16},
		"pointer to string": {sizeOf(&ten, noLimit), 8 + 26},
		"list":              {sizeOf(&list{1, &list{}}, noLimit), 8 + 2*16},
		"item":              {sizeOf(item{ten, 1, []item{{}}}, noLimit), 48 + 10 + 48},
		"any of int":        {sizeOf(any(1), noLimit), 24},
		"any of string":     {sizeOf(any(ten), noLimit), 16 + 26},
		"any of pointer":    {sizeOf(any(ref(1)), noLimit), 16 + 8},
		"nil any":           {sizeOf(any(nil), noLimit), 16},
		"nil map":           {sizeOf(map[string]int(nil), noLimit), 8},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d bytes, want %d", name, c.got, c.want)
		}
	}
}

// handler is what a server sends itself: data, and parts of the running
// program.
type handler struct {
	Ctx   context.Context
	Reply chan []byte
	Done  func()
	Body  []byte
	peers map[string]*peer
	peer  *peer
}

type ctxKey struct{}

type peer struct {
	mu   sync.Mutex
	seen map[string]string
}

func TestLivePartsCountAsPointers(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	busy := &peer{seen: map[string]string{"key": "value"}}
	v := handler{ctx, make(chan []byte, 9), cancel, make([]byte, 10, 99), map[string]*peer{"a": busy}, busy}
	want := int64(reflect.TypeFor[handler]().Size()) + 99
	if got := sizeOf(v, noLimit); got != want {
		t.Errorf("by value: got %d bytes, want %d", got, want)
	}
	word := int64(reflect.TypeFor[uintptr]().Size())
	if got := sizeOf(&v, noLimit); got != word+want {
		t.Errorf("by pointer: got %d bytes, want %d", got, word+want)
	}
	for name, v := range map[string]any{"context": ctx, "lock": busy, "chan": v.Reply, "map": v.peers, "derived": context.WithValue(ctx, ctxKey{}, "x")} {
		if got := sizeOf(v, noLimit); got != 2*word {
			t.Errorf("%s in an interface: got %d bytes, want %d", name, got, 2*word)
		}
	}
}

func TestMeasuringIsSafeWhileOthersUseALivePart(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	busy := &peer{seen: map[string]string{}}
	v := handler{Ctx: ctx, peer: busy, peers: map[string]*peer{"a": busy}}
	// Whoever waits for the reply goes on using the map, behind its own lock.
	asked := request{Reply: make(chan string), Meta: map[string]any{}}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 2_000 {
				_, end := context.WithCancel(ctx)
				busy.mu.Lock()
				busy.seen[fmt.Sprint(i, n%7)] = "x"
				asked.Meta[fmt.Sprint(i, n%7)] = "x"
				busy.mu.Unlock()
				end()
			}
		})
		wg.Go(func() {
			for range 2_000 {
				sizeOf(v, noLimit)
				sizeOf(any(&v), noLimit)
				sizeOf(&asked, noLimit)
				sizeOf([]*request{&asked}, noLimit)
			}
		})
	}
	wg.Wait()
}

func TestMapsAreEstimated(t *testing.T) {
	strs, ints, deep := map[string]string{}, map[int]int64{}, map[name]*point{}
	for i := range 1000 {
		s := string(rune(i + 256))
		strs[s], ints[i], deep[name(s)] = s, 1, &point{}
	}
	for name, c := range map[string]struct{ got, least, most int64 }{
		"strings": {sizeOf(strs, noLimit), 1000 * (32 + 4), 3000 * (32 + 4)},
		"ints":    {sizeOf(ints, noLimit), 1000 * 16, 3000 * 16},
		"deep":    {sizeOf(deep, noLimit), 1000 * (16 + 8 + 8 + 2), 3000 * (16 + 8 + 8 + 2)},
	} {
		if c.got < c.least || c.got > c.most {
			t.Errorf("%s: got %d bytes, want %d to %d", name, c.got, c.least, c.most)
		}
	}
}

func TestWhatIsReachedTwiceCountsOnce(t *testing.T) {
	on64(t)
	ring := &list{}
	ring.Next = ring
	wide := nest{nil, nil, nil}
	wide[0], wide[1], wide[2] = wide, wide, wide
	self := graph{}
	self["self"] = self
	boxed := []any{nil, nil}
	boxed[0], boxed[1] = boxed, boxed
	shared := ref(1)
	for name, c := range map[string]struct{ got, want int64 }{
		"ring":     {sizeOf(ring, noLimit), 8 + 16},
		"slice":    {sizeOf(wide, noLimit), 24 + 3*24},
		"map":      {sizeOf(self, noLimit), sizeOf(graph{"self": nil}, noLimit)},
		"any":      {sizeOf(boxed, noLimit), 24 + 2*16 + 2*24},
		"pointers": {sizeOf([]*int{shared, shared}, noLimit), 24 + 2*8 + 8},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d bytes, want %d", name, c.got, c.want)
		}
	}
}

func TestMeasuringStopsPastTheLimit(t *testing.T) {
	row := make([]string, 1000)
	for i := range row {
		row[i] = strings.Repeat("x", 1000)
	}
	m := map[int]string{}
	for i, s := range row {
		m[i] = s
	}
	for _, limit := range []int64{0, 1, 1000, 100_000} {
		for name, got := range map[string]int64{
			"slice": sizeOf(row, limit), "map": sizeOf(m, limit), "any": sizeOf(any(row), limit), "string": sizeOf(strings.Join(row, ""), limit),
		} {
			if got <= limit {
				t.Errorf("%s: got %d bytes, want more than the limit of %d", name, got, limit)
			}
		}
	}
	depths := graph(nil)
	for range 10_001 {
		depths = graph{"": depths}
	}
	if got := sizeOf(depths, noLimit); got <= noLimit {
		t.Errorf("maps too deep to measure: got %d bytes, want more than the limit", got)
	}
	var long *list
	for range 100_000 {
		long = &list{0, long}
	}
	word := int64(reflect.TypeFor[uintptr]().Size())
	if got, want := sizeOf(long, noLimit), word+100_000*2*word; got != want {
		t.Errorf("list: got %d bytes, want %d", got, want)
	}
}

func TestMeasuringDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		return
	}
	v := struct {
		A string
		B any
		C map[name]string
		D *time.Time
	}{"a", 1000, map[name]string{"a": "b"}, &time.Time{}}
	_, size := codec.Sizer[struct {
		A string
		B any
		C map[name]string
		D *time.Time
	}]()
	if n := testing.AllocsPerRun(100, func() { size(&v, noLimit) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
