package spill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // the logs of the tests are many and short-lived
	os.Exit(m.Run())
}

// A rig is a log on a store in memory, and its user, who appends items that
// look like no other and checks those that come. It lives in a bubble.
type rig struct {
	t    testing.TB
	m    *storetest.Memory
	cfg  spill.Config
	log  *spill.Log
	wake chan struct{}
	said bytes.Buffer // what the log has logged

	size   func(seq uint64) int // of items
	sent   uint64               // number of the next item to be appended
	got    uint64               // of the next item to be handed out
	cursor *spill.Cursor        // that has the next item, or nil
	lost   []*spill.CorruptError
}

// sized makes all items that large.
func sized(n int) func(uint64) int { return func(uint64) int { return n } }

// fullRun is the size of an item that fills a chunk, alone and exactly.
const fullRun = spill.MaxFrames - 3

// inBubble runs a test with a log that keeps its items, in a bubble. That the
// log's goroutines have come to an end is checked at the end.
func inBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	inBubbleWith(t, spill.Config{Keep: true}, test)
}

func inBubbleWith(t *testing.T, cfg spill.Config, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(10 * time.Second) }) // until all have given up
		r := newRig(t, cfg, storetest.NewMemory())
		r.open()
		test(t, r)
	})
}

// inBubbleOn is for a store that stands in front of the one in memory.
func inBubbleOn(
	t *testing.T, cfg spill.Config, store func(m *storetest.Memory) spill.Store,
	test func(t *testing.T, r *rig),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(10 * time.Second) })
		m := storetest.NewMemory()
		cfg.Store = store(m)
		r := newRig(t, cfg, m)
		r.open()
		r.cfg.Store = nil
		test(t, r)
	})
}

func newRig(t testing.TB, cfg spill.Config, m *storetest.Memory) *rig {
	r := &rig{t: t, m: m, cfg: cfg, size: sized(1000), wake: make(chan struct{}, 1)}
	r.cfg.Wake = r.wake
	if r.cfg.Label == "" {
		r.cfg.Label = "test"
	}
	r.cfg.Logger = slog.New(slog.NewTextHandler(&r.said,
		&slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Cleanup(r.abandon)
	return r
}

// open opens the log on a new store of the medium, or on that of the
// configuration.
func (r *rig) open() spill.Range {
	r.t.Helper()
	cfg := r.cfg
	if cfg.Store == nil {
		cfg.Store = r.m.Store()
	}
	log, found, err := spill.Open(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatalf("Open: %v", err)
	}

	r.log, r.cursor = log, nil
	r.got, r.sent = found.Next, found.End
	return found
}

// abandon ends the log of a test that has not closed it.
func (r *rig) abandon() {
	if r.log == nil {
		return
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	r.log.Close(ended, r.got)
}

var noise = func() []byte {
	b := make([]byte, 1<<21)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	copy(b[1<<20:], bytes.Repeat([]byte("compressible "), 1<<20/13))
	return b
}()

// item returns the item of a number.
func item(seq uint64, size int) []byte {
	at := int(seq*7919) % (len(noise) - size)
	b := fmt.Appendf(nil, "%d:", seq)
	return append(b, noise[at:at+size]...)[:max(size, 0)]
}

// append appends the next item.
func (r *rig) append() {
	b := r.log.Begin(r.sent)
	r.log.Commit(append(b, item(r.sent, r.size(r.sent))...))
	r.sent++
}

// send appends n items, and lets the log do what it has to.
func (r *rig) send(n int) {
	for range n {
		r.append()
	}
	synctest.Wait()
}

// fill appends items until the log takes no more, however long it is given.
func (r *rig) fill() {
	r.t.Helper()
	for r.log.Room(0) {
		if r.sent > 1<<20 {
			r.t.Fatal("the log always has room")
		}
		for r.log.Room(0) {
			r.append()
		}
		synctest.Wait()
	}
}

// take takes up to n items that are at hand, and returns how many. It asks for
// more only when it has been woken.
func (r *rig) take(n int) (taken int) {
	r.t.Helper()
	for taken < n {
		if r.cursor != nil && r.cursor.Left > 0 {
			r.check()
			taken++
			continue
		}
		if r.next() {
			continue
		}

		synctest.Wait()
		select {
		case <-r.wake:
		default:
			return taken
		}
	}
	return taken
}

// next gets a cursor, and reports whether there is one.
func (r *rig) next() bool {
	r.t.Helper()
	c, lost := r.log.Next(r.got, r.got)
	r.cursor = c
	if lost != nil {
		if lost.First != r.got || c != nil {
			r.t.Fatalf("%v, but item %d is to come", lost, r.got)
		}
		r.lost = append(r.lost, lost)
		r.got = lost.First + lost.Items
		return true
	}
	if c == nil {
		return false
	}

	if c.Seq != r.got || c.Left == 0 {
		r.t.Fatalf("the log goes on with %d items from %d, want %d", c.Left, c.Seq, r.got)
	}
	return true
}

// check checks the cursor's item, and goes on to the next.
func (r *rig) check() {
	r.t.Helper()
	b, parked := r.cursor.Item()
	if r.cursor.Seq != r.got {
		r.t.Fatalf("the cursor is at item %d, want %d", r.cursor.Seq, r.got)
	}
	if want := item(r.got, r.size(r.got)); parked || !bytes.Equal(b, want) {
		r.t.Fatalf("item %d has %d bytes, %.40q, want %d, %.40q", r.got, len(b), b, len(want), want)
	}
	r.cursor.Advance()
	r.got++
}

// takeAll takes everything that was appended. Whenever there is nothing at hand
// it waits until it is woken.
func (r *rig) takeAll() {
	r.t.Helper()
	for idle := 0; r.got < r.sent; {
		if r.take(1<<20) > 0 {
			idle = 0
			continue
		}

		<-r.wake
		if r.log.RestDue() {
			if idle++; idle > 3 {
				r.t.Fatalf("the log does not say when item %d is at hand", r.got)
			}
		}
	}
	r.log.Ack(r.got)
	synctest.Wait()
}

// close closes the log, which is to have nothing to say.
func (r *rig) close() {
	r.t.Helper()
	left := r.log.Close(r.t.Context(), r.got)
	r.log = nil
	if diff := cmp.Diff(spill.Left{}, left); diff != "" {
		r.t.Fatalf("Close (-want +got):\n%s", diff)
	}
}

// reopen closes the log and opens it again: just what was left comes back.
func (r *rig) reopen() {
	r.t.Helper()
	got, sent := r.got, r.sent
	r.close()
	found := r.open()
	if found.Crashed || found.Items != sent-got || found.Items > 0 &&
		(found.Next != got || found.End != sent) {
		r.t.Fatalf("Open found %+v, want items %d to %d", found, got, sent)
	}
	r.got, r.sent = got, sent
}

// held returns what the log has in memory.
func (r *rig) held() spill.Held {
	r.t.Helper()
	h, err := r.log.Held()
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// calls checks how often a method of the store was called.
func (r *rig) calls(c storetest.Call, want int) {
	r.t.Helper()
	if got := r.m.Calls(c); got != want {
		r.t.Errorf("%d calls of %v, want %d", got, c, want)
	}
}

// woken reports whether the log has woken its user.
func (r *rig) woken() bool {
	synctest.Wait()
	select {
	case <-r.wake:
		return true
	default:
		return false
	}
}

// sleep lets some time pass, and then the log do what it has to.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestANextItemComesFromMemoryWithoutAWrite(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 60_000, 70_000, 200_000} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.size = sized(size)
				for range 100 {
					r.send(1)
					r.take(1)
					if r.got != r.sent {
						t.Fatalf("item %d is not at hand", r.got)
					}
					r.log.Ack(r.got)
				}

				r.calls(storetest.Append, 0)
				r.calls(storetest.Read, 0)
				if c := r.cursor; c.Path != "" || c.Offset != 0 || !c.Stored.IsZero() {
					t.Errorf("an item that never left memory is said to be at %s:%d since %v",
						c.Path, c.Offset, c.Stored)
				}
				r.close()
			})
		})
	}
}

