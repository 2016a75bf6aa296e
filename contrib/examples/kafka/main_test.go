package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"example.com/hopper"
)

const topic = "events"

// A broker is a Kafka cluster in this process that can stall.
type broker struct {
	*kfake.Cluster
	mu   sync.Mutex
	gate chan struct{} // closed: it answers
}

// soon returns a context that ends when a test has taken far too long.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)

	b := &broker{Cluster: c, gate: make(chan struct{})}
	close(b.gate)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		gate := b.current()
		c.SleepControl(func() { <-gate })
		return nil, nil, false // go on as usual
	})
	return b
}

func (b *broker) current() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gate
}

// stall stops answers to the producer, until the function returned is called.
func (b *broker) stall(t *testing.T) (resume func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	gate := make(chan struct{})
	b.gate = gate
	resume = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(resume)
	return resume
}

func (b *broker) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.ListenAddrs()...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// producer is a client with a small buffer, so that lines wait in the pipe.
func (b *broker) producer(t *testing.T) *kgo.Client {
	t.Helper()
	return b.client(t, kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(100))
}

// lines returns numbered lines.
func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// wantLines reads the topic until it has seen each of n lines. Some may come
// twice; the first of each must come in order.
func wantLines(t *testing.T, b *broker, n int) {
	t.Helper()
	ctx := soon(t)
	c := b.client(t, kgo.ConsumeTopics(topic))

	for next := 0; next < n; {
		fetched := c.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("after %d lines: %v", next, err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			var i int
			if _, err := fmt.Sscanf(string(r.Value), "line %d", &i); err != nil || i > next {
				t.Fatalf("got %q where line %d should be", r.Value, next)
			}
			next = max(next, i+1)
		})
	}
}

// ended is a reader of lines that tells when it has been read to its end.
type ended struct {
	*strings.Reader
	end chan struct{}
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil {
		close(e.end)
	}
	return n, err
}

func TestAllLinesArrive(t *testing.T) {
	b := startBroker(t)
	err := run(soon(t), b.producer(t), strings.NewReader(lines(0, 5000)), t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, b, 5000)
}

func TestLinesOutliveAStalledBrokerAndARestart(t *testing.T) {
	const n = 20_000
	b, dir := startBroker(t), t.TempDir()

	// The broker stalls. All lines are read all the same, and stay in the
	// backlog when the program is stopped.
	resume := b.stall(t)
	ctx, stop := context.WithCancel(t.Context())
	stdin := &ended{strings.NewReader(lines(0, n)), make(chan struct{})}
	go func() {
		<-stdin.end
		stop()
	}()
	err := run(ctx, b.producer(t), stdin, dir, 10*time.Millisecond)
	var undelivered *hopper.UndeliveredError
	if !errors.As(err, &undelivered) || !undelivered.Kept {
		t.Fatalf("with a stalled broker: %v, want a receipt for lines that are kept", err)
	}
	if got := undelivered.Items + undelivered.Unacked; got != n {
		t.Fatalf("%d lines are kept, want %d", got, n)
	}
	if undelivered.Unacked == 0 {
		t.Fatal("no line was with the client")
	}

	// It comes back, and so do the lines, before the new ones.
	resume()
	err = run(soon(t), b.producer(t), strings.NewReader(lines(n, n+10)), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, b, n+10)
}

func TestAFailureForGoodEndsTheProgramAndKeepsTheLines(t *testing.T) {
	b, dir := startBroker(t), t.TempDir()
	unknown := b.client(t, kgo.DefaultProduceTopic("unknown"), kgo.UnknownTopicRetries(0))

	err := run(soon(t), unknown, strings.NewReader(lines(0, 10)), dir, 10*time.Millisecond)
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("got %v, want %v", err, kerr.UnknownTopicOrPartition)
	}
	if err := run(soon(t), b.producer(t), strings.NewReader(""), dir, 0); err != nil {
		t.Fatal(err)
	}
	wantLines(t, b, 10)
}
