package hopper_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/hopper"
	"example.com/hopper/spill/storetest"
)

// move sends n items through a channel pair while another goroutine receives
// them.
func move[T any](b *testing.B, in chan<- T, out <-chan T, n int, v T) {
	b.Helper()
	done := make(chan int)
	go func() {
		got := 0
		for range out {
			got++
		}
		done <- got
	}()
	for range n {
		in <- v
	}
	close(in)
	if got := <-done; got != n {
		b.Fatalf("got %d of %d items", got, n)
	}
}

var capacities = []int{0, 1, 16, 64, 256, 1024}

// BenchmarkPassThrough is a consumer that keeps up, with a bare channel, with a
// goroutine that only forwards, and with a pipe.
func BenchmarkPassThrough(b *testing.B) {
	for _, c := range capacities {
		b.Run(fmt.Sprintf("cap=%d/chan=direct", c), func(b *testing.B) {
			b.ReportAllocs()
			ch := make(chan uint64, c)
			move(b, ch, ch, b.N, 1)
		})
		b.Run(fmt.Sprintf("cap=%d/chan=forward", c), func(b *testing.B) {
			b.ReportAllocs()
			in, out := make(chan uint64, c), make(chan uint64, c)
			go forward(out, in)
			move(b, in, out, b.N, 1)
		})
		b.Run(fmt.Sprintf("cap=%d/chan=pipe", c), func(b *testing.B) {
			b.ReportAllocs()
			in, out := make(chan uint64, c), make(chan uint64, c)
			p, err := hopper.Pipe(out, in, hopper.Dir(b.TempDir()))
			if err != nil {
				b.Fatal(err)
			}
			move(b, in, out, b.N, 1)
			if err := p.Wait(); err != nil {
				b.Fatal(err)
			}
			// A producer may be ahead for a while.
			b.ReportMetric(float64(p.Stats().Spilled)/float64(b.N), "spilled/op")
		})
	}
}

// BenchmarkManualAck is a consumer that keeps up and acknowledges each item,
// beside a goroutine that only forwards.
func BenchmarkManualAck(b *testing.B) {
	b.Run("item=uint64", func(b *testing.B) { manualAck(b, uint64(1)) })
	b.Run("item=128B", func(b *testing.B) { manualAck(b, line(128)(1)) })
}