func TestNothingIsWrittenWhileLittleWaitsAndTheReaderKeepsUp(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for range 50 {
			r.send(230) // some 230 KB
			r.take(1000)
		}
		r.takeAll()
		r.calls(storetest.Append, 0)
		r.close()
	})
}

// Three full runs are little. With a fourth they are packed, but for the
// youngest, which may still be read from memory.
func TestWhatWaitsIsWrittenButForAReserve(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		defer r.m.Hang(storetest.Append)()
		r.size = sized(fullRun)
		r.send(4) // the last is the tail
		r.calls(storetest.Append, 0)
		if diff := cmp.Diff(spill.Held{Runs: 3 * spill.BufSize}, r.held()); diff != "" {
			t.Errorf("in memory with 3 runs (-want +got):\n%s", diff)
		}

		r.send(1)
		r.calls(storetest.Append, 1)
		want := spill.Held{Runs: 4 * spill.BufSize, Chunks: 3 * spill.BufSize}
		if diff := cmp.Diff(want, r.held()); diff != "" {
			t.Errorf("in memory with 4 runs (-want +got):\n%s", diff)
		}
	})
}

// The reserve is what is not packed: two runs of half of it.
func TestTheReserveIsNotWritten(t *testing.T) {
	for _, tt := range []struct{ size, want int }{
		{spill.Reserve/2 - spill.FramesAt - 3, 2},
		{spill.Reserve/2 - spill.FramesAt - 2, 1},
	} {
		inBubble(t, func(t *testing.T, r *rig) {
			defer r.m.Hang(storetest.Append)()
			r.size = sized(tt.size)
			r.send(5) // the last is the tail
			if h := r.held(); h.Chunks != (4-tt.want)*spill.BufSize {
				t.Errorf("runs of %d bytes: in memory %+v, want %d that are not packed", tt.size,
					h, tt.want)
			}
		})
	}
}

