package spill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// ends closes the log, and checks what it says of its end.
func (r *rig) ends(ctx context.Context, unsaved uint64, errs ...error) {
	r.t.Helper()
	left := r.log.Close(ctx, r.got)
	r.log = nil
	if left.Unsaved != unsaved {
		r.t.Errorf("Close: %d items unsaved, want %d", left.Unsaved, unsaved)
	}
	if left.Err != nil && len(errs) == 0 {
		r.t.Errorf("Close: %v", left.Err)
	}
	for _, err := range errs {
		if !errors.Is(left.Err, err) {
			r.t.Errorf("Close: %v, want %v", left.Err, err)
		}
	}
}

// stored returns the numbers of the items that the medium holds, which no log
// is using.
func (r *rig) stored() (seqs []uint64) {
	r.t.Helper()
	ctx := r.t.Context()
	s := r.m.Store()
	found, err := s.Open(ctx, r.cfg.Label, true)
	if err != nil {
		r.t.Fatal(err)
	}

	for it, err := range spill.Items(ctx, s, r.cfg.Label, found) {
		if err != nil {
			r.t.Fatal(err)
		}
		if !bytes.Equal(it.Bytes, item(it.Seq, r.size(it.Seq))) {
			r.t.Errorf("item %d has %d bytes", it.Seq, len(it.Bytes))
		}
		seqs = append(seqs, it.Seq)
	}
	if uint64(len(seqs)) != found.Items {
		r.t.Errorf("Open found %+v, the store holds %d items", found, len(seqs))
	}
	if err := s.Close(ctx, true, found.Next, found.End); err != nil {
		r.t.Fatal(err)
	}
	return seqs
}

// holds checks that the medium holds exactly the items from next up to end.
func (r *rig) holds(next, end uint64) {
	r.t.Helper()
	var want []uint64
	for seq := next; seq < end; seq++ {
		want = append(want, seq)
	}
	if got := r.stored(); !slices.Equal(got, want) {
		r.t.Errorf("the store holds %d items, %v…, want %d, from %d", len(got),
			got[:min(len(got), 5)], len(want), next)
	}
}

// soon returns a context that ends after a while.
func soon(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestCloseKeepsExactlyWhatIsNotDone(t *testing.T) {
	for _, tt := range []struct {
		name       string
		send, take int
	}{
		{"nothing", 0, 0},
		{"one item", 1, 0},
		{"one item that is done", 1, 1},
		{"a tail", 50, 7},
		{"runs in memory", 150, 70},
		{"runs in the store and in memory", 2000, 0},
		{"runs of which some are done", 2000, 700},
		{"runs that are all done", 2000, 2000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.send(tt.send)
				if r.take(tt.take) < tt.take {
					r.takeAll()
				}
				r.ends(t.Context(), 0)
				r.holds(uint64(tt.take), uint64(tt.send))
			})
		})
	}
}

func TestCloseWithoutKeepDeletesEverything(t *testing.T) {
	inBubbleWith(t, spill.Config{}, func(t *testing.T, r *rig) {
		r.send(2000)
		r.take(10)
		writes := r.m.Calls(storetest.Append)
		r.ends(t.Context(), 0)
		r.calls(storetest.Append, writes)
		if u := r.m.Store().Usage(); u.Bytes != 0 {
			t.Errorf("the store takes %+v", u)
		}
		r.holds(0, 0)
	})
}

func TestCloseWithoutKeepDoesNotWaitForItsWriter(t *testing.T) {
	inBubbleWith(t, spill.Config{}, func(t *testing.T, r *rig) {
		r.m.Fail(storetest.Append, 1<<30, errors.New("full"))
		r.fill()
		start := time.Now()
		r.ends(t.Context(), 0)
		if d := time.Since(start); d > 0 {
			t.Errorf("Close took %v", d)
		}
	})
}

// gather appends what a pump has in its window: the items from first up to end,
// which belong in front of all others.
func (r *rig) gather(first, end uint64) {
	for seq := first; seq < end; seq++ {
		r.log.Commit(append(r.log.Begin(seq), item(seq, r.size(seq))...))
	}
}

