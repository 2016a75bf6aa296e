package hopper_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/hopper"
)

// move sends n items through a channel pair while another goroutine receives them.
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

// BenchmarkPassThrough is a consumer that keeps up, with a bare channel, with a goroutine
// that only forwards, and with a pipe.
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
			go func() {
				defer close(out)
				for v := range in {
					out <- v
				}
			}()
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
			b.ReportMetric(float64(p.Stats().Spilled)/float64(b.N), "spilled/op") // a producer may be ahead for a while
		})
	}
}

// BenchmarkStallThenDrain sends b.N items before the first is received: into a channel that
// is large enough for all, and into a pipe, which writes them to disk and reads them back.
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

// BenchmarkSpillFixedSize is a backlog of items without pointers: it allocates nothing for each.
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
		for _, piped := range []bool{false, true} {
			b.Run(fmt.Sprintf("goroutines=%d/chan=%s", k, map[bool]string{false: "direct", true: "pipe"}[piped]), func(b *testing.B) {
				in := make(chan uint64, 64)
				out := in
				if piped {
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
