package codec_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"example.com/hopper/codec"
)

// vertex is part of a graph. Its pointers lead to others, into the middle of
// others, or nowhere.
type vertex struct {
	ID    int
	Next  *vertex
	Spot  spot
	Into  *spot
	Peers []*vertex
	Row   []spot
	Any   any
	Named map[string]*vertex
	Self  map[string]any
}

type spot struct {
	N  int
	At *vertex
	To *spot
}

func init() {
	codec.Register[*vertex]()
	codec.Register[*spot]()
}

// randomGraph returns the first of some vertices that lead to one another.
func randomGraph(r *rand.Rand) *vertex {
	all := make([]*vertex, 1+r.IntN(6))
	for i := range all {
		all[i] = &vertex{ID: i, Spot: spot{N: i}}
		all[i].Row = make([]spot, r.IntN(3))
	}
	some := func() *vertex {
		if r.IntN(3) == 0 {
			return nil
		}
		return all[r.IntN(len(all))]
	}
	into := func() *spot {
		v := some()
		switch {
		case v == nil:
			return nil
		case len(v.Row) > 0 && r.IntN(2) == 0:
			return &v.Row[r.IntN(len(v.Row))]
		}
		return &v.Spot
	}
	for _, v := range all {
		v.Next, v.Spot.At, v.Peers = some(), some(), []*vertex{some(), some()}
		if r.IntN(2) == 0 {
			v.Into, v.Spot.To = into(), into()
		}
		for i := range v.Row {
			v.Row[i] = spot{N: i, At: some()}
		}
		switch r.IntN(4) {
		case 0:
			v.Any = some()
		case 1:
			v.Named = map[string]*vertex{"a": some(), "b": some()}
		case 2:
			v.Self = map[string]any{"id": v.ID}
			v.Self["self"] = v.Self
		}
	}
	return all[0]
}

// isomorphism compares two graphs: what was one must be one.
type isomorphism struct {
	vertices map[*vertex]*vertex
	back     map[*vertex]*vertex
	spots    map[*spot]*spot
}

func (m *isomorphism) vertex(a, b *vertex) error {
	if a == nil || b == nil {
		if a != b {
			return fmt.Errorf("%p became %p", a, b)
		}
		return nil
	}
	if known, ok := m.vertices[a]; ok || m.back[b] != nil {
		if known != b || m.back[b] != a {
			return fmt.Errorf("vertex %d is no longer one", a.ID)
		}
		return nil
	}
	m.vertices[a], m.back[b] = b, a
	if a.ID != b.ID || len(a.Peers) != len(b.Peers) || len(a.Row) != len(b.Row) || len(a.Named) != len(b.Named) {
		return fmt.Errorf("vertex %d has changed", a.ID)
	}

	errs := []error{m.vertex(a.Next, b.Next), m.spot(&a.Spot, &b.Spot), m.spot(a.Into, b.Into)}
	for i := range a.Peers {
		errs = append(errs, m.vertex(a.Peers[i], b.Peers[i]))
	}
	for i := range a.Row {
		errs = append(errs, m.spot(&a.Row[i], &b.Row[i]))
	}
	for key := range a.Named {
		errs = append(errs, m.vertex(a.Named[key], b.Named[key]))
	}
	if v, ok := a.Any.(*vertex); ok {
		got, _ := b.Any.(*vertex)
		errs = append(errs, m.vertex(v, got))
	}
	if a.Self != nil {
		b.Self["mark"] = true
		if inner, _ := b.Self["self"].(map[string]any); inner["mark"] != true || inner["id"] != a.ID {
			errs = append(errs, fmt.Errorf("the map of vertex %d no longer holds itself", a.ID))
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *isomorphism) spot(a, b *spot) error {
	if a == nil || b == nil {
		if a != nil || b != nil {
			return fmt.Errorf("%p became %p", a, b)
		}
		return nil
	}
	if known, ok := m.spots[a]; ok {
		if known != b {
			return fmt.Errorf("spot %d is no longer one", a.N)
		}
		return nil
	}
	m.spots[a] = b
	if a.N != b.N {
		return fmt.Errorf("spot %d became %d", a.N, b.N)
	}
	if err := m.vertex(a.At, b.At); err != nil {
		return err
	}
	return m.spot(a.To, b.To)
}

// A graph with a cycle arrives as it was, pointers into the middle included. So
// do others, but for such pointers.
func TestRandomGraphsArriveAsTheyWere(t *testing.T) {
	c, local := mustFor[*vertex](t), codec.Local[*vertex]()
	graphs, refused := 0, 0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := randomGraph(r)
		for _, c := range []codec.Codec[*vertex]{c, local} {
			b, err := c.Append(nil, want)
			if err != nil {
				refused++
				continue
			}
			got, err := c.Decode(b)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if b[0] == 0 {
				continue
			}
			graphs++
			m := isomorphism{map[*vertex]*vertex{}, map[*vertex]*vertex{}, map[*spot]*spot{}}
			if err := m.vertex(want, got); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
	if graphs < 10_000 || refused > graphs/10 {
		t.Errorf("%d graphs, %d refused: the test tests little", graphs, refused)
	}
}