func TestItemsComeFromTheStoreInOrder(t *testing.T) {
	for _, size := range []int{0, 1, 100, 1000, 65_508, 65_509, 65_510, 65_512, 65_513, 200_000,
		1 << 20} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.size = func(seq uint64) int {
					if seq%17 == 3 {
						return size
					}
					return 2000
				}
				r.send(300)
				if r.m.Calls(storetest.Append) == 0 {
					t.Fatal("nothing was written")
				}
				r.takeAll()
				if u := r.log.Usage(); u.Bytes != 0 || u.Segments != 0 {
					t.Errorf("with everything delivered the store takes %+v", u)
				}
				r.close()
			})
		})
	}
}

func TestItemsKeepTheirOrderThroughMemoryAndStore(t *testing.T) {
	for _, latency := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond,
		time.Second} {
		t.Run(latency.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				rnd := rand.New(rand.NewPCG(1, 2))
				r.m.SetLatency(latency)
				r.size = func(seq uint64) int {
					if seq%97 == 0 {
						return 100_000
					}
					return int(seq*31) % 4000
				}

				for range 300 {
					for range rnd.IntN(60) {
						if r.log.Room(0) {
							r.append()
						}
					}
					r.take(rnd.IntN(60))
					if rnd.IntN(3) == 0 {
						time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
					}
					r.held()
				}

				r.takeAll()
				r.close()
			})
		})
	}
}

func TestACursorSaysWhereAndWhenItsItemWasStored(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(1000)
		stored := time.Now()
		sleep(time.Hour)
		r.takeAll()
		r.send(1000)
		r.take(1)

		c := r.cursor
		if c.Path == "" || time.Since(c.Stored) > 0 {
			t.Errorf("item %d was stored in %q at %v", c.Seq, c.Path, c.Stored)
		}
		if stored.After(c.Stored) {
			t.Errorf("item %d was stored at %v", c.Seq, c.Stored)
		}

		why := errors.New("not understood")
		want := spill.CorruptError{Path: c.Path, Offset: c.Offset, First: c.Seq, Items: 1, Err: why}
		if got := *c.Corrupt(why); got != want {
			t.Errorf("Corrupt: %+v, want %+v", got, want)
		}
	})
}

func TestAParkedItemKeepsItsPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		parked := func(seq uint64) bool { return seq%3 == 1 }
		const n = 6000
		for seq := range uint64(n) {
			b := r.log.Begin(seq)
			if parked(seq) {
				r.log.Park() // though half of it may have been encoded
				continue
			}
			r.log.Commit(append(b, item(seq, int(seq%300))...))
		}
		synctest.Wait()
		if r.m.Calls(storetest.Append) == 0 {
			t.Fatal("nothing was written")
		}

		for seq := uint64(0); seq < n; {
			c, lost := r.log.Next(seq, seq)
			if lost != nil {
				t.Fatal(lost)
			}
			if c == nil {
				<-r.wake
				continue
			}
			for ; c.Left > 0; c.Advance() {
				b, p := c.Item()
				if c.Seq != seq || p != parked(seq) || !p &&
					!bytes.Equal(b, item(seq, int(seq%300))) || p && len(b) > 0 {
					t.Fatalf("item %d where %d is to come: parked %v, %d bytes", c.Seq, seq, p,
						len(b))
				}
				seq++
			}
		}
		r.got = n
		r.close()
	})
}

// The length of a frame takes what that of the one before has taken, or is
// moved.
func TestFramesOfChangingLengthsFollowEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		sizes := []int{0, 127, 128, 0, 16_383, 16_384, 5, 16_384, 127, 128, 1, 40_000, 0, 30_000,
			65_509, 0, 70_000, 1}
		r.size = func(seq uint64) int { return sizes[int(seq)%len(sizes)] }
		for range 40 {
			r.send(len(sizes))
			r.take(len(sizes) - 3)
		}
		r.takeAll()
		r.close()
	})
}

// Eight frames fill a run exactly; a ninth begins another.
func TestRunsAreFilledToTheLastByte(t *testing.T) {
	for _, tt := range []struct{ size, want int }{
		{spill.MaxFrames/8 - 2, 8},
		{spill.MaxFrames/8 - 1, 7},
		{spill.MaxFrames/8 - 3, 8},
	} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.size = sized(tt.size)
			r.send(20)
			for range 2 {
				if !r.next() || r.cursor.Left != tt.want {
					t.Fatalf("items of %d bytes: a run has %d, want %d", tt.size, r.cursor.Left,
						tt.want)
				}
				r.take(tt.want)
			}
			r.takeAll()
			r.close()
		})
	}
}

func TestALargeItemIsARunOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.size = func(seq uint64) int { return []int{70_000, 70_000, 10, 70_000, 10, 10}[seq] }
		r.send(6)
		if h := r.held(); h.Runs != 4*spill.BufSize {
			t.Errorf("in memory: %+v, want three large runs and a small one", h)
		}
		var got []int
		for r.got < r.sent && r.next() {
			got = append(got, r.cursor.Left)
			r.take(r.cursor.Left)
		}
		if diff := cmp.Diff([]int{1, 1, 1, 1, 2}, got); diff != "" {
			t.Errorf("items of the runs (-want +got):\n%s", diff)
		}
		r.close()
	})
}

// A codec may return another array than the one it was given.
func TestTheEncodingMayStandInAnotherArray(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for r.sent < 2000 {
			b := r.log.Begin(r.sent)
			if r.sent%100 == 7 {
				b = append(make([]byte, 0, cap(b)+100), b...)
			}
			r.log.Commit(append(b, item(r.sent, r.size(r.sent))...))
			r.sent++
		}
		r.takeAll()
		r.close()
	})
}

func TestAnEncodingThatIsGivenUpLeavesNothingBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for range 2000 {
			_ = append(r.log.Begin(r.sent), "and then it panics"...)
			r.append()
		}
		r.takeAll()
		r.close()
	})
}

func TestSkippedNumbersAreNoLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for range 20 {
			r.send(200)
			r.takeAll()
			r.sent, r.got = r.sent+5, r.got+5 // they go past the log
		}

		r.send(800)
		r.takeAll()
		r.sent, r.got = r.sent+5, r.got+5
		r.send(800)
		r.reopen()
		r.takeAll()
		r.close()
		if len(r.lost) > 0 {
			t.Errorf("lost: %v", r.lost)
		}
	})
}

func TestALossIsReportedExactlyAndOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.size = sized(fullRun)
		r.send(40)
		r.reopen()
		r.m.Corrupt(17)
		r.m.Corrupt(25)
		r.takeAll()

		var got []string
		for _, e := range r.lost {
			got = append(got, fmt.Sprint(e.First, " ", e.Items, " ", e.Err, " ", e.Path != ""))
		}
		want := []string{"17 1 checksum mismatch true", "25 1 checksum mismatch true"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("losses (-want +got):\n%s", diff)
		}
		r.close()
	})
}

func TestLittleIsReadAheadUntilTheFirstIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.size = sized(fullRun)
		r.send(40)
		r.reopen()
		if h := r.held(); h.Ahead != 0 {
			t.Errorf("read ahead before anybody has asked: %+v", h)
		}

		r.next()
		for range 2 { // after it has caught up it begins anew
			synctest.Wait()
			if h := r.held(); h.Ahead != spill.BufSize {
				t.Errorf("read ahead of a user that takes nothing: %+v, want one run", h)
			}

			r.take(1)
			synctest.Wait()
			if h := r.held(); h.Ahead < 3*spill.BufSize ||
				h.Ahead > spill.ReadyLimit/65536*spill.BufSize {
				t.Errorf("read ahead of a user that takes some: %+v", h)
			}
			r.takeAll()
			r.send(40)
		}
		r.takeAll()
		r.close()
	})
}

// A user who is faster than the store, and has to wait for it, still takes
// much.
func TestAUserWhoHasToWaitIsReadAheadTo(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.size = sized(fullRun)
		r.send(40)
		r.reopen()
		r.take(1)
		synctest.Wait()
		ahead := r.held().Ahead

		r.m.Fail(storetest.Read, 1, errors.New("no descriptors"))
		for r.take(1) > 0 {
		}
		if h := r.held(); h.Ahead != 0 {
			t.Fatalf("read ahead while the store can't be read: %+v", h)
		}
		sleep(spill.ReadRetry)
		if h := r.held(); h.Ahead != ahead {
			t.Errorf("read ahead once it can: %d bytes, want %d as before", h.Ahead, ahead)
		}
		r.takeAll()
		r.close()
	})
}

func TestShortRunsCountAsLongOnesWhenTheyAreReadAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for range 50 {
			r.send(1)
			r.reopen()
		}
		r.take(1)
		synctest.Wait()
		if h := r.held(); h.Ahead > spill.ReadyLimit/65536*spill.BufSize {
			t.Errorf("read ahead: %+v", h)
		}
		r.takeAll()
		r.close()
	})
}

func TestReadingGoesOnAfterAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(2000)
		r.reopen()
		r.m.Fail(storetest.Read, 5, errors.New("no descriptors"))
		before := r.m.Calls(storetest.Read)

		r.take(1)
		if n := r.m.Calls(storetest.Read) - before; n != 1 {
			t.Errorf("%d Reads at once, want 1", n)
		}
		sleep(3 * spill.ReadRetry)
		if n := r.m.Calls(storetest.Read) - before; n != 4 {
			t.Errorf("%d Reads after three pauses, want 4", n)
		}

		r.takeAll()
		if n := strings.Count(r.said.String(), "no descriptors"); n != 1 {
			t.Errorf("said %d times, want once:\n%s", n, &r.said)
		}
		r.close()
	})
}

