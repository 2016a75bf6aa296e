package codec_test

import (
	"encoding/json"
	"reflect"
	"runtime"
	"testing"
	"time"

	"example.com/hopper/codec"
)

// Link is a list. Boxed holds one, and marshals itself.
type (
	Link struct {
		Next *Link
		X    any
	}
	Boxed struct {
		X    any
		List *Link
	}
	StampedLink struct {
		At   time.Time
		List *Link
	}
)

func (b Boxed) MarshalJSON() ([]byte, error) {
	type plain Boxed
	return json.Marshal(plain(b))
}

func (b *Boxed) UnmarshalJSON(text []byte) error {
	type plain Boxed
	return json.Unmarshal(text, (*plain)(b))
}

// An item within the item may begin deeper than pointers are followed at once.
func TestAnItemWithinAnItemMayStandDeep(t *testing.T) {
	list := &Link{Next: &Link{}}
	now := time.Now()
	for name, v := range map[string]any{
		"marshaler": Boxed{X: 1, List: list},
		"map's key": map[StampedLink]int{{now.Round(0), nil}: 1, {now.Add(1).Round(0), nil}: 2},
		"pointer":   map[StampedLink]string{{now.Round(0), list}: "a", {now.Round(0), nil}: "b"},
	} {
		for range 700 {
			v = []any{v}
		}
		c := codec.Local[any]()
		b, err := c.Append(nil, v)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c.Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name != "pointer" && !reflect.DeepEqual(got, v) {
			t.Errorf("%s: it did not come back", name)
		}
	}
}

// However an item is cut into others, their depth adds up.
func TestTheDepthOfItemsWithinItemsAddsUp(t *testing.T) {
	nested := func(v any, levels int) any {
		for range levels {
			v = []any{v}
		}
		return v
	}
	ring := &Link{}
	ring.Next = ring
	for name, list := range map[string]*Link{"tree": {}, "graph": ring} {
		c := codec.Local[any]()
		box := func(levels int) any { return Boxed{X: []any{list, nested(1, levels)}} }
		if _, err := c.Append(nil, nested(box(1000), 3000)); err != nil {
			t.Errorf("%s, 4,000 levels: %v", name, err)
		}
		b, err := c.Append(nil, nested(box(3000), 3000))
		if err == nil {
			t.Errorf("%s, 6,000 levels: %d bytes and no error", name, len(b))
		}
	}
}

// Fickle has a codec that may end the goroutine instead of returning.
type (
	Fickle struct{ v int }
	Plain  struct{ X int }
	fickle struct{}
)

func (fickle) Append(dst []byte, f Fickle) ([]byte, error) {
	if f.v == 0 {
		runtime.Goexit()
	}
	return append(dst, byte(f.v)), nil
}

func (fickle) Decode(src []byte) (Fickle, error) { return Fickle{int(src[0])}, nil }

// An encoding that is cut short leaves nothing behind for the next.
func TestAnEncodingMayBeUnwound(t *testing.T) {
	codec.RegisterCodec[Fickle](fickle{})
	codec.Register[Fickle]()
	codec.Register[Plain]()
	codec.Register[[]any]()
	c, err := codec.For[Boxed]()
	if err != nil {
		t.Fatal(err)
	}

	for range 10 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Append(nil, Boxed{X: []any{Plain{1}, Fickle{0}}})
		}()
		<-done

		want := Boxed{X: []any{Plain{5}, Plain{6}}}
		b, err := c.Append(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Decode(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v came back as %+v, %v", want, got, err)
		}
	}
}
