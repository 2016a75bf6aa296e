package spill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// rest calls Rest, which is to succeed, and checks that the log gives up all
// that it had in memory.
func (r *rig) rest() {
	r.t.Helper()
	if !r.log.Rest(r.got) {
		r.t.Fatal("Rest reports that the store is being read")
	}
	r.cursor = nil
	synctest.Wait()

	if diff := cmp.Diff(spill.Held{}, r.held()); diff != "" {
		r.t.Errorf("in memory after Rest (-want +got):\n%s", diff)
	}
	if after := r.log.Memory(); len(after) > 0 {
		r.t.Errorf("%d buffers are in use after Rest", len(after))
	}
}

// isFreed checks that nobody has memory that was in use before. The shared
// buffers are gone after two collections.
func (r *rig) isFreed(memory []weak.Pointer[byte]) {
	r.t.Helper()
	for range 3 {
		runtime.GC()
	}
	for i, p := range memory {
		if p.Value() != nil {
			r.t.Errorf("buffer %d of %d is still reachable", i, len(memory))
			return
		}
	}
}

// failsOnce fails one of its Reads.
type failsOnce struct {
	spill.Store
	reads, fails int
}

func (s *failsOnce) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	if s.reads++; s.reads == s.fails {
		return spill.Extent{}, errors.New("no descriptors")
	}
	return s.Store.Read(ctx, seq, from, buf)
}

// A log comes to rest when it has read a part of a large item.
func TestALargeItemOfWhichAPartWasReadComesAfterRest(t *testing.T) {
	for fails := range 6 {
		store := func(m *storetest.Memory) spill.Store {
			return &failsOnce{Store: m.Store(), fails: fails}
		}
		inBubbleOn(t, spill.Config{Keep: true}, store, func(t *testing.T, r *rig) {
			r.size = func(seq uint64) int { return 1000 + 500_000*int(seq%2) }
			r.send(4)
			sleep(time.Second)
			for range 3 {
				r.take(1)
				synctest.Wait()
				r.rest()
			}
			r.takeAll()
			if len(r.lost) > 0 {
				t.Errorf("Read %d fails: %v", fails, r.lost)
			}
			r.close()
		})
	}
}

func TestALogAtRestHoldsNoMemoryAndLosesNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		use   func(r *rig)
		items uint64 // that come after that
	}{
		{"nothing was ever appended", func(r *rig) {}, 0},
		{"a few items wait", func(r *rig) { r.send(10) }, 10},
		{"a run waits and a few items", func(r *rig) { r.send(70) }, 70},
		{"more than memory takes waits", func(r *rig) { r.send(3000) }, 3000},
		{"one run is read ahead", func(r *rig) {
			r.send(3000)
			r.next()
			r.cursor = nil
			synctest.Wait()
		}, 3000},
		{"several runs are read ahead",
			func(r *rig) { r.send(3000); r.take(1000); synctest.Wait() }, 2000},
		{"a cursor from memory is half used", func(r *rig) { r.send(100); r.take(30) }, 70},
		{"a cursor from the store is half used",
			func(r *rig) { r.send(3000); r.take(30); synctest.Wait() }, 2970},
		{"a cursor is used up", func(r *rig) { r.send(70); r.take(64); r.log.Ack(r.got) }, 6},
		{"all is done", func(r *rig) { r.send(3000); r.takeAll() }, 0},
		{"a large item waits", func(r *rig) { r.size = sized(300_000); r.send(3) }, 3},
		{"a part of a large item was read", func(r *rig) {
			r.size = sized(900_000)
			r.send(3)
			r.m.SetLatency(time.Second)
			r.take(1)
			sleep(3500 * time.Millisecond) // a few chunks of the first
			r.m.SetLatency(0)
			sleep(time.Second)
		}, 3},
		{"all was refused", func(r *rig) {
			r.m.Fail(storetest.Append, 3, errors.New("full"))
			r.send(2000)
			sleep(3 * time.Second)
		}, 2000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				tt.use(r)
				memory := r.log.Memory()
				r.rest()
				r.isFreed(memory)
				if r.sent-r.got != tt.items {
					t.Fatalf("%d items wait: the test is of no use", r.sent-r.got)
				}

				r.send(20) // and more
				r.takeAll()
				if len(r.lost) > 0 {
					t.Errorf("lost: %v", r.lost)
				}
				r.rest()
				r.close()
			})
		})
	}
}

// A log may be put to rest after every item, and where nobody is waiting.
func TestRestMayComeAnyTime(t *testing.T) {
	for _, latency := range []time.Duration{0, 3 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.m.SetLatency(latency)
				r.size = func(seq uint64) int {
					if seq%61 == 0 {
						return 100_000
					}
					return int(seq*37) % 5000
				}

				for i := range 400 {
					for range i % 17 {
						r.append()
					}
					if i%3 == 0 {
						r.take(i % 23)
					}
					if i%5 == 0 {
						synctest.Wait()
					}
					if i%2 == 0 && r.log.Rest(r.got) {
						r.cursor = nil
					}
					if i%11 == 0 {
						sleep(time.Millisecond)
					}
				}
				r.takeAll()
				r.close()
			})
		})
	}
}

