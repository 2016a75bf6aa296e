package jetstream_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/hopper/contrib/jetstream"
	"example.com/hopper/spill/storetest"
)

// A proxy stands between clients and a server. It can cut and delay.
type proxy struct {
	ln    net.Listener
	rough bool // connections are cut often, and delayed

	mu     sync.Mutex
	cond   sync.Cond
	target string // "": there is none yet
	conns  map[net.Conn]bool
	away   bool // nobody gets through
	hung   bool // what has got through gets no answer
	done   sync.WaitGroup
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	return startProxy(t, target, false)
}

func startProxy(t testing.TB, target string, rough bool) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target, rough: rough, conns: make(map[net.Conn]bool)}
	p.cond.L = &p.mu
	p.done.Go(p.accept)
	t.Cleanup(func() {
		ln.Close()
		p.set(true, false)
		p.done.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.ln.Addr().String() }

// set says whether the server is away, or hangs.
func (p *proxy) set(away, hung bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.hung = away, hung
	p.cond.Broadcast()
	if away {
		for c := range p.conns {
			c.Close()
		}
	}
}

// leadTo says where connections lead from now on.
func (p *proxy) leadTo(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *proxy) dial() (net.Conn, error) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	if target == "" {
		return nil, errors.New("no server has been started yet")
	}
	return net.Dial("tcp", target)
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	s, err := p.dial()
	if err != nil {
		return
	}
	defer s.Close()

	p.mu.Lock()
	if p.away {
		p.mu.Unlock()
		return
	}
	p.conns[c] = true
	p.mu.Unlock()

	left := p.cutIn()
	var both sync.WaitGroup
	both.Go(func() { p.copy(s, c, left); s.Close(); c.Close() })
	both.Go(func() { p.copy(c, s, left); s.Close(); c.Close() })
	both.Wait()

	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// copy forwards until it has read so often.
func (p *proxy) copy(to, from net.Conn, reads int) {
	buf := make([]byte, 64<<10)
	for n := 1; ; n++ {
		got, err := from.Read(buf)
		if d := p.delay(); d > 0 {
			time.Sleep(d)
		}
		p.mu.Lock()
		for p.hung && !p.away {
			p.cond.Wait()
		}
		p.mu.Unlock()
		if got > 0 && n != reads {
			if _, err := to.Write(buf[:got]); err != nil {
				return
			}
		}
		if err != nil || n == reads {
			return
		}
	}
}

// cutIn returns how many reads a connection lasts; 0: for ever.
func (p *proxy) cutIn() int {
	switch {
	case !p.rough:
		return 0
	case soak():
		return 15 + rand.IntN(150)
	}
	return 30 + rand.IntN(400)
}

// delay returns how long a read is delayed.
func (p *proxy) delay() time.Duration {
	if !p.rough || rand.IntN(8) > 0 {
		return 0
	}
	return time.Duration(rand.IntN(2000)) * time.Microsecond
}

// TestAStreamBehindARoughConnectionIsAStore runs the conformance suite over
// connections that are cut every few messages, also in the middle of one, and
// delayed.
func TestAStreamBehindARoughConnectionIsAStore(t *testing.T) {
	t.Parallel()
	s := startServer(t, onPort(t))
	names := numbered()
	storetest.Test(t, func(t *testing.T) storetest.Medium {
		p := startProxy(t, s.Addr().String(), true)
		js := connect(t, p.url(), nats.RetryOnFailedConnect(true))
		outside := connect(t, s.ClientURL())
		cfg := jetstream.Config{StreamName: names(), Lease: 2 * time.Second}
		m := medium(t, js, outside, cfg)
		m.Hang = func() (resume func()) {
			p.set(false, true)
			return func() { p.set(false, false) }
		}
		return m
	})
}
