package hopper

import (
	"context"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// imports are the packages of this module that each may import: codec and spill
// know nothing of each other, nor of hopper.
var imports = map[string][]string{
	"codec":            nil,
	"spill":            nil,
	"spill/segment":    {"spill"},
	"spill/storetest":  {"spill"},
	"internal/backlog": {"codec", "spill"},
	"internal/board":   nil,
	"internal/clock":   nil,
	"internal/papers":  nil,
	"internal/acks":    nil,
	"internal/syncs":   nil,
	".": {"codec", "internal/acks", "internal/backlog", "internal/board", "internal/clock",
		"internal/syncs", "spill", "spill/segment"},
	"cmd/hopper": {".", "codec", "spill", "spill/segment"},
}

func TestPackagesImportOnlyDownwards(t *testing.T) {
	module := reflect.TypeFor[Pump]().PkgPath()
	seen := map[string]bool{}
	for dir, file := range sources(t) {
		allowed, known := imports[dir]
		if !known && !seen[dir] {
			t.Errorf("package %s is not in the list", dir)
		}
		seen[dir] = true

		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			rel, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(allowed, path.Clean("."+rel)) {
				t.Errorf("%s imports %s", file, imported)
			}
		}
	}
	if len(seen) != len(imports) {
		t.Errorf("%d packages found, %d are in the list", len(seen), len(imports))
	}
}

// sources yields the directory and the path of each source file of the module,
// for all systems, but for tests.
func sources(t *testing.T) func(yield func(dir, file string) bool) {
	return func(yield func(dir, file string) bool) {
		err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
			switch name := d.Name(); {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{".git", ".ci", "contrib", "testdata"}, name):
				return fs.SkipDir // contrib has modules of its own
			case path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
				return nil
			}
			if !yield(filepath.ToSlash(filepath.Dir(file)), file) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The pace.

// A turn is what a pace is asked, or told, once.
type turn struct {
	what  string // "delivered", "took", "refused" or "waited"
	total uint64 // of refused: items delivered so far
	ready bool   // of refused: out could take one
	d     time.Duration
	times int // 0: once

	want    int // refused: items that may be received; delivered: 1 if any
	patient bool
}

func TestPace(t *testing.T) {
	refusals := func(total uint64) []turn { // until out counts as stalled
		return []turn{
			{what: "refused", total: total, ready: true, want: 2},
			{what: "refused", total: total, ready: true, want: 4},
			{what: "refused", total: total, ready: true, want: 8},
			{what: "refused", total: total, ready: true, want: 16},
			{what: "refused", total: total, ready: true, want: 32},
			{what: "refused", total: total, ready: true, want: 64},
			{what: "refused", total: total, ready: true, want: 128},
		}
	}
	const d = patience
	for _, c := range []struct {
		name  string
		turns []turn
	}{
		{"every other turn that delivers receives", []turn{
			{what: "delivered", want: 1}, {what: "delivered", want: 0},
			{what: "delivered", want: 1}, {what: "delivered", want: 0},
		}},
		{"each turn without a delivery receives twice as much as the one before", refusals(0)},
		{"a delivery begins anew", slices.Concat(refusals(0),
			[]turn{{what: "delivered", want: 1}}, refusals(1),
			[]turn{{what: "took"}}, refusals(2))},
		{"a consumer that has taken little is not waited for", append(refusals(burst-1),
			turn{what: "refused", total: burst - 1, ready: true, want: burst, times: 100})},
		{"a consumer that has taken a burst is waited for", append(refusals(burst),
			turn{what: "refused", total: burst, ready: true, want: 0, patient: true},
			turn{what: "waited", d: d - 1},
			turn{what: "refused", total: burst, ready: true, want: burst, times: 10})},
		{"not while there is nothing at hand that it could take", append(refusals(burst),
			turn{what: "refused", total: burst, want: burst, times: 10},
			turn{what: "refused", total: burst, ready: true, want: 0, patient: true})},
		{"after a wait that was short it is waited for after another burst", append(refusals(burst),
			turn{what: "refused", total: burst, ready: true, want: 0, patient: true},
			turn{what: "waited", d: d - 1},
			turn{what: "refused", total: 2*burst - 1, ready: true, want: burst},
			turn{what: "refused", total: 2 * burst, ready: true, want: 0, patient: true})},
		{"after waits in vain more rarely", append(refusals(burst),
			turn{what: "refused", total: burst, ready: true, want: 0, patient: true},
			turn{what: "waited", d: d},
			turn{what: "refused", total: 3*burst - 1, ready: true, want: burst},
			turn{what: "refused", total: 3 * burst, ready: true, want: 0, patient: true},
			turn{what: "waited", d: d},
			turn{what: "refused", total: 7*burst - 1, ready: true, want: burst},
			turn{what: "refused", total: 7 * burst, ready: true, want: 0, patient: true},
			turn{what: "waited", d: d - 1}, // no longer in vain
			turn{what: "refused", total: 8 * burst, ready: true, want: 0, patient: true})},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pace
			for i, turn := range c.turns {
				for range max(1, turn.times) {
					if got := take(&p, turn); got != turn.want || p.patient != turn.patient {
						t.Fatalf("turn %d, %s: got %d, patient %v, want %d, %v",
							i, turn.what, got, p.patient, turn.want, turn.patient)
					}
				}
			}
		})
	}
}