func TestRestDueSaysWhenTheLogHasNotBeenUsed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		sleep(time.Hour)
		if r.log.RestDue() || r.woken() {
			t.Error("a log that was never used is to be put to rest")
		}

		r.size = sized(fullRun)
		for range 10 {
			r.send(1)
			sleep(spill.RestAfter - 1)
			if r.log.RestDue() {
				t.Fatal("RestDue, though the log is in use")
			}
		}
		r.woken()
		sleep(2 * spill.RestAfter)
		if !r.log.RestDue() || !r.woken() {
			t.Error("RestDue is false, or the user was not woken")
		}

		r.rest()
		if r.log.RestDue() {
			t.Error("RestDue after Rest")
		}
		sleep(2 * spill.RestAfter)
		r.rest() // it may have taken its own work for use
		sleep(time.Hour)
		if r.log.RestDue() || r.log.Ticking() {
			t.Error("RestDue, or a timer runs, while nothing happens")
		}
		r.takeAll()
		r.close()
	})
}

func TestRestOfALogDoesNotConcernWhatComesLater(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.rest()
		r.size = sized(fullRun)
		r.send(3)
		r.calls(storetest.Append, 0)

		r.rest()
		r.takeAll()
		writes := r.m.Calls(storetest.Append)
		r.send(3)
		r.calls(storetest.Append, writes)
		r.takeAll()
		r.close()
	})
}

func TestUseOfALogPutsItsRestOff(t *testing.T) {
	for name, use := range map[string]func(r *rig){
		"append": func(r *rig) { r.size = sized(fullRun); r.send(1) },
		"next":   func(r *rig) { r.log.Next(r.got, r.got); r.cursor = nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				for range 20 {
					use(r)
					sleep(spill.RestAfter * 9 / 10)
					if r.log.RestDue() {
						t.Fatal("RestDue, though the log is in use")
					}
				}
			})
		})
	}
}

// goroutines returns how many goroutines the logs have, beside the caller's,
// and how many of them are waiting for work.
func goroutines() (n, idle int) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	all := bytes.Split(stacks, []byte("\n\n")) // the caller's first
	bubble := regexp.MustCompile(`synctest bubble \d+\]`).Find(all[0])
	for _, stack := range all[1:] {
		if !bytes.Contains(stack, bubble) { // of a test before
			continue
		}
		if bytes.Contains(stack, []byte("spill.(*Log).")) {
			n++
		}
		if bytes.Contains(stack, []byte("spill.(*crew).awaitLocked")) {
			idle++
		}
	}
	return n, idle
}

func working() int {
	n, idle := goroutines()
	return n - idle
}

func TestALogAtRestHasNoGoroutineAndNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spill.Config{Keep: true}, storetest.NewMemory())
		r.open()
		if n, _ := goroutines(); n > 0 {
			t.Errorf("%d goroutines before the log is used", n)
		}

		resume := r.m.Hang(storetest.Append)
		r.send(600)
		if n := working(); n != 1 {
			t.Errorf("%d goroutines at work while the store hangs, want 1", n)
		}
		resume()
		r.send(2400)
		r.take(500)
		sleep(3 * spill.RestAfter)
		r.rest()
		sleep(3 * spill.RestAfter)
		if n, _ := goroutines(); n > 0 || r.log.Ticking() {
			t.Errorf("at rest: %d goroutines, ticking %v", n, r.log.Ticking())
		}

		for r.woken() {
		}
		calls := func() (n int) {
			for c := storetest.Open; c <= storetest.Close; c++ {
				n += r.m.Calls(c)
			}
			return n
		}
		was := calls()
		sleep(time.Hour)
		if n := calls() - was; n != 0 || r.woken() {
			t.Errorf("at rest: %d calls of the store in an hour", n)
		}
		r.takeAll()
		r.close()
	})
}

func TestRestWhileTheStoreIsReadTakesNothingBack(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(3000)
		r.take(10) // leaves a cursor
		r.takeAll()
		r.send(3000)
		r.reopen()

		r.take(100) // asks for more
		resume := r.m.Hang(storetest.Read)
		r.take(1 << 20) // until there is nothing at hand
		if r.log.Rest(r.got) {
			t.Fatal("Rest, though the store does not answer")
		}
		if r.log.RestDue() {
			t.Error("RestDue after Rest")
		}
		sleep(2 * spill.RestAfter)
		if !r.log.RestDue() || !r.woken() {
			t.Error("Rest is not due again")
		}

		resume()
		synctest.Wait()
		r.rest()
		r.takeAll()
		r.close()
	})
}

// A run may be handed out, written, dropped from memory and rested.
func TestWhatWasHandedOutFromMemoryComesAgainFromTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		resume := r.m.Hang(storetest.Append)
		r.send(600)
		r.take(10) // from memory, while it is being written
		resume()
		synctest.Wait()
		r.rest()
		r.take(100)
		r.takeAll()
		r.close()
	})
}

