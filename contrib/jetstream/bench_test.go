package jetstream_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"example.com/hopper"
	"example.com/hopper/contrib/jetstream"
)

// BenchmarkStallThenDrain sends b.N items of 128 bytes before the first is
// received, into a pipe on a directory, and into one on a stream of a server in
// this process. Run it with -benchtime 1000000x.
func BenchmarkStallThenDrain(b *testing.B) {
	b.Run("store=directory", func(b *testing.B) {
		stallThenDrain(b, hopper.Dir(b.TempDir()))
	})
	b.Run("store=jetstream", func(b *testing.B) {
		js := connect(b, "", nats.InProcessServer(startServer(b, inProcess(b))))
		stallThenDrain(b, hopper.WithStore(newStore(b, js, jetstream.Config{})))
	})
}

func stallThenDrain(b *testing.B, opts ...hopper.Option) {
	b.Helper()
	in, out, p, err := hopper.Make[[]byte](256, opts...)
	if err != nil {
		b.Fatal(err)
	}
	sample := item(1, 128)
	b.ReportAllocs()
	b.SetBytes(128)
	b.ResetTimer()

	for range b.N {
		in <- append([]byte(nil), sample...) // each item is its own, as in real use
	}
	close(in)
	got := 0
	for range out {
		got++
	}
	if err := p.Wait(); got != b.N || err != nil {
		b.Fatalf("got %d of %d items: %v", got, b.N, err)
	}
}
