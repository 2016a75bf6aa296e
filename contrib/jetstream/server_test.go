package jetstream_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"
)

// startServer starts a server in this process, which listens on no port unless
// options say so.
func startServer(t testing.TB, opts *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() { stopServer(s) })
	return s
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func inProcess(t testing.TB) *server.Options {
	return &server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true}
}

func onPort(t testing.TB) *server.Options {
	return &server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true,
	}
}

// A host runs one server at a time, which is reached at one address whichever
// port it has: one that is closed for a moment may be another's.
type host struct {
	t     testing.TB
	opts  *server.Options
	s     *server.Server
	front *proxy
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, opts: onPort(t), front: newProxy(t, "")}
	h.start()
	t.Cleanup(h.stop)
	return h
}

func (h *host) url() string { return h.front.url() }

func (h *host) start() {
	h.t.Helper()
	h.s = must[*server.Server](h.t)(server.NewServer(h.opts))
	h.s.Start()
	until(h.t, "the server listens", func() bool { return h.s.ReadyForConnections(time.Second) })
	h.front.leadTo(h.s.Addr().String())
}

func (h *host) stop() { stopServer(h.s) }

// connect returns a JetStream of a connection of its own.
func connect(t testing.TB, url string, opts ...nats.Option) njs.JetStream {
	t.Helper()
	opts = append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.Timeout(5 * time.Second),
	}, opts...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := njs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// A gate is connections to a server in this process, that can be made to hang.
type gate struct {
	s *server.Server

	mu   sync.Mutex
	cond sync.Cond
	shut bool
}

func newGate(s *server.Server) *gate {
	g := &gate{s: s}
	g.cond.L = &g.mu
	return g
}

// InProcessConn implements [nats.InProcessConnProvider].
func (g *gate) InProcessConn() (net.Conn, error) {
	c, err := g.s.InProcessConn()
	return gated{c, g}, err
}

// hang makes all connections hang until resume is called.
func (g *gate) hang() (resume func()) {
	g.set(true)
	return func() { g.set(false) }
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	g.cond.Broadcast()
}

func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		g.cond.Wait()
	}
}

// A gated connection passes nothing while its gate is shut.
type gated struct {
	net.Conn
	g *gate
}

func (c gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.g.pass()
	return n, err
}

func (c gated) Write(b []byte) (int, error) {
	c.g.pass()
	return c.Conn.Write(b)
}

// until polls a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it takes longer than two minutes: %s", what)
		}
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// An admin looks after a stream from outside.
type admin struct {
	t    testing.TB
	js   njs.JetStream
	name string
}

func (a admin) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	a.t.Cleanup(cancel)
	return ctx
}

func (a admin) stream() njs.Stream {
	a.t.Helper()
	return must[njs.Stream](a.t)(a.js.Stream(a.ctx(), a.name))
}

// messages returns all messages of the stream.
func (a admin) messages() (all []*njs.RawStreamMsg) {
	a.t.Helper()
	st := a.stream()
	state := st.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := st.GetMsg(a.ctx(), seq)
		if err == nil && m.Sequence == seq { // a later one comes for one that is deleted
			all = append(all, m)
		}
	}
	return all
}

// update changes the stream's settings.
func (a admin) update(change func(c *njs.StreamConfig)) {
	a.t.Helper()
	cfg := a.stream().CachedInfo().Config
	change(&cfg)
	if _, err := a.js.UpdateStream(a.ctx(), cfg); err != nil {
		a.t.Fatal(err)
	}
}

// rebuild stores all messages anew, in their order, but for what change does to
// them.
func (a admin) rebuild(change func(m *njs.RawStreamMsg)) {
	a.t.Helper()
	all := a.messages()
	if err := a.stream().Purge(a.ctx()); err != nil {
		a.t.Fatal(err)
	}

	for _, m := range all {
		change(m)
		h := nats.Header{}
		for k, v := range m.Header {
			if strings.HasPrefix(k, "Hopper") {
				h[k] = v
			}
		}
		again := &nats.Msg{Subject: m.Subject, Header: h, Data: m.Data}
		must[*njs.PubAck](a.t)(a.js.PublishMsg(a.ctx(), again))
	}
}

// expireLease makes the lease look as if its holder had not been heard of for
// long.
func (a admin) expireLease() {
	a.t.Helper()
	kv := must[njs.KeyValue](a.t)(a.js.KeyValue(a.ctx(), "hopper_"+a.name))
	e := must[njs.KeyValueEntry](a.t)(kv.Get(a.ctx(), "lease"))
	value := replaceTTL(e.Value())
	if _, err := kv.Update(a.ctx(), "lease", value, e.Revision()); err != nil {
		a.t.Fatal(err)
	}
}

// items returns the range of items that a message says it holds; ok is false
// for a fence.
func items(m *njs.RawStreamMsg) (first, end uint64, ok bool) {
	var version, kind, holder string
	var epoch, id uint64
	_, err := fmt.Sscan(m.Header.Get("Hopper"), &version, &kind, &holder, &epoch, &id, &first, &end)
	return first, end, err == nil && kind == "chunks"
}

// testLogger logs what a pipe has to say.
func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