func TestRestWhileAReadIsPutOffDoesNotReadOn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(3000)
		r.reopen()
		r.m.Fail(storetest.Read, 1, errors.New("not now"))
		r.take(1)
		r.rest()
		reads := r.m.Calls(storetest.Read)
		sleep(time.Minute)
		r.calls(storetest.Read, reads)
		if h := r.held(); h.Ahead > 0 {
			t.Errorf("in memory: %+v", h)
		}
		r.takeAll()
		r.close()
	})
}

// Items that were lost are lost for the same reason if they are read again.
func TestRestDoesNotChangeWhatIsLostAndWhy(t *testing.T) {
	describe := func(rest bool) (lost []string) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.size = sized(fullRun)
			r.send(12)
			r.reopen()
			for _, seq := range []uint64{0, 2, 5, 8, 11} { // the first, middle and last of a piece
				r.m.Corrupt(seq)
			}

			for r.got < 12 {
				synctest.Wait() // some are read ahead
				if rest && r.log.Rest(r.got) {
					r.cursor = nil
				}
				r.take(1)
			}
			for _, e := range r.lost {
				lost = append(lost, e.Error())
			}
			r.close()
		})
		return lost
	}

	want := describe(false)
	if len(want) != 5 || !strings.Contains(want[0], "checksum mismatch") {
		t.Fatalf("lost: %q", want)
	}
	if diff := cmp.Diff(want, describe(true)); diff != "" {
		t.Errorf("losses (-without Rest +with it):\n%s", diff)
	}
}

// What was read ahead of a loss, and the rest of the cursor, come before it.
func TestRestDoesNotMoveALossForward(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(2000)
		r.reopen()
		r.m.Corrupt(70) // the second run
		r.take(30)
		synctest.Wait()
		r.rest()
		r.takeAll()
		if len(r.lost) != 1 || r.lost[0].First != 65 || r.lost[0].Items != 65 {
			t.Errorf("lost: %v, want items 65 to 129", r.lost)
		}
		r.close()
	})
}

// A store tells of damage that has cost nothing only once.
func TestANoticeThatWasReadAheadSurvivesRest(t *testing.T) {
	store := func(m *storetest.Memory) spill.Store {
		return &scripted{Store: m.Store(), extents: []spill.Extent{
			{At: spill.Position{Path: "p"}, Err: errors.New("a notice")},
		}}
	}
	inBubbleOn(t, spill.Config{Keep: true}, store, func(t *testing.T, r *rig) {
		r.send(1000)
		r.next()
		synctest.Wait()
		if r.log.Rest(r.got) {
			r.cursor = nil
		}
		r.takeAll()
		if len(r.lost) != 1 || r.lost[0].Items != 0 {
			t.Errorf("lost: %v, want a notice", r.lost)
		}
		r.close()
	})
}

// A scripted store returns some extents before it reads.
type scripted struct {
	spill.Store
	found   *spill.Range // not nil: what Open returns
	extents []spill.Extent
}

func (s *scripted) Open(ctx context.Context, label string, keep bool) (spill.Range, error) {
	r, err := s.Store.Open(ctx, label, keep)
	if s.found != nil {
		r = *s.found
	}
	return r, err
}

func (s *scripted) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	if len(s.extents) > 0 {
		ext := s.extents[0]
		s.extents = s.extents[1:]
		return ext, nil
	}
	return s.Store.Read(ctx, seq, from, buf)
}

// Whoever acknowledges items that a cursor still has does not get them again,
// nor is the store asked for what it never had.
func TestRestDoesNotGoBackBehindWhatIsDone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(10)
		c, _ := r.log.Next(0, 0)
		if c == nil || c.Left != 10 {
			t.Fatalf("cursor %+v, want 10 items", c)
		}
		r.got = 10
		r.log.Ack(r.got)
		r.rest()
		r.send(5)
		r.takeAll()
		r.close()
	})
}

func TestADrainedLogGoesBackToWhatAnIdleOneCosts(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(5000)
		memory := r.log.Memory()
		r.takeAll()
		sleep(2 * spill.RestAfter)
		if !r.log.RestDue() {
			t.Error("Rest is not due")
		}
		r.rest()
		r.isFreed(memory)

		r.close()
		synctest.Wait()
		if n, _ := goroutines(); n > 0 {
			t.Errorf("%d goroutines after Close", n)
		}
	})
}

func ExampleLog_Rest() {
	wake := make(chan struct{}, 1)
	log, _, err := spill.Open(context.Background(), spill.Config{
		Store: storetest.NewMemory().Store(), Label: "greetings", Wake: wake,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	log.Commit(append(log.Begin(0), "hello"...))

	for !log.RestDue() {
		<-wake
	}
	log.Rest(0) // the item goes to the store

	cursor, _ := log.Next(0, 0)
	for ; cursor == nil; cursor, _ = log.Next(0, 0) {
		<-wake
	}
	greeting, _ := cursor.Item()
	fmt.Printf("%d: %s\n", cursor.Seq, greeting)
	log.Close(context.Background(), 1)
	// Output: 0: hello
}
