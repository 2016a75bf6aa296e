package spill_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// synced checks what the log says of its last sync.
func (r *rig) synced(end, acked uint64) {
	r.t.Helper()
	synctest.Wait()
	if e, a := r.log.Synced(); e != end || a != acked {
		r.t.Errorf("synced are %d and %d, want %d and %d", e, a, end, acked)
	}
}

// cutPower ends the log's machine, and opens the log on the next.
func (r *rig) cutPower() spill.Range {
	r.t.Helper()
	r.m.CutPower()
	r.abandon()
	sleep(5 * time.Second)
	return r.open()
}

var journal = spill.Config{Keep: true, Journal: true}

func TestWhatWasSyncedSurvivesAPowerCut(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.send(10)
		r.log.SyncLater(4)
		r.synced(10, 4)
		if !r.woken() {
			t.Error("the user is not woken")
		}
		r.calls(storetest.Append, 1)
		r.calls(storetest.Sync, 1)

		r.send(5) // is lost
		if found := r.cutPower(); found.Next != 4 || found.End != 10 || !found.Crashed {
			t.Fatalf("found %+v, want items 4 to 10", found)
		}
		r.synced(4, 0) // nobody knows whether the rest is durable
		r.takeAll()
		r.close()
	})
}

func TestASyncWithNothingNewDoesNothing(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.log.SyncLater(0)
		synctest.Wait()
		r.calls(storetest.Sync, 0)

		r.send(10)
		for range 3 {
			r.log.SyncLater(0)
			synctest.Wait()
		}
		r.calls(storetest.Append, 1)
		r.calls(storetest.Sync, 1)

		r.got = 3
		r.log.SyncLater(3)
		synctest.Wait()
		r.log.SyncLater(3)
		r.synced(10, 3)
		r.calls(storetest.Append, 1)
		r.calls(storetest.Sync, 2)
		r.takeAll()
		r.close()
	})
}

func TestASyncDoesNotStoreWhatIsDone(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.send(10)
		r.got = 10
		r.log.SyncLater(10)
		r.synced(10, 10)
		r.calls(storetest.Append, 0)

		r.send(10)
		r.got = 15
		r.log.SyncLater(15)
		r.synced(20, 15)
		r.calls(storetest.Append, 1)
		if found := r.cutPower(); found.Next != 15 || found.Items != 5 {
			t.Errorf("found %+v, want items 15 to 20", found)
		}
		r.takeAll()
		r.close()
	})
}

func TestSyncsThatAreAskedForMeanwhileBecomeOne(t *testing.T) {
	for _, c := range []storetest.Call{storetest.Append, storetest.Sync} {
		t.Run(c.String(), func(t *testing.T) {
			inBubbleWith(t, journal, func(t *testing.T, r *rig) {
				resume := r.m.Hang(c)
				r.send(5)
				r.log.SyncLater(0)
				synctest.Wait()
				for range 4 {
					r.send(5)
					r.log.SyncLater(0)
				}
				r.synced(0, 0)

				sleep(2 * spill.HungAfter)
				if err := r.log.Refusal(0); !errors.Is(err, spill.ErrHung) {
					t.Errorf("Refusal: %v, want ErrHung", err)
				}
				resume()
				r.synced(25, 0)
				want := map[storetest.Call]int{storetest.Append: 1, storetest.Sync: 2}
				r.calls(storetest.Sync, want[c])
				r.takeAll()
				r.close()
			})
		})
	}
}

func TestASyncThatFailsIsRepeated(t *testing.T) {
	for _, c := range []storetest.Call{storetest.Append, storetest.Sync} {
		t.Run(c.String(), func(t *testing.T) {
			inBubbleWith(t, journal, func(t *testing.T, r *rig) {
				out := errors.New("out of order")
				r.m.Fail(c, 1<<30, out)
				r.send(5)
				r.log.SyncLater(0)
				r.synced(0, 0)
				if err := r.log.Refusal(0); !errors.Is(err, out) || !r.woken() {
					t.Errorf("Refusal: %v, or the user is not woken; want %v", err, out)
				}

				before := r.m.Calls(c)
				sleep(time.Minute)
				if n := r.m.Calls(c) - before; n < 50 || n > 70 {
					t.Errorf("the store is asked %d times in a minute", n)
				}
				for r.woken() {
				}

				r.m.Fail(c, 0, nil)
				sleep(2 * spill.RetryMax)
				r.synced(5, 0)
				if err := r.log.Refusal(0); err != nil || !r.woken() {
					t.Errorf("Refusal: %v, or the user is not woken", err)
				}
				r.takeAll()
				r.close()
			})
		})
	}
}

func TestASyncOfALargeTailIsOneAppend(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.size = sized(20_000)
		r.send(9) // three runs
		r.log.SyncLater(0)
		r.synced(9, 0)
		r.calls(storetest.Append, 1)
		r.calls(storetest.Sync, 1)
		r.takeAll()
		r.close()
	})
}

func TestAJournalStoresNoMoreThanASyncAsksFor(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		resume := r.m.Hang(storetest.Append)
		r.send(150)
		r.log.SyncLater(0)
		r.send(300)
		resume()
		r.synced(150, 0)
		r.calls(storetest.Append, 1)
		r.takeAll()
		r.close()
	})
}

