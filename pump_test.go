package hopper

import (
	"go/build"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/hopper/spill"
	"github.com/google/go-cmp/cmp"
)

// The import direction of the design: codec and spill know neither each other nor hopper.
func TestPackagesImportOnlyDownwards(t *testing.T) {
	allowed := map[string][]string{
		".":          {"codec", "spill"},
		"codec":      nil,
		"spill":      nil,
		"cmd/hopper": {".", "codec", "spill"},
	}
	for dir, want := range allowed {
		pkg, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range pkg.Imports {
			rel, ours := strings.CutPrefix(imp, "example.com/hopper")
			if !ours {
				continue
			}
			ok := false
			for _, w := range want {
				ok = ok || path.Clean("."+rel) == w
			}
			if !ok {
				t.Errorf("%s imports %s", dir, imp)
			}
		}
	}
}

func TestTheWindowIsARingBoundedInBytes(t *testing.T) {
	w := newWindow[string](100 + 5*16)
	var model []string
	r := rand.New(rand.NewPCG(1, 2))
	bytes := func() (n int64) {
		for _, s := range model {
			n += 16 + int64(len(s))
		}
		return n
	}
	for range 10_000 {
		if r.IntN(2) == 0 {
			s := strings.Repeat("x", r.IntN(60))
			fits := bytes()+16+int64(len(s)) <= w.max
			if got := w.push(s); got != fits {
				t.Fatalf("push of %d bytes to %d of %d: %v", len(s), bytes(), w.max, got)
			}
			if fits {
				model = append(model, s)
			}
		} else if len(model) > 0 {
			if d := cmp.Diff(model[0], *w.head()); d != "" {
				t.Fatal(d)
			}
			w.pop()
			model = model[1:]
		}
		if w.len() != len(model) || w.bytes != bytes() {
			t.Fatalf("%d items of %d bytes, want %d of %d", w.len(), w.bytes, len(model), bytes())
		}
	}
	for i := range w.items {
		if d := cmp.Diff("", w.items[(w.last+i)&(len(w.items)-1)]); i < len(w.items)-w.len() && d != "" {
			t.Fatalf("a free place of the ring keeps an item alive: %s", d)
		}
	}
}

func TestTheBoardNeverShowsHalfASnapshot(t *testing.T) {
	var b board
	b.init()
	const n = 100_000
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for last := uint64(0); last < n; {
				s := b.read()
				if s.Received != s.Delivered || s.Received != s.HighWater || s.Received < last {
					t.Errorf("%+v after %d", s, last)
					return
				}
				last = s.Received
			}
		})
	}
	for i := range uint64(n + 1) {
		b.write(Stats{Received: i, Delivered: i, HighWater: i})
	}
	readers.Wait()
}

// The bubble fails the test if a goroutine is left when the pump has ended.
func TestEveryGoroutineEndsWithThePump(t *testing.T) {
	for _, end := range []func(p *Pump, in chan<- int, out <-chan int) error{
		func(p *Pump, in chan<- int, out <-chan int) error { close(in); <-out; return p.Wait() },
		func(p *Pump, in chan<- int, out <-chan int) error { return p.Close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			in, out := make(chan int), make(chan int)
			p, err := Pipe(out, in, MaxMemory(0))
			if err != nil {
				t.Fatal(err)
			}
			in <- 1
			end(p, in, out)
		})
	}
}

func TestPassThroughAllocatesNothing(t *testing.T) {
	in, out := make(chan uint64), make(chan uint64)
	p, err := Pipe(out, in)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if n := testing.AllocsPerRun(1000, func() { in <- 1; <-out }); n >= 1 {
		t.Errorf("%v allocations for an item", n)
	}
}

// newIdleLoop returns a loop that is not running, and its channels: the test takes its turns.
func newIdleLoop(capacity int) (l *loop[uint64], in, out chan uint64) {
	in, out = make(chan uint64, capacity), make(chan uint64, capacity)
	return &loop[uint64]{p: &Pump{}, in: in, out: out, log: &spill.Log{}, window: newWindow[uint64](1 << 30)}, in, out
}

// turns lets a loop that is not running take n turns. Before each the producer has filled in and, if takes is set, the
// consumer has emptied out. It returns the items that wait then.
func turns(l *loop[uint64], in, out chan uint64, n int, takes bool) uint64 {
	for range n {
		for len(in) < cap(in) {
			in <- 1
		}
		for takes && len(out) > 0 {
			<-out
		}
		l.move()
	}
	return l.waiting()
}

func TestABacklogShrinksWhileOutTakesWhateverTheProducerSends(t *testing.T) {
	for _, capacity := range []int{1, 16, 1024} {
		l, in, out := newIdleLoop(capacity)
		behind := turns(l, in, out, 1000, false)
		if behind < 900 {
			t.Errorf("capacity %d: %d items wait while out refuses: receiving must go on", capacity, behind)
		}
		if now := turns(l, in, out, 100, true); now >= behind {
			t.Errorf("capacity %d: %d items wait, and %d after the consumer has come back", capacity, behind, now)
		}
		received := l.n.Received
		if turns(l, in, out, 100, true); l.n.Received == received {
			t.Errorf("capacity %d: nothing is received while a backlog is delivered", capacity)
		}
	}
}

// Without this a producer fills the backlog whenever the kernel lets the consumer's thread wait for the producer's time slice to end.
func TestAConsumerThatTakesManyItemsIsWaitedForBeforeTheProducerGetsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, in, out := newIdleLoop(16)
		turns(l, in, out, burst, true)
		behind := turns(l, in, out, 2*many, false)
		if !l.patient || behind > 2*burst {
			t.Fatalf("%d items wait before out alone is waited for: %v", behind, l.patient)
		}

		start, received, delivered := time.Now(), l.n.Received, l.n.Delivered
		go func() {
			time.Sleep(patience / 2)
			<-out
		}()
		l.wait()
		if time.Since(start) != patience/2 || l.n.Received != received || l.n.Delivered != delivered+1 || l.vain != 0 {
			t.Errorf("after %v: %+v", time.Since(start), l.n)
		}
	})
}

func TestAStalledConsumerIsWaitedForOnceAndThenMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, in, out := newIdleLoop(16)
		turns(l, in, out, burst, true)
		turns(l, in, out, 2*many, false)

		start, received := time.Now(), l.n.Received
		l.wait()
		if time.Since(start) != patience || l.n.Received != received {
			t.Errorf("after %v: %+v", time.Since(start), l.n)
		}
		if turns(l, in, out, 100, false); l.patient || l.n.Received < received+100 {
			t.Errorf("then %d items are received in 100 turns", l.n.Received-received)
		}
		for _, deliveries := range []uint64{burst, 2 * burst} {
			for l.n.Delivered-l.waited < deliveries {
				turns(l, in, out, 1, true)
			}
			if turns(l, in, out, 2*many, false); l.patient != (deliveries > burst) {
				t.Errorf("after a wait in vain and %d deliveries: waited for again: %v", deliveries, l.patient)
			}
		}
	})
}