func TestItemsInFrontOfAllOthersMayComeAfterFinish(t *testing.T) {
	for _, tt := range []struct {
		name               string
		front, send, after int
	}{
		{"none but those", 100, 0, 0},
		{"a few in front of a few", 10, 10, 0},
		{"many in front of many", 1500, 2000, 0},
		{"more behind all", 100, 200, 1500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.sent = uint64(tt.front)
				r.send(tt.send)
				r.log.Finish(t.Context())
				for range tt.after {
					r.append()
				}
				r.gather(0, uint64(tt.front))

				r.ends(t.Context(), 0)
				r.holds(0, uint64(tt.front+tt.send+tt.after))
				r.open()
				r.takeAll()
				r.close()
			})
		})
	}
}

func TestWhatIsGatheredAgainIsKeptOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		resume := r.m.Hang(storetest.Append)
		r.send(600)
		r.take(100) // from memory, and now in a window
		r.got = 0   // not done
		r.log.Finish(t.Context())
		resume()
		r.gather(0, 100)
		r.ends(t.Context(), 0)
		if got := r.stored(); len(got) != 600 || !slices.IsSorted(got) {
			t.Errorf("%d items are stored, want 600", len(got))
		}
	})
}

func TestFinishMayComeTwiceAndCloseAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(100)
		r.log.Finish(t.Context())
		r.log.Finish(t.Context())
		r.send(100)
		r.ends(t.Context(), 0)
		r.calls(storetest.Lift, 1)
		r.holds(0, 200)
	})
}

func TestAtTheEndTheLimitsOfTheStoreAreLifted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.close()
		r.m.SetLimit(300_000)
		r.open()
		r.fill()
		r.calls(storetest.Lift, 0)

		r.log.Finish(t.Context())
		r.send(2000)
		r.ends(t.Context(), 0)
		r.calls(storetest.Lift, 1)
		r.holds(0, r.sent)
	})
}

func TestWhereNothingIsToBeWrittenNothingIsLifted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(10)
		r.takeAll()
		r.ends(t.Context(), 0)
		r.calls(storetest.Lift, 0)
		r.calls(storetest.Append, 0)
	})
}

// Memory stays bounded: Commit waits for the store.
func TestAfterFinishCommitWaitsWhereMemoryIsFull(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.m.SetLatency(20 * time.Millisecond)
		r.size = sized(30_000)
		r.log.Finish(t.Context())

		start, waited := time.Now(), false
		for range 200 {
			r.append()
			if h := r.held(); h.Runs > 2*(spill.MemLimit/spill.MaxBuf+2)*spill.BufSize {
				t.Fatalf("in memory: %+v", h)
			}
			waited = waited || time.Since(start) > 0
		}
		if !waited {
			t.Error("Commit has not waited")
		}
		r.ends(t.Context(), 0)
		r.holds(0, 200)
	})
}

func TestCommitDoesNotWaitLongerThanItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		defer r.m.Hang(storetest.Append)()
		r.log.Finish(soon(t, time.Second))
		start := time.Now()
		r.gather(0, 2000)
		if d := time.Since(start); d != time.Second {
			t.Errorf("Commit has waited %v, want a second", d)
		}
		r.sent = 2000
		r.ends(t.Context(), 2000, spill.ErrHung)
	})
}

// A run that makes memory full, to the byte, is waited for.
func TestMemoryIsFullAtItsLimit(t *testing.T) {
	const run = spill.MemLimit / 8
	inBubble(t, func(t *testing.T, r *rig) {
		defer r.m.Hang(storetest.Append)()
		r.size = sized(run - spill.FramesAt - 3)
		r.send(8) // the last is the tail
		if !r.log.Room(0) {
			t.Error("no room, though memory is not full")
		}
		r.send(1)
		if r.log.Room(0) {
			t.Error("there is room, though memory is full")
		}
	})

	inBubble(t, func(t *testing.T, r *rig) {
		defer r.m.Hang(storetest.Append)()
		r.size = sized(run - spill.FramesAt - 3)
		start := time.Now()
		r.log.Finish(soon(t, time.Second))
		for i := range 9 {
			if d := time.Since(start); d > 0 {
				t.Errorf("Commit of run %d has waited %v", i, d)
			}
			r.append()
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("Commit has waited %v, want a second", d)
		}
	})
}

