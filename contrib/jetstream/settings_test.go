package jetstream_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/contrib/jetstream"
	"example.com/hopper/spill"
)

const label = "storetest"

// open opens a store and closes it at the end of the test, unless the test has.
func open(t testing.TB, s spill.Store) spill.Range {
	t.Helper()
	return must[spill.Range](t)(s.Open(t.Context(), label, true))
}

// good is a stream like those that the store makes.
func good(name string) njs.StreamConfig {
	return njs.StreamConfig{
		Name: name, Subjects: []string{"hopper." + name}, Storage: njs.FileStorage, Replicas: 1,
		Retention: njs.LimitsPolicy, Discard: njs.DiscardNew, AllowDirect: true,
		MaxBytes: -1, MaxMsgs: -1, MaxConsumers: -1,
	}
}

func TestAStreamWhoseSettingsWouldLoseItemsIsRefused(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	names := numbered()

	for name, c := range map[string]struct {
		change func(*njs.StreamConfig)
		says   string // the error; empty: there is none
	}{
		"as it should be":    {func(*njs.StreamConfig) {}, ""},
		"without direct get": {func(c *njs.StreamConfig) { c.AllowDirect = false }, ""},
		"compressed":         {func(c *njs.StreamConfig) { c.Compression = njs.S2Compression }, ""},
		"with a limit":       {func(c *njs.StreamConfig) { c.MaxBytes = 100 << 20 }, ""},

		"discard old": {func(c *njs.StreamConfig) { c.Discard = njs.DiscardOld }, "--discard new"},
		"max age":     {func(c *njs.StreamConfig) { c.MaxAge = time.Hour }, "--max-age 0"},
		"max msgs":    {func(c *njs.StreamConfig) { c.MaxMsgs = 1000 }, "--max-msgs=-1"},
		"max msgs per subject": {
			func(c *njs.StreamConfig) { c.MaxMsgsPerSubject = 9 }, "--max-msgs-per-subject=-1",
		},
		"work queue": {func(c *njs.StreamConfig) { c.Retention = njs.WorkQueuePolicy }, "retention"},
		"interest":   {func(c *njs.StreamConfig) { c.Retention = njs.InterestPolicy }, "retention"},
		"another subject": {
			func(c *njs.StreamConfig) { c.Subjects = []string{"orders." + c.Name} }, "--subjects hopper.",
		},
		"more subjects": {
			func(c *njs.StreamConfig) { c.Subjects = append(c.Subjects, "orders."+c.Name) },
			"--subjects hopper.",
		},
		"memory":       {func(c *njs.StreamConfig) { c.Storage = njs.MemoryStorage }, "MemoryStorage"},
		"max msg size": {func(c *njs.StreamConfig) { c.MaxMsgSize = 1000 }, "--max-msg-size=-1"},
		"no ack":       {func(c *njs.StreamConfig) { c.NoAck = true }, "--ack"},
		"deny purge":   {func(c *njs.StreamConfig) { c.DenyPurge = true }, "deny_purge"},
		"async": {
			func(c *njs.StreamConfig) { c.PersistMode = njs.AsyncPersistMode }, "persist_mode",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good(names())
			c.change(&cfg)
			must[njs.Stream](t)(js.CreateStream(t.Context(), cfg))
			s := newStore(t, js, jetstream.Config{StreamName: cfg.Name})

			_, err := s.Open(t.Context(), label, true)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				roundTrip(t, s)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("Open: %v, want an error that says %q", err, c.says)
			}
			left := must[njs.Stream](t)(js.Stream(t.Context(), cfg.Name)).CachedInfo()
			if left.State.LastSeq != 0 {
				t.Errorf("the stream that was refused has got messages: %+v", left.State)
			}
		})
	}
}

// roundTrip stores items in a store that is open and empty, reads them and
// closes it.
func roundTrip(t testing.TB, s spill.Store) {
	t.Helper()
	var sent []*spill.Batch
	for i := range uint64(20) {
		sent = append(sent, batch(i*10, 10, 500))
	}
	put(t, s, sent...)
	expectItems(t, s, 0, 200, 500)
	if err := s.Close(t.Context(), false, 0, 0); err != nil {
		t.Fatal(err)
	}
}

func TestAConfigThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))

	for name, c := range map[string]jetstream.Config{
		"StreamName is empty": {},
		`"a.b"`:               {StreamName: "a.b"},
		"Replicas 7":          {StreamName: "a", Replicas: 7},
		"MessageSize 1000":    {StreamName: "a", MessageSize: 1000},
		"Lease 1ms":           {StreamName: "a", Lease: time.Millisecond},
		"Storage 9":           {StreamName: "a", Storage: 9},
	} {
		if _, err := jetstream.New(js, c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New: %v, want an error that says %q", err, name)
		}
	}
	if _, err := jetstream.New(nil, jetstream.Config{StreamName: "a"}); err == nil {
		t.Error("New(nil): no error")
	}
}

func TestTheStreamIsMadeSoThatNothingIsLost(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	s := newStore(t, js, jetstream.Config{MaxBytes: 1 << 30})
	open(t, s)

	c := must[njs.Stream](t)(js.Stream(t.Context(), streamName)).CachedInfo().Config
	if c.Discard != njs.DiscardNew || c.Retention != njs.LimitsPolicy || !c.AllowDirect ||
		c.Storage != njs.FileStorage || c.MaxBytes < 1<<30 || c.MaxAge != 0 {
		t.Errorf("the stream is made as %+v", c)
	}
	if u := s.Usage(); u.Limit != 1<<30 {
		t.Errorf("Usage: %+v, want a limit of 1 GiB", u)
	}
	if err := s.Close(t.Context(), true, 0, 0); err != nil {
		t.Fatal(err)
	}

	// A higher limit is taken over, so that it is of use; a lower one is not,
	// as the server would delete messages to reach it.
	for _, max := range []int64{2 << 30, 1 << 20} {
		s = newStore(t, js, jetstream.Config{MaxBytes: max})
		open(t, s)
		c = must[njs.Stream](t)(js.Stream(t.Context(), streamName)).CachedInfo().Config
		if c.MaxBytes < 2<<30 || s.Usage().Limit != max {
			t.Errorf("MaxBytes %d: max_bytes is %d, Usage %+v", max, c.MaxBytes, s.Usage())
		}
		if err := s.Close(t.Context(), true, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMessagesAreNoLargerThanTheServerTakes(t *testing.T) {
	t.Parallel()
	for _, most := range []int32{80 << 10, 128 << 10, 1 << 20} {
		opts := inProcess(t)
		opts.MaxPayload = most
		js := connect(t, "", nats.InProcessServer(startServer(t, opts)))
		s := newStore(t, js, jetstream.Config{})
		open(t, s)

		put(t, s, batch(0, 1, 3<<20), batch(1, 100, 500), batch(101, 1, 64<<10), batch(102, 1, 200<<10))
		put(t, s, batch(103, 100, 600), batch(203, 100, 600), batch(303, 100, 600), batch(403, 100, 600))
		expectItems(t, s, 0, 1, 3<<20)
		expectItems(t, s, 1, 101, 500)
		expectItems(t, s, 103, 503, 600)
		for _, m := range (admin{t, js, streamName}).messages() {
			if len(m.Data) > int(most) {
				t.Errorf("max_payload %d: a message of %d bytes", most, len(m.Data))
			}
		}
		if err := s.Close(t.Context(), true, 0, 503); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAServerThatTakesOnlySmallMessagesIsNamed(t *testing.T) {
	t.Parallel()
	opts := inProcess(t)
	opts.MaxPayload = 32 << 10
	js := connect(t, "", nats.InProcessServer(startServer(t, opts)))
	_, err := newStore(t, js, jetstream.Config{}).Open(t.Context(), label, true)
	if err == nil || !strings.Contains(err.Error(), "raise max_payload") {
		t.Errorf("Open: %v, want an error that says what to do", err)
	}
}

func TestAFullAccountIsALimit(t *testing.T) {
	t.Parallel()
	opts := inProcess(t)
	opts.JetStreamMaxStore = 12 << 20
	opts.JetStreamMaxMemory = 1 << 20
	js := connect(t, "", nats.InProcessServer(startServer(t, opts)))
	s := newStore(t, js, jetstream.Config{})
	open(t, s)

	var end uint64
	var err error
	for end < 200 && err == nil {
		var n int
		n, err = s.Append(t.Context(), []*spill.Batch{batch(end, 1, 1<<20)})
		end += uint64(n)
	}
	if !errors.Is(err, spill.ErrFull) || end < 4 {
		t.Fatalf("after %d MiB of 12: %v, want an error that matches ErrFull", end, err)
	}

	if err := s.Trim(t.Context(), end/2); err != nil {
		t.Fatal(err)
	}
	put(t, s, batch(end, 1, 1<<20))
	expectItems(t, s, end/2, end+1, 1<<20)
	if err := s.Close(t.Context(), true, end/2, end+1); err != nil {
		t.Fatal(err)
	}
}