// take takes a turn, and returns what it may receive.
func take(p *pace, t turn) (got int) {
	switch t.what {
	case "delivered":
		if p.delivered() {
			got = 1
		}
	case "took":
		p.took()
	case "refused":
		got = p.refused(t.total, t.ready)
	case "waited":
		p.waited(t.d)
	}
	return got
}

func TestWaitsInVainAreNeverRarerThanAThousandTimes(t *testing.T) {
	var p pace
	total := uint64(0)
	for range 100 {
		for range many {
			p.refused(total, true)
		}
		before := total
		for !p.patient {
			total += burst
			p.refused(total, true)
		}
		if waited := total - before; waited > 1024*burst {
			t.Fatalf("%d items were delivered before out was waited for again", waited)
		}
		p.waited(time.Second)
	}
	if total < 50*1024*burst {
		t.Errorf("%d items were delivered in 100 waits in vain: they did not become rarer", total)
	}
}

// The model of a producer that always has items: what waits grows while out
// takes nothing, shrinks while it takes all, and even then some are received.
func TestABacklogShrinksWhileOutTakesWhateverTheProducerSends(t *testing.T) {
	var p pace
	waiting, received, delivered := 0, 0, uint64(0)
	turns := func(n int, takes bool) {
		for range n {
			limit := 0
			if sent := min(burst, waiting); takes && sent > 0 {
				waiting -= sent
				delivered += uint64(sent)
				if p.delivered() {
					limit = sent
				}
			} else if limit = p.refused(delivered, true); p.patient {
				p.waited(time.Second)
			}
			waiting += limit
			received += limit
		}
	}

	turns(1000, false)
	behind := waiting
	if behind < 900*burst {
		t.Errorf("%d items wait while out refuses: receiving must go on", behind)
	}
	before := received
	turns(100, true)
	if waiting > behind-40*burst || received < before+40*burst {
		t.Errorf("%d items wait, %d after the consumer has come back, and %d were received since",
			behind, waiting, received-before)
	}
}

// The pump.

// start starts a pump between unbuffered channels.
func start(t *testing.T, opts ...Option) (in, out chan uint64, p *Pump) {
	t.Helper()
	in, out = make(chan uint64), make(chan uint64)
	p, err := Pipe(out, in, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.Close() // or the bubble panics
		}
	})
	return in, out, p
}

