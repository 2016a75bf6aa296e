package zoo

import (
	"errors"
	"flag"
	"math"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"

	"example.com/hopper"
	"example.com/hopper/codec"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

// everywhere sends what is parked through pipes too.
const everywhere = true

// species is a type, and what becomes of its values.
type species struct {
	typ  reflect.Type
	test func(t *testing.T)
}

// copied is for values that are copied: by Local always, by For if it takes the
// type and all that is in the values.
func copied[T any](values ...T) species {
	return species{reflect.TypeFor[T](), func(t *testing.T) {
		local := codec.Local[T]()
		for _, v := range values {
			arrives(t, local, v)
		}
		strict, err := codec.For[T]()
		if err != nil {
			count.refused.Add(1)
			t.Logf("For: %v", err)
			if everywhere {
				throughAPipe(t, values)
			}
			return
		}
		for _, v := range values {
			if _, err := strict.Append(nil, v); err != nil {
				count.partly.Add(1)
				t.Logf("For: %v", err)
				return
			}
			arrives(t, strict, v)
		}
		count.kept.Add(1)
		throughAPipe(t, values)
	}}
}

// parked is for values that hold parts of a running program, and that are not
// encoded.
func parked[T any](values ...T) species {
	return species{reflect.TypeFor[T](), func(t *testing.T) {
		count.parked.Add(1)
		for _, v := range values {
			b, err := codec.Local[T]().Append(nil, v)
			var value *codec.ValueError
			if !errors.As(err, &value) {
				t.Errorf("encoded in %d bytes, with error %v; want a *ValueError", len(b), err)
				continue
			}
			t.Logf("Local: %v", err)
		}
		if everywhere {
			throughAPipe(t, values)
		}
	}}
}

// count is how many species travel in which way.
var count struct{ kept, partly, refused, parked atomic.Int64 }

var equal = cmp.Options{
	protocmp.Transform(),
	cmp.Exporter(func(reflect.Type) bool { return true }),
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
	cmp.Comparer(func(a, b reflect.Type) bool { return a == b }),
	cmp.FilterValues(areFuncs, cmp.Comparer(func(a, b any) bool {
		return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
	})),
}

func areFuncs(a, b any) bool {
	return reflect.ValueOf(a).Kind() == reflect.Func && reflect.ValueOf(b).Kind() == reflect.Func
}

// arrives passes v through c.
func arrives[T any](t *testing.T, c codec.Codec[T], v T) {
	t.Helper()
	b, err := c.Append(nil, v)
	if err != nil {
		t.Errorf("Append: %v", err)
		return
	}
	got, err := c.Decode(b)
	if err != nil {
		t.Errorf("Decode: %v, although it was appended", err)
		return
	}
	clear(b)
	same(t, v, got)
}

func same[T any](t *testing.T, sent, got T) {
	t.Helper()
	if reflect.DeepEqual(sent, got) {
		return
	}
	if diff := cmp.Diff(sent, got, equal); diff != "" {
		t.Errorf("-sent +received:\n%s", diff)
	}
}

// throughAPipe sends the values through a pipe that spills them.
func throughAPipe[T any](t *testing.T, values []T) {
	t.Helper()
	const rounds = 3
	in, out := make(chan T), make(chan T)
	p, err := hopper.Pipe(out, in, hopper.Dir(t.TempDir()), hopper.MaxMemory(0))
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range rounds {
			for _, v := range values {
				in <- v
			}
		}
		close(in)
	}()
	waitUntilNoMoreFits(p, sent)

	n := 0
	for got := range out {
		same(t, values[n%len(values)], got)
		n++
	}
	if err := p.Wait(); err != nil || n != rounds*len(values) {
		t.Errorf("received %d of %d, %v", n, rounds*len(values), err)
	}
}

// waitUntilNoMoreFits returns when all is sent, or items that are not encoded
// fill the memory, of which there is none but for one.
func waitUntilNoMoreFits(p *hopper.Pump, sent <-chan struct{}) {
	for !p.Stats().Blocked {
		select {
		case <-sent:
			return
		default:
			runtime.Gosched()
		}
	}
}

var verbose = flag.Bool("census", false, "log how the types travel")

func TestTypesOfTheStandardLibraryArrive(t *testing.T) { visit(t, standard(), 90) }

func TestTypesOfOtherModulesArrive(t *testing.T) { visit(t, thirdParty(), 120) }

func visit(t *testing.T, all []species, least int) {
	seen := map[reflect.Type]bool{}
	for _, s := range all {
		seen[s.typ] = true
		t.Run(s.typ.String(), s.test)
	}
	if len(seen) < least {
		t.Errorf("%d types, want %d", len(seen), least)
	}
	if *verbose {
		t.Logf("so far: For carries %d types, %d of them but for these values; it refuses %d; %d are parked",
			count.kept.Load()+count.partly.Load(), count.partly.Load(), count.refused.Load(), count.parked.Load())
	}
}

func ref[T any](v T) *T { return &v }
