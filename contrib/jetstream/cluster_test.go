package jetstream_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/contrib/jetstream"
)

// A cluster is three servers in this process. Clients reach them, and they one
// another, through proxies.
type cluster struct {
	t     testing.TB
	hosts [3]*host
	links [3][3]*proxy // through which the first reaches the second
}

// startCluster starts three servers.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := newCluster(t)
	for i := range c.hosts {
		c.start(i)
	}
	c.settled()
	return c
}

// newCluster returns a cluster whose servers have yet to be started.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t}
	nowhere := newProxy(t, "").ln.Addr().String()
	for i := range c.hosts {
		o := onPort(t)
		o.ServerName = fmt.Sprintf("server-%d", i)
		o.Cluster = server.ClusterOpts{
			Name: "hopper", Host: "127.0.0.1", Port: server.RANDOM_PORT, PoolSize: -1,
			Advertise: nowhere, // so that there are no routes but those below
		}
		c.hosts[i] = &host{t: t, opts: o, front: newProxy(t, "")}
		for k := range c.hosts {
			if i != k {
				p := newProxy(t, "")
				c.links[i][k] = p
				o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: p.ln.Addr().String()})
			}
		}
	}
	t.Cleanup(c.stop)
	return c
}

func (c *cluster) start(i int) {
	c.t.Helper()
	c.hosts[i].start()
	for k := range c.hosts {
		if k != i {
			c.links[k][i].leadTo(c.hosts[i].s.ClusterAddr().String())
		}
	}
}

// isolate cuts a server off from the other two, or no longer.
func (c *cluster) isolate(i int, on bool) {
	for k := range c.hosts {
		if k != i {
			c.links[i][k].set(on, false)
			c.links[k][i].set(on, false)
		}
	}
}

func (c *cluster) stop() {
	for _, h := range c.up() {
		h.stop()
	}
}

// up returns those whose servers have been started.
func (c *cluster) up() (all []*host) {
	for _, h := range c.hosts {
		if h.s != nil {
			all = append(all, h)
		}
	}
	return all
}

// settled waits until those servers that have been started have a leader, which
// has heard from them all, and know it.
func (c *cluster) settled() {
	c.t.Helper()
	all := c.up()
	until(c.t, "the cluster has a leader", func() bool {
		known := 0
		for _, h := range all {
			s := h.s
			if !s.ReadyForConnections(time.Second) || !s.JetStreamIsCurrent() {
				return false
			}
			if s.JetStreamIsLeader() {
				known = len(s.JetStreamClusterPeers())
			}
		}
		return known == len(all)
	})
}

func (c *cluster) url() string {
	var all []string
	for _, h := range c.up() {
		all = append(all, h.url())
	}
	return strings.Join(all, ",")
}

// create makes a stream, once all servers can be placed on.
func (c *cluster) create(js njs.JetStream, cfg njs.StreamConfig) {
	c.t.Helper()
	last := error(nil)
	defer func() { c.t.Log("the last answer:", last) }()
	until(c.t, "the stream is made", func() bool {
		_, last = js.CreateOrUpdateStream(c.t.Context(), cfg)
		return last == nil
	})
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
		return lead != "" && lead != c.hosts[former].opts.ServerName
	})
}

func (c *cluster) restart(i int, meanwhile func()) {
	c.t.Helper()
	c.hosts[i].stop()
	meanwhile()
	c.start(i)
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
		for i := range c.hosts {
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

// A cluster of which too few servers are up for the replicas is waited for.
func TestAClusterMayStartOneByOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(0)
	c.start(1)
	c.settled()
	js := connect(t, c.url())
	cfg := jetstream.Config{Replicas: 3, Lease: 10 * time.Second}

	impatient := cfg
	impatient.Wait = -1
	_, err := newStore(t, js, impatient).Open(t.Context(), label, true)
	if err == nil || !strings.Contains(err.Error(), "Config.Replicas") {
		t.Fatalf("Open with two servers for three replicas: %v, want an error that says so", err)
	}

	s := newStore(t, js, cfg)
	opened := make(chan error, 1)
	go func() {
		_, err := s.Open(t.Context(), label, true)
		opened <- err
	}()
	c.start(2)
	if err := <-opened; err != nil {
		t.Fatalf("Open while the third server starts: %v", err)
	}
	if err := s.Close(t.Context(), false, 0, 0); err != nil {
		t.Fatal(err)
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
			c.create(outside, cfg)
			lead := c.streamLeader(outside)
			home := lead
			if side == "the other side" {
				home = (lead + 1) % 3
			}

			js := connect(t, c.hosts[home].url(), nats.IgnoreDiscoveredServers())
			l := startLine(t, js, jetstream.Config{Replicas: 3, Lease: 10 * time.Second})
			l.sendAll(1000)
			l.take(200)
			c.isolate(lead, true)
			l.send(1000)
			other := connect(t, c.hosts[(lead+1)%3].url(), nats.IgnoreDiscoveredServers())
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