func TestAFullStoreIsARefusalUntilThereIsRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.close()
		r.m.SetLimit(1 << 20)
		r.open()

		r.fill()
		if err := r.log.Refusal(0); !errors.Is(err, spill.ErrFull) {
			t.Errorf("Refusal: %v, want ErrFull", err)
		}
		// What is in memory would still fit: a stop keeps everything.
		if u := r.log.Usage(); u.Bytes > u.Limit {
			t.Errorf("the store takes %+v", u)
		}

		r.woken()
		r.got = r.sent * 2 / 3
		r.log.Ack(r.got)
		if !r.woken() || !r.log.Room(0) || r.log.Refusal(0) != nil {
			t.Errorf("with room again: Room %v, Refusal %v", r.log.Room(0), r.log.Refusal(0))
		}

		r.fill()
		r.reopen()
		if u := r.log.Usage(); u.Bytes > u.Limit {
			t.Errorf("after Close the store takes %+v", u)
		}
		r.takeAll()
		r.close()
	})
}

// What the caller has not appended yet is to have room too.
func TestRoomCountsWhatTheCallerWouldAppendAtTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		const limit = 200_000
		r.close()
		r.m.SetLimit(limit)
		r.open()

		most := int64(limit - spill.Overhead)
		for _, tail := range []int{0, 1, 1} {
			r.send(tail)
			used := most
			if r.sent > 0 {
				used -= int64(spill.FramesAt) + int64(r.sent)*1002
			}
			if !r.log.Room(used) || r.log.Refusal(used) != nil {
				t.Errorf("%d items, %d bytes held: no room", r.sent, used)
			}
			if r.log.Room(used+1) || r.log.Refusal(used+1) != spill.ErrFull {
				t.Errorf("%d items, %d bytes held: there is room", r.sent, used+1)
			}
		}
		r.takeAll()
		r.close()
	})
}

func TestAStoreThatTakesNothingHasNoRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.close()
		r.m.SetLimit(0)
		r.open()
		if r.log.Room(0) || r.log.Refusal(0) != spill.ErrFull {
			t.Errorf("Room %v, Refusal %v, want ErrFull", r.log.Room(0), r.log.Refusal(0))
		}
	})
}

func TestALogThatIsNotKeptMayFillMemoryBesidesItsStore(t *testing.T) {
	inBubbleWith(t, spill.Config{}, func(t *testing.T, r *rig) {
		r.close()
		r.m.SetLimit(0)
		r.open()

		r.fill()
		if h := r.held(); h.Runs < spill.MemLimit {
			t.Errorf("in memory: %+v", h)
		}
		if err := r.log.Refusal(1 << 40); !errors.Is(err, spill.ErrFull) {
			t.Errorf("Refusal: %v, want ErrFull", err)
		}

		r.takeAll()
		if !r.log.Room(1 << 40) {
			t.Error("no room in an empty log")
		}
		r.close()
	})
}

func TestARefusalEndsWhenTheStoreTakesItemsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		full := errors.New("no space left on device")
		r.m.Fail(storetest.Append, 1<<30, full)
		r.fill()
		if err := r.log.Refusal(0); err != full {
			t.Errorf("Refusal: %v, want %v", err, full)
		}
		sleep(time.Hour) // it is asked again, but at most once a second
		if n := r.m.Calls(storetest.Append); n < 3600 || n > 3700 {
			t.Errorf("%d writes in an hour", n)
		}
		if n := strings.Count(r.said.String(), "no space left"); n != 1 {
			t.Errorf("said %d times, want once:\n%s", n, &r.said)
		}

		r.woken()
		r.m.Fail(storetest.Append, 0, nil)
		sleep(2 * spill.RetryMax)
		if !r.woken() || !r.log.Room(0) || r.log.Refusal(0) != nil {
			t.Errorf("Room %v, Refusal %v", r.log.Room(0), r.log.Refusal(0))
		}
		if n := strings.Count(r.said.String(), "takes items again"); n != 1 {
			t.Errorf("said %d times, want once:\n%s", n, &r.said)
		}
		r.takeAll()
		r.close()
	})
}

func TestTheSameRefusalIsSaidOnceAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		said := func() int { return strings.Count(r.said.String(), "refuses items") }
		for _, tt := range []struct {
			after time.Duration
			err   string
			want  int
		}{
			{0, "full", 1},
			{30 * time.Second, "full", 1},
			{0, "broken", 2},
			{10 * time.Second, "full", 3},
			{59 * time.Second, "full", 3},
			{2 * time.Minute, "full", 4},
		} {
			sleep(tt.after)
			r.m.Fail(storetest.Append, 1, errors.New(tt.err))
			r.send(600)
			sleep(time.Second)
			r.takeAll()
			if got := said(); got != tt.want {
				t.Errorf("%v later, %q: said %d times, want %d", tt.after, tt.err, got, tt.want)
			}
		}
		r.close()
	})
}

