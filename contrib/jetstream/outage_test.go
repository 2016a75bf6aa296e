package jetstream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"example.com/hopper"
	"example.com/hopper/contrib/jetstream"
	"example.com/hopper/spill"
)

// A line is a pipe whose backlog is in a stream, with what was sent to it and
// what came out.
type line struct {
	t    testing.TB
	in   chan<- []byte
	out  <-chan []byte
	pump *hopper.Pump
	sent uint64 // number of the next item to be sent
	got  uint64 // number of the next item to come
}

const lineItem = 1000 // bytes

// startLine starts a pipe. Its memory holds some hundred items.
func startLine(t testing.TB, js njs.JetStream, cfg jetstream.Config, opts ...hopper.Option) *line {
	t.Helper()
	opts = append(opts, hopper.WithStore(newStore(t, js, cfg)), hopper.Resume(),
		hopper.MaxMemory(256<<10), hopper.WithLogger(testLogger(t)))
	in, out, p, err := hopper.Make[[]byte](0, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return &line{t: t, in: in, out: out, pump: p}
}

// resume starts a pipe that goes on where l has ended.
func (l *line) resume(js njs.JetStream, cfg jetstream.Config) *line {
	l.t.Helper()
	next := startLine(l.t, js, cfg)
	next.sent, next.got = l.sent, l.got
	return next
}

// send sends up to n items, or until the pipe has not taken one for some time.
func (l *line) send(n int) {
	for range n {
		select {
		case l.in <- item(l.sent, lineItem):
			l.sent++
		case <-time.After(300 * time.Millisecond):
			return
		}
	}
}

// take receives n items.
func (l *line) take(n int) {
	l.t.Helper()
	for range n {
		select {
		case v, ok := <-l.out:
			l.check(v, ok)
		case <-time.After(time.Minute):
			l.t.Fatalf("nothing comes after %d items of %d: %+v", l.got, l.sent, l.pump.Stats())
		}
	}
}

func (l *line) check(v []byte, ok bool) {
	l.t.Helper()
	if !ok {
		l.t.Fatalf("out is closed after %d items of %d: %v", l.got, l.sent, l.pump.Wait())
	}
	if string(v) != string(item(l.got, lineItem)) {
		l.t.Fatalf("item %d is missing, or comes twice or late", l.got)
	}
	l.got++
}

// drain ends the pipe and receives the rest.
func (l *line) drain() {
	l.t.Helper()
	close(l.in)
	l.take(int(l.sent - l.got))
	if v, ok := <-l.out; ok {
		l.t.Fatalf("more comes than was sent: %d bytes", len(v))
	}
	if err := l.pump.Wait(); err != nil {
		l.t.Fatalf("Wait: %v", err)
	}
}

// throughProxy returns a JetStream that is reached through a proxy, and the
// server's own address.
func throughProxy(t testing.TB) (js njs.JetStream, p *proxy, url string) {
	t.Helper()
	s := startServer(t, onPort(t))
	p = newProxy(t, s.Addr().String())
	return connect(t, p.url()), p, s.ClientURL()
}

// outages are how long the server is away.
func outages() []time.Duration {
	if soak() {
		return []time.Duration{time.Second, time.Minute}
	}
	return []time.Duration{time.Second}
}

func TestTheServerMayBeAway(t *testing.T) {
	t.Parallel()
	for _, hung := range []bool{false, true} {
		for _, d := range outages() {
			name := map[bool]string{false: "cut ", true: "hung "}[hung] + d.String()
			t.Run(name, func(t *testing.T) { testAway(t, d, hung) })
		}
	}
}

// testAway sends on through an outage, and receives what is at hand.
func testAway(t *testing.T, d time.Duration, hung bool) {
	js, p, _ := throughProxy(t)
	l := startLine(t, js, jetstream.Config{})
	l.send(3000)
	l.take(500)

	p.set(!hung, hung)
	end := time.Now().Add(d)
	l.send(10_000)
	until(t, "the pump says why it does not receive", func() bool {
		s := l.pump.Stats()
		return s.Blocked && s.Reason != ""
	})
	for ; time.Now().Before(end); l.send(100) {
		if s := l.pump.Stats(); s.MemoryBytes > 2<<20 {
			t.Fatalf("the pump takes %d bytes while the server is away", s.MemoryBytes)
		}
	}
	if n := l.sent - l.got; n > 10_000 {
		t.Errorf("%d items are waiting while the server is away", n)
	}

	p.set(false, false)
	until(t, "it receives again", func() bool {
		before := l.sent
		l.send(1)
		return l.sent > before
	})
	l.send(2000)
	l.drain()
}

// What is in memory is delivered while the server is away.
func TestWhatIsInMemoryIsDeliveredWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	js, p, _ := throughProxy(t)
	l := startLine(t, js, jetstream.Config{})
	p.set(true, false)
	l.send(200)
	l.take(200)
	p.set(false, false)
	l.send(3000)
	l.drain()
}

