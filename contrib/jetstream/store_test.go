package jetstream_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/contrib/jetstream"
	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

const streamName = "backlog"

func newStore(t testing.TB, js njs.JetStream, cfg jetstream.Config) spill.Store {
	t.Helper()
	if cfg.StreamName == "" {
		cfg.StreamName = streamName
	}
	if cfg.Lease == 0 {
		cfg.Lease = time.Second
	}
	return must[spill.Store](t)(jetstream.New(js, cfg))
}

func replaceTTL(value []byte) []byte {
	var r map[string]any
	if err := json.Unmarshal(value, &r); err != nil {
		panic(err)
	}
	r["ttl_ms"] = 1
	value, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return value
}

// medium returns a stream of a name as a medium, as js reaches it. The other
// connection is for what is done from outside.
func medium(t testing.TB, js, outside njs.JetStream, cfg jetstream.Config) storetest.Medium {
	a := admin{t, outside, cfg.StreamName}
	crash := func(s spill.Store) {
		jetstream.Die(s)
		a.expireLease()
	}
	return storetest.Medium{
		Store: func() spill.Store { return newStore(t, js, cfg) },
		Limited: func(limit int64) spill.Store {
			c := cfg
			c.MaxBytes = limit
			return newStore(t, js, c)
		},
		Crash:    crash,
		CutPower: crash, // of the store's host, not of the server
		Refuse: func(on bool) {
			a.update(func(c *njs.StreamConfig) {
				c.MaxMsgSize = -1
				if on {
					c.MaxMsgSize = 1
				}
			})
		},
		Corrupt: func(seq uint64) {
			a.rebuild(func(m *njs.RawStreamMsg) {
				if first, end, ok := items(m); ok && first <= seq && seq < end {
					storetest.FlipBit(m.Data, seq)
				}
			})
		},
		Lose: func(seq uint64) {
			for _, m := range a.messages() {
				if first, end, ok := items(m); ok && first <= seq && seq < end {
					if err := a.stream().DeleteMsg(a.ctx(), m.Sequence); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
		MakeNewer: func() {
			a.update(func(c *njs.StreamConfig) { c.Metadata = map[string]string{"hopper.version": "2"} })
		},
	}
}

func soak() bool { return os.Getenv("HOPPER_SOAK") != "" }

// numbered returns names of streams.
func numbered() func() string {
	n := 0
	return func() string {
		n++
		return fmt.Sprintf("%s-%d", streamName, n)
	}
}

func TestAStreamIsAStore(t *testing.T) {
	t.Parallel()
	s := startServer(t, inProcess(t))
	names := numbered()
	storetest.Test(t, func(t *testing.T) storetest.Medium {
		g := newGate(s)
		js := connect(t, "", nats.InProcessServer(g))
		outside := connect(t, "", nats.InProcessServer(s))
		m := medium(t, js, outside, jetstream.Config{StreamName: names()})
		m.Hang = g.hang
		return m
	})
}