func manualAck[T any](b *testing.B, item T) {
	for _, c := range []int{64, 256} {
		b.Run(fmt.Sprintf("cap=%d/chan=forward", c), func(b *testing.B) {
			b.ReportAllocs()
			in, out := make(chan T, c), make(chan T, c)
			go forward(out, in)
			move(b, in, out, b.N, item)
		})
		b.Run(fmt.Sprintf("cap=%d/chan=pipe", c), func(b *testing.B) {
			b.ReportAllocs()
			in, out := make(chan T, c), make(chan T, c)
			p, err := hopper.Pipe(out, in, hopper.Dir(b.TempDir()), hopper.Resume(), hopper.ManualAck())
			if err != nil {
				b.Fatal(err)
			}
			go func() {
				for range out {
					p.Ack(1)
				}
			}()
			for range b.N {
				in <- item
			}
			close(in)
			if err := p.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func forward[T any](out chan<- T, in <-chan T) {
	defer close(out)
	for v := range in {
		out <- v
	}
}

// BenchmarkSyncEvery is a producer of 100,000 items a second, 100 every
// millisecond, with a consumer that keeps up and acknowledges, with syncs and
// without. What counts is the CPU time of the process for each item.
func BenchmarkSyncEvery(b *testing.B) {
	for name, opts := range map[string][]hopper.Option{
		"never": nil, "100ms": {hopper.SyncEvery(100 * time.Millisecond)},
	} {
		b.Run("every="+name, func(b *testing.B) {
			in, out := make(chan []byte, 64), make(chan []byte, 64)
			opts := append(opts, hopper.Dir(b.TempDir()), hopper.Resume(), hopper.ManualAck())
			p, err := hopper.Pipe(out, in, opts...)
			if err != nil {
				b.Fatal(err)
			}
			go func() {
				for range out {
					p.Ack(1)
				}
			}()

			item := line(128)(1)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			before := cpuTime()
			for i := range b.N {
				if i%100 == 0 {
					<-tick.C
				}
				in <- item
			}
			close(in)
			if err := p.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime returns the CPU time that the program's own code has used so far, in
// nanoseconds.
func cpuTime() int64 {
	samples := []metrics.Sample{{Name: "/cpu/classes/user:cpu-seconds"}}
	runtime.GC() // brings it up to date
	metrics.Read(samples)
	return int64(samples[0].Value.Float64() * 1e9)
}

// BenchmarkStallThenDrain sends b.N items before the first is received: into a
// channel that is large enough for all, and into a pipe, which writes them to
// disk and reads them back.
func BenchmarkStallThenDrain(b *testing.B) {
	for _, size := range []int{8, 128, 1024} {
		item := line(size)(1)
		b.Run(fmt.Sprintf("size=%d/chan=direct", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			stallThenDrain(b, make(chan []byte, b.N), nil, item)
		})
		for _, c := range []int{0, 256} {
			b.Run(fmt.Sprintf("size=%d/chan=pipe/cap=%d", size, c), func(b *testing.B) {
				b.SetBytes(int64(size))
				in, out := make(chan []byte, c), make(chan []byte, c)
				p, err := hopper.Pipe(out, in, hopper.Dir(b.TempDir()))
				if err != nil {
					b.Fatal(err)
				}
				stallThenDrain(b, in, out, item)
				if err := p.Wait(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

func stallThenDrain(b *testing.B, in, out chan []byte, item []byte) {
	b.Helper()
	if out == nil {
		out = in
	}
	b.ReportAllocs()
	for range b.N {
		in <- append([]byte(nil), item...) // each item is its own, as in real use
	}
	close(in)
	got := 0
	for range out {
		got++
	}
	if got != b.N {
		b.Fatalf("got %d of %d items", got, b.N)
	}
}

// BenchmarkSpillFixedSize is a backlog of items without pointers: it allocates
// nothing for each.
func BenchmarkSpillFixedSize(b *testing.B) {
	b.ReportAllocs()
	in, out := make(chan uint64, 256), make(chan uint64, 256)
	p, err := hopper.Pipe(out, in, hopper.Dir(b.TempDir()), hopper.MaxMemory(64<<10))
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		in <- uint64(i)
	}
	close(in)
	for range out {
	}
	if err := p.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLatency is one item at a time through an idle pipe, there and back.
func BenchmarkLatency(b *testing.B) {
	b.Run("chan=forward", func(b *testing.B) {
		in, out := make(chan uint64), make(chan uint64)
		go func() {
			defer close(out)
			for v := range in {
				out <- v
			}
		}()
		pingPong(b, in, out)
	})
	b.Run("chan=pipe", func(b *testing.B) {
		in, out := make(chan uint64), make(chan uint64)
		p, err := hopper.Pipe(out, in, hopper.Dir(b.TempDir()))
		if err != nil {
			b.Fatal(err)
		}
		pingPong(b, in, out)
		if err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	})
}

func pingPong(b *testing.B, in chan<- uint64, out <-chan uint64) {
	b.Helper()
	took := make([]time.Duration, b.N)
	for i := range took {
		start := time.Now()
		in <- uint64(i)
		<-out
		took[i] = time.Since(start)
	}
	b.StopTimer()
	close(in)
	slices.Sort(took)
	b.ReportMetric(float64(took[b.N/2]), "p50-ns")
	b.ReportMetric(float64(took[b.N*99/100]), "p99-ns")
}

// BenchmarkFanInFanOut has several producers and consumers at one pipe.
func BenchmarkFanInFanOut(b *testing.B) {
	for _, k := range []int{4, 16} {
		for _, kind := range []string{"direct", "pipe"} {
			b.Run(fmt.Sprintf("goroutines=%d/chan=%s", k, kind), func(b *testing.B) {
				in := make(chan uint64, 64)
				out := in
				if kind == "pipe" {
					out = make(chan uint64, 64)
					if _, err := hopper.Pipe(out, in, hopper.Dir(b.TempDir())); err != nil {
						b.Fatal(err)
					}
				}
				fan(b, in, out, k)
			})
		}
	}
}

func fan(b *testing.B, in chan<- uint64, out <-chan uint64, k int) {
	b.Helper()
	var producers, consumers sync.WaitGroup
	for range k {
		producers.Go(func() {
			for range b.N / k {
				in <- 1
			}
		})
		consumers.Go(func() {
			for range out {
			}
		})
	}
	producers.Wait()
	close(in)
	consumers.Wait()
}

// Scale.

// A cost is what pipes take.
type cost struct {
	heap        int64 // bytes
	goroutines  int
	descriptors int
}

func costNow() cost {
	inUse, _ := heap()
	return cost{inUse, runtime.NumGoroutine(), descriptors()}
}

// breedGoroutines makes the runtime have so many goroutines that have ended. It
// keeps them to use them again, and how many a test needs at a time, for
// moments, is up to the scheduler.
func breedGoroutines(n int) {
	var all sync.WaitGroup
	end := make(chan struct{})
	for range n {
		all.Go(func() { <-end })
	}
	close(end)
	all.Wait()
}

// leastCost returns what it comes to once the collector has caught up with what
// other tests have left.
func leastCost() cost {
	least := costNow()
	for range 4 {
		c := costNow()
		least.heap = min(least.heap, c.heap)
	}
	return least
}

func (c cost) minus(d cost) cost {
	return cost{c.heap - d.heap, c.goroutines - d.goroutines, c.descriptors - d.descriptors}
}

func (c cost) report(b *testing.B, pipes int) {
	n := float64(pipes)
	b.ReportMetric(float64(c.heap)/n, "heap-B/pipe")
	b.ReportMetric(float64(c.goroutines)/n, "goroutines/pipe")
	b.ReportMetric(float64(c.descriptors)/n, "fds/pipe")
}

// descriptors returns how many this process has open; 0 where that can't be
// told.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries) - 1 // that of the directory
}

// A bank is many pipes.
type bank struct {
	in   []chan []byte
	out  []chan []byte
	pump []*hopper.Pump
}

// open starts n pipes, each in a temporary directory of its own.
func open(t testing.TB, n int, opts ...hopper.Option) *bank {
	t.Helper()
	b := &bank{}
	for range n {
		in, out := make(chan []byte), make(chan []byte)
		p, err := hopper.Pipe(out, in, opts...)
		if err != nil {
			t.Fatal(err)
		}
		b.in, b.out, b.pump = append(b.in, in), append(b.out, out), append(b.pump, p)
	}
	return b
}

const (
	bankMemory = 4 << 10
	bankItems  = 300 // of 1,000 bytes, for each pipe
)

// stall sends a backlog to each pipe, much more than the window.
func (b *bank) stall() {
	item := line(1000)(0)
	for _, in := range b.in {
		for range bankItems {
			in <- item
		}
	}
}

// drain receives what stall has sent.
func (b *bank) drain() {
	for _, out := range b.out {
		take(out, bankItems)
	}
}

func (b *bank) close(t testing.TB) {
	t.Helper()
	for i, p := range b.pump {
		close(b.in[i])
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// spilled fails unless each pipe has items on disk.
func (b *bank) spilled(t testing.TB) {
	t.Helper()
	for _, p := range b.pump {
		if s := checkStats(t, p); s.OnDisk == 0 || s.DiskBytes == 0 || s.Blocked {
			t.Fatalf("not spilled: %+v", s)
		}
	}
}

// idle is the most that a pipe may take which holds nothing.
var idle = cost{heap: 8 << 10, goroutines: 1}

func checkIdle(t *testing.T, c cost, pipes int) {
	t.Helper()
	most := idle.heap * int64(pipes)
	if raceEnabled() { // what only it needs, and fewer pipes to share what there is once
		most += most / 4
	}
	if c.heap > most || c.goroutines > idle.goroutines*pipes ||
		c.descriptors > 0 {
		t.Errorf("%d pipes take %+v, want no more than %+v each", pipes, c, idle)
	}
	t.Logf("each of %d pipes: %d bytes of heap; %+v in all", pipes, c.heap/int64(pipes), c)
}

// B5.
func TestAnIdlePipeTakesEightKilobytesAndOneGoroutine(t *testing.T) {
	const n = 200
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	open(t, 1).close(t) // what a process has once

	for name, use := range map[string]func(b *bank){
		"never used": func(*bank) {},
		"used": func(b *bank) {
			for i, in := range b.in {
				for range 10 {
					go func() { in <- nil }()
					<-b.out[i]
				}
			}
		},
		"after a backlog in memory": func(b *bank) {
			for i, in := range b.in {
				for range 3000 { // of some KiB
					in <- nil
				}
				take(b.out[i], 3000)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := costNow()
				b := open(t, n)
				use(b)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				checkIdle(t, leastCost().minus(before), n)
				if names := files(t, tmp); len(names) > 0 {
					t.Errorf("made: %q", names)
				}
				b.close(t)
			})
		})
	}
}

// B5: two seconds after the last movement.
func TestAThousandStalledPipesTakeLittleAndGiveItBack(t *testing.T) {
	n := 1000
	if raceEnabled() {
		n = 200
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	synctest.Test(t, func(t *testing.T) {
		breedGoroutines(8 * n)
		before := costNow()
		b := open(t, n, hopper.MaxMemory(bankMemory))
		b.stall()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.spilled(t)

		stalled := costNow().minus(before)
		t.Logf("%d stalled pipes: %+v", n, stalled)
		windows := int64(n * bankMemory)
		if stalled.heap > windows+64<<20 {
			t.Errorf("%d bytes of heap beyond the windows, want 64 MiB at most",
				stalled.heap-windows)
		}
		if stalled.goroutines > 2*n || stalled.descriptors > 2*n {
			t.Errorf("%+v, want at most 2 goroutines and descriptors for each of %d pipes",
				stalled, n)
		}

		b.drain()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		checkIdle(t, leastCost().minus(before), n)
		if names := files(t, tmp); len(names) > 0 {
			t.Errorf("%d directories are left: %q", len(names), names[0])
		}
		b.close(t)
	})
}

// Promise 6: what pipes share is not lost to one whose disk hangs.
func TestAPipeOnAHungDiskDoesNotDisturbNineOthers(t *testing.T) {
	for _, call := range []storetest.Call{storetest.Append, storetest.Read, storetest.Trim} {
		t.Run(call.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, item := storetest.NewMemory(), noise(1000)
				in, out, p := pipe[[]byte](t, 0, hopper.WithStore(m.Store()),
					hopper.MaxMemory(4<<10))
				thaw := m.Hang(call)
				sent, got := 0, 0
				for ; sent < 2000 && !checkStats(t, p).Blocked; sent++ {
					if !offer(in, p, item(sent)) {
						break
					}
				}
				if call != storetest.Append { // some must have been written to be read
					expect(t, out, 0, 4, item)
					got = 4
				}
				time.Sleep(2 * time.Second)

				b := open(t, 9, hopper.MaxMemory(bankMemory))
				start := time.Now()
				b.stall()
				b.drain()
				if d := time.Since(start); d > time.Second {
					t.Errorf("the others took %v", d)
				}
				b.close(t)

				thaw()
				close(in)
				expectEnd(t, p, out, got, sent, item)
			})
		})
	}
}

// BenchmarkIdlePipe is what a pipe costs that nobody uses.
func BenchmarkIdlePipe(b *testing.B) {
	b.ReportAllocs()
	before := costNow()
	b.ResetTimer()
	bank := open(b, b.N)
	b.StopTimer()
	costNow().minus(before).report(b, b.N)
	bank.close(b)
}

// BenchmarkTenThousandIdlePipes is how long they take to open.
func BenchmarkTenThousandIdlePipes(b *testing.B) {
	const n = 10_000
	for range b.N {
		b.StopTimer()
		before := costNow()
		b.StartTimer()
		bank := open(b, n)
		b.StopTimer()

		costNow().minus(before).report(b, n)
		bank.close(b)
	}
}

// BenchmarkAThousandStalledPipes is what they cost, two seconds after the last
// movement, beyond their windows. Its time is that of a backlog of 300 KB for
// each.
func BenchmarkAThousandStalledPipes(b *testing.B) {
	const n = 1000
	for range b.N {
		b.StopTimer()
		before := costNow()
		b.StartTimer()
		bank := open(b, n, hopper.MaxMemory(bankMemory))
		bank.stall()
		b.StopTimer()

		time.Sleep(2 * time.Second)
		c := costNow().minus(before)
		c.heap -= n * bankMemory
		c.report(b, n)
		b.ReportMetric(float64(c.heap)/(1<<20), "heap-MiB")
		bank.drain()
		bank.close(b)
	}
}

// BenchmarkDrainedPipe is what a pipe costs two seconds after a backlog of
// 300 KB. Its time is that of a hundred such backlogs.
func BenchmarkDrainedPipe(b *testing.B) {
	const n = 100
	for range b.N {
		b.StopTimer()
		before := costNow()
		b.StartTimer()
		bank := open(b, n, hopper.MaxMemory(bankMemory))
		bank.stall()
		bank.drain()
		b.StopTimer()

		time.Sleep(2 * time.Second)
		costNow().minus(before).report(b, n)
		bank.close(b)
	}
}