func TestCloseDoesNotWaitForASyncToBeRepeated(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.m.Fail(storetest.Sync, 1<<30, errors.New("out of order"))
		r.send(5)
		r.log.SyncLater(0)
		sleep(time.Second)
		r.reopen()
		r.synced(5, 0)
		r.m.Fail(storetest.Sync, 0, nil)
		r.takeAll()
		r.close()
	})
}

const journalStays = 512 << 10

func TestAJournalStoresNothingWhileLittleIsNotDone(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		per := 1000 + 2 // bytes of an item with its length
		most := uint64(journalStays / per)
		for r.sent < 20*most {
			if !r.log.Room(0) {
				t.Fatalf("no room for item %d, with %d done", r.sent, r.got)
			}
			r.append()
			if r.sent-r.got >= most {
				r.got += 1 + r.sent%50
				r.log.Ack(r.got)
			}
			if r.sent%100 == 0 {
				synctest.Wait()
			}
		}
		sleep(time.Minute)
		r.calls(storetest.Append, 0)

		r.send(600) // not in one go
		r.send(600)
		if r.m.Calls(storetest.Append) == 0 {
			t.Error("nothing is stored, though much is not done")
		}
		r.takeAll()
		r.close()
	})
}

func TestAJournalHasRoomBeforeItsStoreHasTakenAnything(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		resume := r.m.Hang(storetest.Append)
		r.fill()
		if n := r.sent * 1000; n < 700<<10 || n > 900<<10 {
			t.Errorf("room for %d bytes, want some 768 KiB", n)
		}
		resume()
		r.takeAll()
		r.close()
	})
}

func TestAJournalAtRestStoresWhatIsWaitedFor(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.send(100)
		if !r.log.Rest(100) { // all were delivered
			t.Fatal("no rest")
		}
		sleep(time.Minute)
		r.calls(storetest.Append, 0)

		r.send(1)
		if !r.log.Rest(100) { // one was not
			t.Fatal("no rest")
		}
		sleep(time.Minute)
		r.calls(storetest.Append, 1)
		if h := r.held(); h.Runs > 0 {
			t.Errorf("in memory at rest: %+v", h)
		}

		r.log.Ack(40)
		r.got = 100
		r.takeAll()
		r.close()
	})
}

func TestAJournalAtRestGivesUpTheMemoryOfWhatIsDone(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.send(100)
		memory := r.log.Memory()
		r.got = 100
		r.log.Ack(100)
		r.rest()
		r.isFreed(memory)
		r.calls(storetest.Append, 0)
		r.send(10)
		r.takeAll()
		r.close()
	})
}

// ahead checks that reading goes on at an item, with nothing done.
func (r *rig) ahead(from uint64) {
	r.t.Helper()
	for range 1000 {
		c, lost := r.log.Next(from, 0)
		switch {
		case lost != nil:
			r.t.Fatal(lost)
		case c == nil:
			<-r.wake
			continue
		}

		r.got, r.cursor = from, c
		r.check()
		return
	}
	r.t.Fatalf("item %d never comes", from)
}

// goTo puts the log to rest, to go on at an item.
func (r *rig) goTo(from uint64) {
	for !r.log.Rest(from) {
		synctest.Wait()
	}
}

// Items that are not wanted from the log may be in any of its places.
func TestNextGoesOnWhereverItIsTold(t *testing.T) {
	for _, stored := range []bool{false, true} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.send(1000)
			if stored {
				r.rest()
				r.send(200)
			}
			for _, from := range []uint64{0, 1, 130, 131, 400, 800, 999} {
				r.ahead(from)
				if from%2 == 0 { // the rest of the cursor is not wanted either
					r.goTo(from + 1)
					r.ahead(from + 1)
				}
				r.goTo(from + 1)
			}

			for _, from := range []uint64{999, 500, 130, 1, 0} {
				r.goTo(from)
				r.ahead(from)
			}
			r.takeAll()
			r.close()
		})
	}
}

func TestWhatIsPassedStaysUntilItIsDone(t *testing.T) {
	inBubbleWith(t, journal, func(t *testing.T, r *rig) {
		r.send(3000)
		for from := uint64(0); from < r.sent; from += 250 {
			r.ahead(from)
			r.goTo(from + 1)
		}
		r.got = 0
		r.reopen()
		r.takeAll()
		r.close()
	})
}

func ExampleLog_SyncLater() {
	wake := make(chan struct{}, 1)
	log, _, err := spill.Open(context.Background(), spill.Config{
		Store: storetest.NewMemory().Store(), Label: "greetings", Keep: true, Journal: true, Wake: wake,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for seq, greeting := range []string{"hello", "good morning", "good night"} {
		log.Commit(append(log.Begin(uint64(seq)), greeting...))
	}

	log.SyncLater(1) // the first is done
	end, acked := log.Synced()
	for ; end < 3; end, acked = log.Synced() {
		<-wake
	}
	fmt.Printf("durable: items %d to %d\n", acked, end)
	log.Close(context.Background(), 1)
	// Output: durable: items 1 to 3
}