// The first pauses are short, each is twice as long as the one before, and
// after a success they begin anew.
func TestAStoreThatRefusesIsAskedAgainAfterGrowingPauses(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for range 2 {
			sleep(2 * spill.RetryMax) // what a refusal has left is deleted by then
			r.m.Fail(storetest.Append, 6, errors.New("not now"))
			before := r.m.Calls(storetest.Append)
			r.send(600)

			pause, at := spill.RetryMin, 1
			for range 6 {
				if n := r.m.Calls(storetest.Append) - before; n != at {
					t.Fatalf("%d writes before the pause of %v, want %d", n, pause, at)
				}
				sleep(pause - 1)
				if n := r.m.Calls(storetest.Append) - before; n != at {
					t.Fatalf("%d writes in the pause of %v, want %d", n, pause, at)
				}
				sleep(1)
				pause, at = 2*pause, at+1
			}
			if err := r.log.Refusal(0); err != nil {
				t.Errorf("Refusal: %v", err)
			}
			r.takeAll()
		}
		r.close()
	})
}

func TestAStoreThatHangsIsARefusalAfterASecond(t *testing.T) {
	for _, c := range []storetest.Call{storetest.Append, storetest.Trim} {
		t.Run(c.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				resume := r.m.Hang(c)
				r.fill()
				began := time.Now()

				sleep(spill.HungAfter - 1)
				if err := r.log.Refusal(0); err != nil || r.log.Room(0) {
					t.Errorf("Refusal after less than a second: %v", err)
				}
				sleep(1)
				if err := r.log.Refusal(0); err != spill.ErrHung {
					t.Errorf("Refusal after a second: %v", err)
				}

				for r.woken() {
				}
				for !r.woken() { // and says so
					sleep(100 * time.Millisecond)
				}
				if d := time.Since(began); d > 2*time.Second {
					t.Errorf("the user was woken after %v", d)
				}

				h := r.held()
				r.takeAll()
				if r.held().Runs > 0 {
					t.Errorf("what a hung store holds up is not delivered: %+v, then %+v", h,
						r.held())
				}
				resume()
				synctest.Wait()
				if err := r.log.Refusal(0); err != nil || !r.log.Room(0) {
					t.Errorf("Refusal of a store that answers: %v", err)
				}
				r.close()
			})
		})
	}
}

func TestASlowStoreIsNoRefusal(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.m.SetLatency(spill.HungAfter - time.Millisecond)
		r.fill()
		for range 5000 {
			if err := r.log.Refusal(0); err != nil {
				t.Fatalf("Refusal: %v", err)
			}
			for r.log.Room(0) {
				r.append()
			}
			sleep(10 * time.Millisecond)
		}
		r.takeAll()
		r.close()
	})
}

// With a store that is a long way off several runs are under way at once.
func TestAppendsToASlowStoreOverlap(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.m.SetLatency(50 * time.Millisecond)
		r.size = sized(fullRun)
		start := time.Now()
		for r.sent < 400 {
			for r.log.Room(0) {
				r.append()
			}
			<-r.wake
		}
		if d, most := time.Since(start), 400*50*time.Millisecond*2/3; d > most {
			t.Errorf("400 runs took %v, want less than %v", d, most)
		}
	})
}

func TestLargeItemsAreTakenInTheirTurnUnderRefusal(t *testing.T) {
	for _, size := range []int{spill.MaxFrames + 1, spill.Reserve, spill.MemLimit - 1,
		spill.MemLimit, 3 << 20} {
		for _, keep := range []bool{true, false} {
			t.Run(fmt.Sprint(size, " bytes, keep ", keep), func(t *testing.T) {
				inBubbleWith(t, spill.Config{Keep: keep}, func(t *testing.T, r *rig) {
					r.size = func(seq uint64) int {
						if seq%5 == 2 {
							return min(size, 2_000_000)
						}
						return 1000
					}
					r.m.Fail(storetest.Append, 20, errors.New("full"))
					for range 200 {
						for range 3 {
							if r.log.Room(0) {
								r.append()
							}
						}
						sleep(10 * time.Millisecond)
						r.take(1)
					}
					r.takeAll()
					r.close()
				})
			})
		}
	}
}

// Items may be handed out long before they are done.
func TestItemsAreHandedOutOnceThoughTheyAreNotDone(t *testing.T) {
	for _, n := range []uint64{50, 100, 2000} {
		t.Run(fmt.Sprint(n, " items"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.send(int(n))
				for seq := uint64(0); seq < n; {
					c, lost := r.log.Next(0, 0)
					if lost != nil {
						t.Fatal(lost)
					}
					if c == nil {
						<-r.wake
						if r.log.RestDue() {
							t.Fatalf("the log does not say when item %d is at hand", seq)
						}
						continue
					}
					if c.Seq != seq || c.Left == 0 {
						t.Fatalf("the log goes on with %d items from %d, want %d", c.Left, c.Seq, seq)
					}
					seq += uint64(c.Left)
				}
				if c, lost := r.log.Next(0, 0); c != nil || lost != nil {
					t.Errorf("more is handed out: %+v, %v", c, lost)
				}

				r.reopen() // they all come again
				r.takeAll()
				r.close()
			})
		})
	}
}

func TestAckDropsRunsThatWereNotWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.m.Fail(storetest.Append, 1, errors.New("full"))
		r.size = sized(fullRun)
		r.send(7)
		if n := r.m.Calls(storetest.Append); n != 1 {
			t.Fatalf("%d writes, want 1", n)
		}

		for r.got < 7 { // the last of them is the tail
			r.take(1)
			r.log.Ack(r.got)
			if h := r.held(); h.Runs != int(max(6, r.got)-r.got)*spill.BufSize && r.got < 7 {
				t.Errorf("%d items are done, in memory: %+v", r.got, h)
			}
		}
		sleep(time.Minute)
		r.calls(storetest.Append, 1)
		r.calls(storetest.Read, 0)
		r.close()
	})
}

// The user learns that there is room when there is, and not before.
func TestAckMakesRoomWhereMemoryWasFull(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		defer r.m.Hang(storetest.Append)()
		r.size = sized(spill.MemLimit/8 - spill.FramesAt - 3)
		r.send(10) // nine runs, and a tail
		for r.woken() {
		}

		for _, tt := range []struct {
			acked       uint64
			woken, room bool
		}{{1, false, false}, {2, true, true}, {3, false, true}} {
			r.log.Ack(tt.acked)
			if woken, room := r.woken(), r.log.Room(0); woken != tt.woken || room != tt.room {
				t.Errorf("%d runs are done: woken %v, room %v, want %v, %v",
					tt.acked, woken, room, tt.woken, tt.room)
			}
		}
		r.got = 3
	})
}

func TestBuffersAreUsedAgain(t *testing.T) {
	for name, use := range map[string]func(r *rig){
		"in memory":         func(r *rig) { r.send(1); r.take(1); r.log.Ack(r.got) },
		"through the store": func(r *rig) { r.send(20); r.takeAll() },
		"refused": func(r *rig) {
			r.m.Fail(storetest.Append, 1, errors.New("full"))
			r.send(8)
			r.takeAll()
		},
		"at rest": func(r *rig) { r.send(2); r.rest(); r.takeAll() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				defer debug.SetGCPercent(debug.SetGCPercent(-1))
				r.size = sized(fullRun)
				made := spill.NewBuffers()
				for r.sent < 300 {
					use(r)
				}
				if n := made(); n >= int64(r.sent) { // the race detector has the pool drop some
					t.Errorf("%d buffers were made for %d runs", n, r.sent)
				}
				r.close()
			})
		})
	}
}

func TestAckOfAPartOfARunKeepsIt(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(50)
		r.take(20)
		r.log.Ack(20)
		r.log.Ack(10) // is nothing new
		r.log.Ack(0)
		r.take(5)
		r.reopen()
		r.takeAll()
		r.close()
	})
}

func TestAckGivesSpaceBackAsSoonAsThereIsSome(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.size = sized(fullRun)
		r.send(30)
		for r.got < 30 {
			r.take(1)
			r.log.Ack(r.got)
			before, trims := r.log.Usage(), r.m.Calls(storetest.Trim)
			synctest.Wait()
			after := r.log.Usage()
			if r.got < before.TrimAt && r.m.Calls(storetest.Trim) != trims {
				t.Errorf("Trim of the items below %d, though it frees nothing before %d", r.got,
					before.TrimAt)
			}
			if after.TrimAt <= r.got {
				t.Errorf("the items below %d are done, and the store takes %+v", r.got, after)
			}
		}
		if u := r.log.Usage(); u.Bytes != 0 {
			t.Errorf("with everything done the store takes %+v", u)
		}
		r.close()
	})
}

func TestATrimThatFailsIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(1000)
		r.m.Fail(storetest.Trim, 3, errors.New("busy"))
		before := r.m.Calls(storetest.Trim)
		r.takeAll()
		if u := r.log.Usage(); u.Bytes == 0 || r.m.Calls(storetest.Trim)-before != 1 {
			t.Fatalf("the store takes %+v after %d Trims", u, r.m.Calls(storetest.Trim)-before)
		}

		sleep(spill.RetryMax - 1)
		r.calls(storetest.Trim, before+1)
		sleep(3*spill.RetryMax + 1)
		r.calls(storetest.Trim, before+4)
		if u := r.log.Usage(); u.Bytes != 0 {
			t.Errorf("the store takes %+v", u)
		}
		if n := strings.Count(r.said.String(), "busy"); n != 3 {
			t.Errorf("said %d times, want 3:\n%s", n, &r.said)
		}

		sleep(time.Minute)
		r.calls(storetest.Trim, before+4)
		r.close()
	})
}

// What a failed write has left behind is deleted.
func TestWhatARefusedWriteHasStoredIsDeletedOnceItIsDone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.m.LoseOutcome(1)
		r.send(600)
		r.takeAll() // from memory
		sleep(time.Minute)
		if u := r.log.Usage(); u.Bytes != 0 {
			t.Errorf("with everything done the store takes %+v", u)
		}
		r.close()
	})
}

