package jetstream_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"example.com/hopper"
	"example.com/hopper/contrib/jetstream"
	"example.com/hopper/spill"
)

// endsLocked checks that all calls of a store return ErrLocked.
func endsLocked(t *testing.T, s spill.Store) {
	t.Helper()
	ctx := t.Context()
	for range 2 {
		n, err := s.Append(ctx, []*spill.Batch{batch(1000, 1, 10)})
		if n != 0 || !errors.Is(err, spill.ErrLocked) {
			t.Errorf("Append: %d, %v, want ErrLocked", n, err)
		}
		_, err = s.Read(ctx, 0, spill.Position{}, make([]byte, spill.MaxChunk))
		if !errors.Is(err, spill.ErrLocked) {
			t.Errorf("Read: %v, want ErrLocked", err)
		}
		if err := s.Trim(ctx, 1000); !errors.Is(err, spill.ErrLocked) {
			t.Errorf("Trim: %v, want ErrLocked", err)
		}
		if err := s.Sync(ctx, 1000); !errors.Is(err, spill.ErrLocked) {
			t.Errorf("Sync: %v, want ErrLocked", err)
		}
	}
	if err := s.Close(ctx, true, 0, 1000); !errors.Is(err, spill.ErrLocked) {
		t.Errorf("Close: %v, want ErrLocked", err)
	}
}

// takeOver has one store hold the stream, without renewing its lease, and
// another take over.
func takeOver(t *testing.T, js njs.JetStream) (former, now spill.Store) {
	t.Helper()
	former = newStore(t, js, jetstream.Config{Lease: 200 * time.Millisecond})
	open(t, former)
	put(t, former, batch(0, 10, 100), batch(10, 10, 100))
	put(t, former, batch(20, 10, 100))
	jetstream.Freeze(former)

	now = newStore(t, js, jetstream.Config{Lease: time.Minute})
	r := open(t, now)
	if r.Next != 0 || r.End != 30 || r.Items != 30 || !r.Crashed {
		t.Fatalf("Open: found %+v, want 30 items after a crash", r)
	}
	return former, now
}

func finish(t *testing.T, s spill.Store, next, end uint64, size int) {
	t.Helper()
	expectItems(t, s, next, end, size)
	if err := s.Close(t.Context(), true, next, end); err != nil {
		t.Fatal(err)
	}
}

func TestAFormerHolderCanDoNothingAfterATakeover(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, first := range map[string]func(*testing.T, spill.Store) error{
		"append": func(t *testing.T, s spill.Store) error {
			n, err := s.Append(ctx, []*spill.Batch{batch(30, 10, 100)})
			if n != 0 {
				t.Errorf("Append after a takeover: %d are stored", n)
			}
			return err
		},
		"trim": func(_ *testing.T, s spill.Store) error { return s.Trim(ctx, 30) },
		"sync": func(_ *testing.T, s spill.Store) error { return s.Sync(ctx, 30) },
	} {
		t.Run(name, func(t *testing.T) {
			js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
			former, now := takeOver(t, js)
			if err := first(t, former); !errors.Is(err, spill.ErrLocked) {
				t.Errorf("the first call after a takeover: %v, want ErrLocked", err)
			}
			endsLocked(t, former)

			put(t, now, batch(30, 10, 100))
			finish(t, now, 0, 40, 100)
		})
	}

	t.Run("close", func(t *testing.T) {
		js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
		former, now := takeOver(t, js)
		if err := former.Close(ctx, false, 0, 0); !errors.Is(err, spill.ErrLocked) {
			t.Errorf("Close after a takeover: %v, want ErrLocked", err)
		}
		finish(t, now, 0, 30, 100)
	})
}

// A holder that is only slow goes on appending while another takes over: all
// that it is told to be stored is found.
func TestWhatASlowHolderAppendsDuringATakeoverIsFound(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	former := newStore(t, js, jetstream.Config{Lease: 200 * time.Millisecond})
	open(t, former)
	jetstream.Freeze(former)

	var appending sync.WaitGroup
	end := uint64(0)
	appending.Go(func() {
		for {
			n, err := former.Append(t.Context(), []*spill.Batch{batch(end, 5, 100), batch(end+5, 5, 100)})
			end += uint64(n) * 5
			if err != nil {
				if !errors.Is(err, spill.ErrLocked) {
					t.Errorf("Append: %v", err)
				}
				return
			}
		}
	})

	now := newStore(t, js, jetstream.Config{})
	r := open(t, now)
	appending.Wait()
	if r.End != end || r.Items != end || end == 0 {
		t.Fatalf("Open: found %+v, want the %d items whose Append has returned", r, end)
	}
	endsLocked(t, former)
	finish(t, now, 0, end, 100)
}

func TestAStoreThatIsAliveIsNotTakenOver(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	s := newStore(t, js, jetstream.Config{Lease: 900 * time.Millisecond})
	open(t, s)
	for range 2 {
		_, err := newStore(t, js, jetstream.Config{}).Open(t.Context(), label, true)
		if !errors.Is(err, spill.ErrLocked) {
			t.Errorf("Open of a stream in use: %v, want ErrLocked", err)
		}
	}
	roundTrip(t, s)
}

func TestAMessageOfSomebodyElseEndsTheStore(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	s := newStore(t, js, jetstream.Config{})
	open(t, s)
	put(t, s, batch(0, 10, 100))
	must[*njs.PubAck](t)(js.Publish(t.Context(), "hopper."+streamName, []byte("stray")))

	_, err := s.Append(t.Context(), []*spill.Batch{batch(10, 10, 100)})
	if !errors.Is(err, spill.ErrLocked) {
		t.Errorf("Append behind a message of somebody else: %v, want ErrLocked", err)
	}
	endsLocked(t, s)

	// The next store leaves it alone.
	(admin{t, js, streamName}).expireLease()
	s = newStore(t, js, jetstream.Config{})
	open(t, s)
	put(t, s, batch(10, 10, 100))
	finish(t, s, 0, 20, 100)
}