func TestCommitDoesNotWaitBeforeFinish(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		defer r.m.Hang(storetest.Append)()
		start := time.Now()
		r.send(3000)
		if d := time.Since(start); d > 0 {
			t.Errorf("Commit has waited %v", d)
		}
	})
}

func TestARefusalAtTheEndIsNotFinalAtOnce(t *testing.T) {
	for n := range spill.LastTries + 3 {
		t.Run(fmt.Sprint(n, " refusals"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				full := errors.New("full")
				r.send(100) // two runs
				r.m.Fail(storetest.Append, n, full)
				start := time.Now()

				if n <= spill.LastTries {
					r.ends(t.Context(), 0)
					r.holds(0, 100)
				} else { // each run costs a try then
					runs := n - spill.LastTries
					r.ends(t.Context(), []uint64{65, 100}[runs-1], full)
					r.holds([]uint64{65, 100}[runs-1], 100)
				}
				want := spill.RetryMin * time.Duration(1<<min(n, spill.LastTries)-1)
				if d := time.Since(start); d != want {
					t.Errorf("Close took %v, want %v", d, want)
				}
			})
		})
	}
}

// However long the store has refused before, at the end the pauses are short.
func TestThePausesBeforeTheEndDoNotLengthenThoseAtTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		full := errors.New("full")
		r.m.Fail(storetest.Append, 1<<30, full)
		r.fill()
		sleep(time.Minute + 265*time.Millisecond) // 5 ms before the pause is over

		start := time.Now()
		r.ends(t.Context(), r.sent, full)
		if d, want := time.Since(start), spill.RetryMin*(1<<spill.LastTries-1); d != want {
			t.Errorf("Close took %v, want %v", d, want)
		}
	})
}

// A store that makes progress is not given up, however often it refuses in
// between.
func TestRefusalsBetweenSuccessesAreNotFinal(t *testing.T) {
	store := func(m *storetest.Memory) spill.Store { return everyOther{m.Store(), m} }
	inBubbleOn(t, spill.Config{Keep: true}, store, func(t *testing.T, r *rig) {
		r.log.Finish(t.Context())
		r.send(5000)
		r.ends(t.Context(), 0)
		r.holds(0, 5000)
	})
}

// everyOther refuses every other Append.
type everyOther struct {
	spill.Store
	m *storetest.Memory
}

func (s everyOther) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	if s.m.Calls(storetest.Append)%2 == 0 {
		s.m.Fail(storetest.Append, 1, errors.New("not now"))
	}
	return s.Store.Append(ctx, batches)
}

func TestWhatIsUnsavedIsCountedOnceAndWithoutWhatIsDone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		full, broken := errors.New("full"), errors.New("broken")
		r.size = sized(1000)
		r.send(200) // three runs of 65 items, and a tail
		r.take(10)
		r.log.Ack(10)
		r.m.Fail(storetest.Append, 1<<30, full)
		r.log.Finish(t.Context())
		sleep(time.Minute) // until they are given up
		r.m.Fail(storetest.Append, 1<<30, broken)

		left := r.log.Close(t.Context(), 10)
		r.log = nil
		if left.Unsaved != 190 {
			t.Errorf("Close: %d items unsaved, want 190", left.Unsaved)
		}
		if diff := cmp.Diff("full", left.Err.Error()); diff != "" {
			t.Errorf("Close (-want +got):\n%s", diff)
		}
	})
}

// A parked item stays with its owner, who knows whether it is lost.
func TestParkedItemsAreNotCountedAsUnsaved(t *testing.T) {
	for _, hang := range []bool{false, true} {
		t.Run(fmt.Sprint("hangs ", hang), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				for seq := range uint64(100) {
					r.log.Begin(seq)
					if seq%4 == 1 {
						r.log.Park()
					} else {
						r.log.Commit(r.log.Begin(seq))
					}
				}
				r.sent, r.got = 100, 2 // of those that are done, one was parked

				if hang {
					defer r.m.Hang(storetest.Append)()
					r.ends(soon(t, time.Second), 74, spill.ErrHung)
					return
				}
				full := errors.New("full")
				r.m.Fail(storetest.Append, 1<<30, full)
				r.ends(t.Context(), 74, full)
			})
		})
	}
}

func TestEachReasonIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.m.Fail(storetest.Append, 1<<30, errors.New("full"))
		r.log.Finish(t.Context())
		r.send(300)
		sleep(time.Minute)
		r.m.Fail(storetest.Append, 1<<30, errors.New("broken"))
		r.send(300)
		sleep(time.Minute)

		left := r.log.Close(t.Context(), 0)
		r.log = nil
		if want := "full\nbroken"; left.Unsaved != 600 || left.Err == nil ||
			left.Err.Error() != want {
			t.Errorf("Close: %+v, want 600 unsaved, %q", left, want)
		}
		r.holds(0, 0)
	})
}

func TestAStoreThatFailsToCloseSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		wrong := errors.New("fsync failed")
		r.send(100)
		r.m.Fail(storetest.Close, 1, wrong)
		r.ends(t.Context(), 0, wrong)
	})
}

// A store may find out only when it closes that it does not have what it was
// given.
func TestWhatTheStoreLosesWhenItClosesIsUnsaved(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(100)
		lost := &spill.CorruptError{Path: "p", First: 3, Items: 7, Err: errors.New("cut off")}
		r.m.Fail(storetest.Close, 1, fmt.Errorf("close: %w", lost))
		r.ends(t.Context(), 7, lost)
	})
}

func TestAStoreThatHangsIsLeftToItself(t *testing.T) {
	for _, tt := range []struct {
		call    storetest.Call
		unsaved uint64
	}{
		{storetest.Append, 100},
		{storetest.Close, 0},
	} {
		for _, finish := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, Finish %v", tt.call, finish), func(t *testing.T) {
				inBubble(t, func(t *testing.T, r *rig) {
					r.send(100)
					r.take(30)
					resume := r.m.Hang(tt.call)
					ctx := soon(t, time.Second)
					start := time.Now()
					if finish {
						r.log.Finish(ctx)
						ctx = t.Context()
					}

					r.ends(ctx, tt.unsaved-min(tt.unsaved, 30), spill.ErrHung)
					if d := time.Since(start); d != time.Second {
						t.Errorf("Close took %v, want a second", d)
					}
					sleep(10 * time.Second) // its goroutines end with their calls
					resume()
					if err := r.locked(); err != nil {
						t.Errorf("Open of what the log has left: %v", err)
					}
				})
			})
		}
	}
}

// locked returns why the medium can't be opened.
func (r *rig) locked() error {
	s := r.m.Store()
	found, err := s.Open(r.t.Context(), r.cfg.Label, true)
	if err != nil {
		return err
	}
	return s.Close(r.t.Context(), true, found.Next, found.End)
}

// Whichever context ends first: that of Finish, or that of Close.
func TestCloseEndsWithItsOwnContextToo(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(100)
		defer r.m.Hang(storetest.Append)()
		finish, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()

		r.log.Finish(finish)
		start := time.Now()
		r.ends(soon(t, time.Second), 100, spill.ErrHung)
		if d := time.Since(start); d != time.Second {
			t.Errorf("Close took %v, want a second", d)
		}
	})
}

func TestALogThatIsNotKeptHasNothingUnsaved(t *testing.T) {
	for _, c := range []storetest.Call{storetest.Append, storetest.Close} {
		t.Run(c.String(), func(t *testing.T) {
			inBubbleWith(t, spill.Config{}, func(t *testing.T, r *rig) {
				defer r.m.Hang(c)()
				r.send(600)
				r.ends(soon(t, time.Second), 0, spill.ErrHung)
			})
		})
	}
}

func TestARunThatIsJustBeingReadDoesNotOutliveClose(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(2000)
		r.reopen()
		resume := r.m.Hang(storetest.Read)
		r.take(1)
		time.AfterFunc(time.Second, resume)
		start := time.Now()
		r.ends(t.Context(), 0)
		if d := time.Since(start); d != time.Second {
			t.Errorf("Close took %v, want a second", d)
		}
		r.holds(0, 2000)
	})
}

func TestAReadThatHangsDoesNotHoldUpCloseForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(2000)
		r.reopen()
		resume := r.m.Hang(storetest.Read)
		r.take(1)
		r.ends(soon(t, time.Second), 0, spill.ErrHung)
		sleep(10 * time.Second)
		resume()
		found := r.open() // as after a crash
		if !found.Crashed || found.Items != 2000 {
			t.Errorf("Open found %+v, want 2000 items after a crash", found)
		}
		r.takeAll()
	})
}