func TestTheServerMayBeAwayAtTheStart(t *testing.T) {
	t.Parallel()
	s := startServer(t, onPort(t))
	p := newProxy(t, s.Addr().String())
	p.set(true, false)
	js := connect(t, p.url(), nats.RetryOnFailedConnect(true))

	// Without patience that is an error.
	_, err := newStore(t, js, jetstream.Config{Wait: -1}).Open(t.Context(), label, true)
	if err == nil || !strings.Contains(err.Error(), "not connected") {
		t.Errorf("Open without a server: %v, want an error that says so", err)
	}

	// With a context that ends, too.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = newStore(t, js, jetstream.Config{}).Open(ctx, label, true)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open without a server: %v, want the context's error", err)
	}

	time.AfterFunc(300*time.Millisecond, func() { p.set(false, false) })
	l := startLine(t, js, jetstream.Config{})
	l.send(3000)
	l.drain()
}

func TestTheServerMayBeAwayAtTheStop(t *testing.T) {
	t.Parallel()
	js, p, _ := throughProxy(t)
	l := startLine(t, js, jetstream.Config{})
	l.send(3000)
	l.take(100)

	p.set(true, false)
	l.send(300)
	time.AfterFunc(500*time.Millisecond, func() { p.set(false, false) })
	if err := l.pump.Close(); err != nil {
		t.Fatalf("Close while the server is away for a moment: %v", err)
	}
	for v := range l.out {
		l.check(v, true)
	}

	l = l.resume(js, jetstream.Config{})
	l.drain()
}

// A log whose server stays away does not wait for longer than its context, and
// says what it could not store. What it had stored is there later.
func TestAStopDoesNotWaitForAServerThatStaysAway(t *testing.T) {
	t.Parallel()
	for _, hung := range []bool{false, true} {
		js, p, url := throughProxy(t)
		log, _, err := spill.Open(t.Context(), spill.Config{
			Store: newStore(t, js, jetstream.Config{}), Label: label, Keep: true,
			Wake: make(chan struct{}, 1),
		})
		if err != nil {
			t.Fatal(err)
		}
		seq := uint64(0)
		add := func() {
			log.Commit(append(log.Begin(seq), item(seq, lineItem)...))
			seq++
		}
		for log.Usage().Bytes < 1<<20 {
			if log.Room(0) {
				add()
			} else {
				time.Sleep(time.Millisecond)
			}
		}
		p.set(!hung, hung)
		for log.Room(0) {
			add()
		}

		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		start := time.Now()
		left := log.Close(ctx, 0)
		if took := time.Since(start); took > 20*time.Second || left.Err == nil || left.Unsaved == 0 {
			t.Errorf("Close after %v: %+v, want to hear of unsaved items", took, left)
		}

		p.set(true, false)
		direct := connect(t, url)
		s := newStore(t, direct, jetstream.Config{})
		r := open(t, s)
		if r.Next != 0 || r.End < seq-left.Unsaved {
			t.Errorf("Open: found %+v, want the %d items that were saved", r, seq-left.Unsaved)
		}
		finish(t, s, 0, r.End, lineItem)
	}
}

// A server that is stopped and started anew.
func TestTheServerMayBeRestarted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	js := connect(t, h.url())
	l := startLine(t, js, jetstream.Config{})
	for range 3 {
		l.send(2000)
		l.take(700)
		h.stop()
		l.send(200)
		h.start()
	}
	l.send(1000)
	l.drain()
}