func TestSyncIsWhatTheNextOpenBeginsAt(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	s := newStore(t, js, jetstream.Config{})
	open(t, s)
	put(t, s, batch(0, 10, 100), batch(10, 10, 100))
	if err := s.Sync(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	jetstream.Die(s)
	(admin{t, js, streamName}).expireLease()

	s = newStore(t, js, jetstream.Config{})
	r := open(t, s)
	if r.Next != 7 || r.End != 20 || r.Items != 13 || !r.Crashed {
		t.Fatalf("Open after Sync(7) and a crash: found %+v, want items 7 to 20", r)
	}
	finish(t, s, 7, 20, 100)
}

// A lease that was deleted costs the knowledge of what is done, and nothing
// else.
func TestABucketThatIsGoneLosesNothing(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	s := newStore(t, js, jetstream.Config{})
	open(t, s)
	put(t, s, batch(0, 10, 100), batch(10, 10, 100))
	if err := s.Close(t.Context(), true, 5, 20); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "hopper_"+streamName); err != nil {
		t.Fatal(err)
	}

	s = newStore(t, js, jetstream.Config{})
	r := open(t, s)
	if r.Next != 0 || r.End != 20 || r.Items != 20 {
		t.Fatalf("Open without a lease: found %+v, want all 20 items", r)
	}
	finish(t, s, 0, 20, 100)
}

// copyTree copies a directory.
func copyTree(t *testing.T, to, from string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
}

// A server that has lost what it had acknowledged, as after a power cut: its
// directory is as it was some time before.
func TestWhatTheServerLosesIsReportedExactly(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	js := connect(t, h.url())
	s := newStore(t, js, jetstream.Config{Lease: time.Minute})
	open(t, s)
	put(t, s, batch(0, 10, 100))
	put(t, s, batch(10, 10, 100))

	restart := func(change func()) {
		seen := js.Conn().Stats().Reconnects
		h.stop()
		change()
		h.start()
		until(t, "the store is connected anew", func() bool {
			return js.Conn().Stats().Reconnects > seen && js.Conn().IsConnected()
		})
	}
	before := filepath.Join(t.TempDir(), "before")
	restart(func() { copyTree(t, before, h.opts.StoreDir) })
	put(t, s, batch(20, 10, 100))
	put(t, s, batch(30, 10, 100))
	restart(func() { copyTree(t, h.opts.StoreDir, before) })

	put(t, s, batch(40, 10, 100))
	lost := readItems(t, s, 0, 50, 100)
	if n := len(lost); n == 0 || lost[0].First != 20 || lost[n-1].First+lost[n-1].Items != 40 {
		t.Errorf("reported as lost: %v, want items 20 to 39", lost)
	}
	if err := s.Close(t.Context(), true, 0, 50); err == nil {
		t.Error("Close of a store of which items are gone: no error")
	}
}

// A renewal that Close interrupts may have been written: Close must not take it
// for its own.
func TestCloseInTheMiddleOfARenewalIsClean(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	for range 60 {
		s := newStore(t, js, jetstream.Config{Lease: 100 * time.Millisecond})
		open(t, s)
		put(t, s, batch(0, 10, 10))
		for range 5 {
			jetstream.RenewAndGiveUp(s)
		}
		if err := s.Close(t.Context(), true, 5, 10); err != nil {
			t.Fatal(err)
		}

		s = newStore(t, js, jetstream.Config{})
		if r := open(t, s); r.Crashed || r.Next != 5 || r.End != 10 {
			t.Fatalf("Open after a clean Close: found %+v, want items 5 to 10", r)
		}
		if err := s.Close(t.Context(), false, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// The pump of a former holder ends, and says why.
func TestAPumpEndsWhenAnotherTakesOver(t *testing.T) {
	t.Parallel()
	js := connect(t, "", nats.InProcessServer(startServer(t, inProcess(t))))
	former := newStore(t, js, jetstream.Config{Lease: 200 * time.Millisecond})
	in, out, p, err := hopper.Make[[]byte](0, hopper.WithStore(former), hopper.Resume(),
		hopper.MaxMemory(64<<10), hopper.WithLogger(testLogger(t)))
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, in: in, out: out, pump: p}
	l.sendAll(3000)
	jetstream.Freeze(former)

	now := startLine(t, js, jetstream.Config{})
	for ended := false; !ended; {
		select {
		case in <- item(l.sent, lineItem):
			l.sent++
		case <-p.Done():
			ended = true
		case <-time.After(time.Minute):
			t.Fatalf("the pump goes on after a takeover: %+v", p.Stats())
		}
	}
	if err := p.Wait(); !errors.Is(err, spill.ErrLocked) || !errors.Is(err, hopper.ErrStopped) {
		t.Errorf("Wait: %v, want ErrStopped and ErrLocked", err)
	}
	if err := p.Close(); !errors.Is(err, spill.ErrLocked) {
		t.Errorf("Close: %v, want ErrLocked", err)
	}

	// The first items were in the memory of the former, in its window.
	resumed := now.pump.Stats().Resumed
	first := <-now.out
	for now.got < 200 && !bytes.Equal(first, item(now.got, lineItem)) {
		now.got++
	}
	now.check(first, true)
	now.sent = now.got - 1 + resumed
	if resumed < 1000 {
		t.Errorf("%d items were taken over, want most of 3000", resumed)
	}
	now.drain()
}