func TestAfterFinishNothingIsReadOrTrimmed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(2000)
		r.take(500)
		r.log.Finish(t.Context())
		synctest.Wait()
		reads, trims := r.m.Calls(storetest.Read), r.m.Calls(storetest.Trim)
		r.log.Ack(r.got)
		r.send(100)
		sleep(time.Minute)
		r.calls(storetest.Read, reads)
		r.calls(storetest.Trim, trims)
		r.ends(t.Context(), 0)
		r.holds(500, 2100)
	})
}

func TestCloseGivesUpAllMemory(t *testing.T) {
	for name, use := range map[string]func(r *rig){
		"with a tail":                       func(r *rig) { r.send(10) },
		"with a cursor from memory":         func(r *rig) { r.send(100); r.take(10) },
		"with a cursor and runs read ahead": func(r *rig) { r.send(3000); r.take(700); synctest.Wait() },
		"with runs that are refused": func(r *rig) {
			r.m.Fail(storetest.Append, 1<<30, errors.New("full"))
			r.send(600)
		},
	} {
		for _, keep := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, keep %v", name, keep), func(t *testing.T) {
				inBubbleWith(t, spill.Config{Keep: keep}, func(t *testing.T, r *rig) {
					use(r)
					memory, log := r.log.Memory(), r.log
					log.Close(t.Context(), r.got)
					r.log, r.cursor = nil, nil
					synctest.Wait()
					if h, err := log.Held(); err != nil || h != (spill.Held{}) {
						t.Errorf("in memory after Close: %+v, %v", h, err)
					}
					r.isFreed(memory)
				})
			})
		}
	}
}

// The store learns what is to be left, or that this is not known exactly.
func TestTheStoreLearnsWhatIsToBeLeft(t *testing.T) {
	full := errors.New("full")
	for _, tt := range []struct {
		name       string
		send, take int
		err        error
		want       [2]uint64
	}{
		{"nothing", 0, 0, nil, [2]uint64{0, 0}},
		{"all", 100, 0, nil, [2]uint64{0, 100}},
		{"the rest", 100, 30, nil, [2]uint64{30, 100}},
		{"nothing any more", 100, 100, nil, [2]uint64{100, 100}},
		{"some are unsaved", 100, 30, full, [2]uint64{30, 30}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s *probe
			store := func(m *storetest.Memory) spill.Store {
				s = &probe{Store: m.Store()}
				return s
			}
			inBubbleOn(t, spill.Config{Keep: true}, store, func(t *testing.T, r *rig) {
				r.send(tt.send)
				r.take(tt.take)
				if tt.err != nil {
					r.m.Fail(storetest.Append, 1<<30, tt.err)
				}
				r.log.Close(t.Context(), r.got)
				r.log = nil
				if s.left != tt.want {
					t.Errorf("the store is to keep the items %v, want %v", s.left, tt.want)
				}
			})
		})
	}
}

// What could not be saved is not vouched for: the next log does not report it.
func TestTheNextLogDoesNotMissWhatWasUnsaved(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		full := errors.New("full")
		r.send(1000)
		written := r.sent
		r.m.Fail(storetest.Append, 1<<30, full)
		r.log.Finish(t.Context())
		r.send(100)
		left := r.log.Close(t.Context(), 0)
		if left.Unsaved < 100 || !errors.Is(left.Err, full) {
			t.Fatalf("Close: %+v", left)
		}

		found := r.open()
		if found.Items != written+100-left.Unsaved || found.Crashed {
			t.Errorf("Open found %+v, %d of %d were unsaved", found, left.Unsaved, written+100)
		}
		r.takeAll()
		if len(r.lost) > 0 {
			t.Errorf("lost: %v", r.lost)
		}
		r.close()
	})
}

func TestACrashLosesOnlyWhatWasInMemory(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.send(2000)
		r.take(100)
		h := r.held()
		r.m.Crash()
		r.abandon()

		found := r.open()
		if !found.Crashed || found.Next != 0 || found.Items < 2000-uint64(h.Runs/1000+100) {
			t.Errorf("Open found %+v", found)
		}
		r.sent = found.End
		r.takeAll()
		if len(r.lost) > 0 {
			t.Errorf("lost: %v", r.lost)
		}
		r.close()
	})
}