func TestAWriteWhoseOutcomeIsLostIsRepeated(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.m.LoseOutcome(3)
		for range 30 {
			r.send(100)
			sleep(10 * time.Millisecond)
		}
		r.takeAll()
		sleep(time.Minute)
		if u := r.log.Usage(); u.Bytes != 0 {
			t.Errorf("with everything done the store takes %+v", u)
		}
		r.close()
	})
}

// The items that were to be read were skipped or trimmed, and those behind are
// in memory.
func TestTheUserIsWokenThoughTheStoreHasNothingForHim(t *testing.T) {
	store := func(m *storetest.Memory) spill.Store {
		return &scripted{
			Store: m.Store(), found: &spill.Range{Next: 5, End: 10, Items: 5},
			extents: []spill.Extent{{First: 10, End: 10}},
		}
	}
	inBubbleOn(t, spill.Config{Keep: true}, store, func(t *testing.T, r *rig) {
		r.send(3)
		if r.next() {
			t.Fatalf("a cursor at item %d", r.cursor.Seq)
		}
		if !r.woken() {
			t.Error("the user is not woken")
		}
		r.got = 10
		r.takeAll()
		r.close()
	})
}

// Items that are done meanwhile are not handed out.
func TestWhatIsDoneWhileItIsReadIsForgotten(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		t.Run(fmt.Sprint("damaged ", damaged), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.size = sized(fullRun)
				r.send(20)
				r.reopen()
				if damaged {
					r.m.Corrupt(0)
					r.m.Corrupt(1)
				}
				resume := r.m.Hang(storetest.Read)
				r.next()
				synctest.Wait()
				r.got = 5
				r.log.Ack(5)
				resume()
				r.takeAll()
				if len(r.lost) > 0 {
					t.Errorf("lost: %v", r.lost)
				}
				r.close()
			})
		})
	}
}

func TestALimitThatIsTakenBackIsNone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.close()
		r.m.SetLimit(100_000)
		r.open()
		r.fill()
		r.m.SetLimit(-1)
		if !r.log.Room(0) || r.log.Refusal(0) != nil {
			t.Errorf("without a limit: Room %v, Refusal %v", r.log.Room(0), r.log.Refusal(0))
		}
		r.takeAll()
		r.close()
	})
}

func TestOpenFailsAsTheStoreDoes(t *testing.T) {
	m := storetest.NewMemory()
	m.Fail(storetest.Open, 1, spill.ErrVersion)
	_, _, err := spill.Open(t.Context(), spill.Config{Store: m.Store(), Label: "test"})
	if err != spill.ErrVersion {
		t.Errorf("Open: %v, want ErrVersion", err)
	}
}

func TestALogNeedsNoLoggerAndNobodyToWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		log, _, err := spill.Open(t.Context(), spill.Config{Store: m.Store(), Label: "test"})
		if err != nil {
			t.Fatal(err)
		}
		m.Fail(storetest.Append, 1, errors.New("full"))
		for seq := range uint64(10) {
			log.Commit(append(log.Begin(seq), make([]byte, fullRun)...))
		}
		sleep(time.Minute)
		if left := log.Close(t.Context(), 0); left != (spill.Left{}) {
			t.Errorf("Close: %+v", left)
		}
	})
}

// Beside the memory limit a log holds at most a run that was taken when it was
// nearly reached, and the chunks that are packed ahead.
func TestAHungLogHoldsBoundedMemory(t *testing.T) {
	for _, size := range []int{1, 100, 1000, 30_000, 40_000, fullRun} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				defer r.m.Hang(storetest.Append)()
				r.size = sized(size)
				r.fill()

				// A run may be only half full, where the next item did not fit.
				h := r.held()
				runs := 2*spill.MemLimit/spill.MaxBuf + 1
				if h.Runs > runs*spill.BufSize || h.Chunks > spill.MaxPacked*spill.BufSize ||
					h.Ahead > 0 {
					t.Errorf("in memory: %+v, want at most %d runs and %d chunks of %d bytes",
						h, runs, spill.MaxPacked, spill.BufSize)
				}
			})
		})
	}
}

// A goroutine of the user's beside those of the log, for the race detector.
func TestUsageMayBeCalledFromAnotherGoroutine(t *testing.T) {
	m := storetest.NewMemory()
	r := newRig(t, spill.Config{Keep: true}, m)
	r.open()
	var usage sync.WaitGroup
	stop := make(chan struct{})
	usage.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				r.log.Usage()
				runtime.Gosched()
			}
		}
	})

	for r.sent < 5000 {
		for range 100 {
			r.append()
		}
		for range 50 {
			if r.cursor != nil && r.cursor.Left > 0 {
				r.check()
			} else if !r.next() {
				break
			}
		}
	}
	for r.got < r.sent {
		switch {
		case r.cursor != nil && r.cursor.Left > 0:
			r.check()
		case !r.next():
			<-r.wake
		}
	}
	close(stop)
	usage.Wait()
	r.close()
}