// produce sends n items and returns how long that took.
func produce(in chan<- uint64, n int) <-chan time.Duration {
	took, start := make(chan time.Duration, 1), time.Now()
	go func() {
		for range n {
			in <- 1
		}
		took <- time.Since(start)
	}()
	return took
}

func consume(out <-chan uint64, n int) {
	for range n {
		<-out
	}
}

// Without this a producer fills the backlog whenever the kernel lets the
// consumer's thread wait for the producer's time slice to end.
func TestAConsumerThatTakesManyItemsIsWaitedForBeforeTheProducerGetsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100 * burst
		in, out, p := start(t)
		produce(in, burst)
		consume(out, burst)
		took := produce(in, n)

		time.Sleep(patience / 2)
		s := p.Stats()
		if behind := s.Received - s.Delivered; behind > 4*burst {
			t.Errorf("%d items wait before out alone is waited for", behind)
		}
		consume(out, 1)
		time.Sleep(patience)
		if s := p.Stats(); s.Received != burst+n {
			t.Errorf("then %d of %d items are received", s.Received, burst+n)
		}
		if d := <-took; d != patience/2 {
			t.Errorf("the producer had to wait for %v, want %v: until the consumer came", d,
				patience/2)
		}
		p.Close()
	})
}

func TestAStalledConsumerIsWaitedForOnceAndThenMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := start(t)
		want := []time.Duration{
			0,        // less than a burst was delivered
			patience, // a burst
			0,        // one more
			patience, // and another: two since the last wait, which was in vain
		}
		for i, d := range want {
			if i > 0 {
				consume(out, burst)
			}
			if got := <-produce(in, 10*burst); got != d {
				t.Errorf("stall %d: the producer had to wait for %v, want %v", i, got, d)
			}
		}
		p.Close()
	})
}

func TestReceivingGoesOnWhileABacklogIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := start(t, MaxMemory(8<<10))
		<-produce(in, 100*burst)
		before := p.Stats().Received
		took := produce(in, 10*burst)
		consume(out, 100*burst)
		<-took
		if s := p.Stats(); s.Received < before+5*burst {
			t.Errorf("%+v", s)
		}
		p.Close()
	})
}

// The bubble fails the test if a goroutine is left when the pump has ended.
func TestEveryGoroutineEndsWithThePump(t *testing.T) {
	for name, end := range map[string]func(p *Pump, in, out chan uint64) error{
		"close(in)": func(p *Pump, in, out chan uint64) error { close(in); <-out; return p.Wait() },
		"Close":     func(p *Pump, in, out chan uint64) error { return p.Close() },
		"Shutdown": func(p *Pump, in, out chan uint64) error {
			go func() { <-out }()
			return p.Shutdown(context.Background())
		},
		"close(out)": func(p *Pump, in, out chan uint64) error {
			synctest.Wait() // it is an error, and need not be a race too
			close(out)
			return p.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, out, p := start(t, MaxMemory(0))
				in <- 1
				end(p, in, out)
				if s := p.Stats(); s.Received != s.Delivered+s.Lost {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestPassThroughAllocatesNothing(t *testing.T) {
	in, out, p := start(t)
	defer p.Close()
	if n := testing.AllocsPerRun(1000, func() { in <- 1; <-out }); n >= 1 {
		t.Errorf("%v allocations for an item", n)
	}
}

// A number that is counted wrongly once stays wrong: Stats after many stalls.
func TestCountsAreExactAfterManyStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := start(t, MaxMemory(1<<10))
		want := Stats{}
		for i := range 50 {
			<-produce(in, 7*i)
			consume(out, 5*i)
			want.Received += uint64(7 * i)
			want.Delivered += uint64(5 * i)
		}
		synctest.Wait()

		s := p.Stats()
		got := Stats{Received: s.Received, Delivered: s.Delivered}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if s.InMemory+s.OnDisk != s.Received-s.Delivered || s.MemoryBytes > 1<<10 {
			t.Errorf("%+v", s)
		}
		p.Close()
	})
}
