package jetstream_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/contrib/jetstream"
)

// A cluster is three servers in this process.
type cluster struct {
	t       testing.TB
	opts    [3]*server.Options
	servers [3]*server.Server
	links   [3][3]*proxy // through which the first reaches the second
}

// startCluster starts three servers whose routes to one another run through
// proxies.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t}
	nowhere := newProxy(t, "127.0.0.1:1")
	nowhere.set(true, false)
	for i := range c.opts {
		o := onPort(t)
		o.ServerName = fmt.Sprintf("server-%d", i)
		o.Cluster = server.ClusterOpts{
			Name: "hopper", Host: "127.0.0.1", Port: freePort(t), PoolSize: -1,
			Advertise: nowhere.ln.Addr().String(), // so that there are no routes but those below
		}
		c.opts[i] = o
	}

	for i, o := range c.opts {
		for k, to := range c.opts {
			if i != k {
				c.links[i][k] = newProxy(t, fmt.Sprintf("127.0.0.1:%d", to.Cluster.Port))
				o.Routes = append(o.Routes, must[*url.URL](t)(
					url.Parse("nats-route://"+c.links[i][k].ln.Addr().String())))
			}
		}
	}
	for i, o := range c.opts {
		s := must[*server.Server](t)(server.NewServer(o))
		s.Start()
		c.servers[i] = s
	}
	t.Cleanup(c.stop)
	for i, s := range c.servers {
		until(t, "the server listens", func() bool { return s.ReadyForConnections(time.Second) })
		c.opts[i].Port = portOf(s)
	}
	c.settled()
	return c
}

// isolate cuts a server off from the other two, or no longer.
func (c *cluster) isolate(i int, on bool) {
	for k := range c.servers {
		if k != i {
			c.links[i][k].set(on, false)
			c.links[k][i].set(on, false)
		}
	}
}

// freePort returns a port that nobody listens on. A server can't tell its own
// before it has started.
func freePort(t testing.TB) int {
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func (c *cluster) stop() {
	for _, s := range c.servers {
		stopServer(s)
	}
}

// settled waits until the cluster has a leader and all servers know it.
func (c *cluster) settled() {
	c.t.Helper()
	until(c.t, "the cluster has a leader", func() bool {
		for _, s := range c.servers {
			if !s.ReadyForConnections(time.Second) || !s.JetStreamIsCurrent() {
				return false
			}
		}
		return c.leader() >= 0
	})
}

func (c *cluster) leader() int {
	for i, s := range c.servers {
		if s.JetStreamIsLeader() {
			return i
		}
	}
	return -1
}

func (c *cluster) url() string {
	var all []string
	for _, s := range c.servers {
		all = append(all, s.ClientURL())
	}
	return strings.Join(all, ",")
}

// streamLeader returns which server leads the stream.
func (c *cluster) streamLeader(js njs.JetStream) (lead int) {
	c.t.Helper()
	until(c.t, "the stream has a leader and is current", func() bool {
		st, err := js.Stream(c.t.Context(), streamName)
		if err != nil {
			return false
		}
		i := st.CachedInfo()
		if i.Cluster == nil || i.Cluster.Leader == "" {
			return false
		}
		for _, r := range i.Cluster.Replicas {
			if !r.Current {
				return false
			}
		}
		_, err = fmt.Sscanf(i.Cluster.Leader, "server-%d", &lead)
		return err == nil
	})
	return lead
}

// chooses waits until the stream has another leader.
func (c *cluster) chooses(js njs.JetStream, former int) {
	c.t.Helper()
	until(c.t, "the others choose a leader", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		st, err := js.Stream(ctx, streamName)
		if err != nil || st.CachedInfo().Cluster == nil {
			return false
		}
		lead := st.CachedInfo().Cluster.Leader
		return lead != "" && lead != c.opts[former].ServerName
	})
}

func (c *cluster) restart(i int, meanwhile func()) {
	c.t.Helper()
	stopServer(c.servers[i])
	meanwhile()
	s := must[*server.Server](c.t)(server.NewServer(c.opts[i]))
	s.Start()
	c.servers[i] = s
	c.settled()
}

func TestACluster(t *testing.T) {
	t.Parallel()
	passes := 1
	if soak() {
		passes = 10
	}
	c := startCluster(t)
	js := connect(t, c.url(), nats.DontRandomize())
	l := startLine(t, js, jetstream.Config{Replicas: 3, Lease: 10 * time.Second})
	for range passes {
		l.send(1000)
		l.take(300)

		// The stream's leader is stopped in the middle.
		lead := c.streamLeader(js)
		c.restart(lead, func() { l.send(1000); l.take(500) })
		l.sendAll(500)
		if testing.Short() {
			continue
		}

		// One after the other is restarted.
		for i := range c.servers {
			c.streamLeader(js)
			c.restart(i, func() { l.send(200) })
			l.sendAll(200)
			l.take(100)
		}
	}
	l.drain()
}

// sendAll sends n items, however long that takes.
func (l *line) sendAll(n int) {
	l.t.Helper()
	for to := l.sent + uint64(n); l.sent < to; l.sent++ {
		select {
		case l.in <- item(l.sent, lineItem):
		case <-time.After(2 * time.Minute):
			l.t.Fatalf("item %d is not taken: %+v", l.sent, l.pump.Stats())
		}
	}
}

// TestAPartition cuts the stream's leader off from the two others: with the
// client on its side, so that nothing goes on until it is healed, or on the
// other.
func TestAPartition(t *testing.T) {
	for _, side := range []string{"the leader's side", "the other side"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t)
			outside := connect(t, c.url())
			cfg := good(streamName)
			cfg.Replicas = 3
			must[njs.Stream](t)(outside.CreateStream(t.Context(), cfg))
			lead := c.streamLeader(outside)
			home := lead
			if side == "the other side" {
				home = (lead + 1) % 3
			}

			js := connect(t, c.servers[home].ClientURL(), nats.IgnoreDiscoveredServers())
			l := startLine(t, js, jetstream.Config{Replicas: 3, Lease: 10 * time.Second})
			l.sendAll(1000)
			l.take(200)
			c.isolate(lead, true)
			l.send(1000)
			other := connect(t, c.servers[(lead+1)%3].ClientURL(), nats.IgnoreDiscoveredServers())
			c.chooses(other, lead)
			if home != lead { // it goes on
				l.sendAll(1000)
				l.take(1000)
			}
			c.isolate(lead, false)
			l.sendAll(1000)
			l.drain()
		})
	}
}
