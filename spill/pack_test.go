package spill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// A probe is a store that notes what it gets.
type probe struct {
	spill.Store
	appends []int              // batches of each Append
	types   []byte             // of chunks
	usage   func() spill.Usage // nil: that of the store
	left    [2]uint64          // what it is to keep at the end
}

func (s *probe) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	n, err := s.Store.Append(ctx, batches)
	if n > 0 {
		s.appends = append(s.appends, n)
	}
	for _, b := range batches[:n] {
		for chunk := range b.Chunks {
			s.types = append(s.types, chunk[0])
		}
	}
	return n, err
}

func (s *probe) Close(ctx context.Context, keep bool, next, end uint64) error {
	s.left = [2]uint64{next, end}
	return s.Store.Close(ctx, keep, next, end)
}

func (s *probe) Usage() spill.Usage {
	if s.usage != nil {
		return s.usage()
	}
	return s.Store.Usage()
}

// inBubbleWithProbe is for logs that are not kept, so that only the store
// refuses what is beyond its limit.
func inBubbleWithProbe(t *testing.T, test func(t *testing.T, r *rig, s *probe)) {
	t.Helper()
	var s *probe
	store := func(m *storetest.Memory) spill.Store {
		s = &probe{Store: m.Store()}
		return s
	}
	inBubbleOn(t, spill.Config{}, store, func(t *testing.T, r *rig) { test(t, r, s) })
}

func TestRunsArePackedWhileTheLogKeepsUp(t *testing.T) {
	inBubbleWithProbe(t, func(t *testing.T, r *rig, s *probe) {
		r.size = func(seq uint64) int { return 1000 }
		for range 100 {
			r.send(60)
		}
		if n := bytes.Count(s.types, []byte{1}); n > len(s.types)*2/3 || len(s.types) < 50 {
			t.Errorf("%d of %d chunks are stored uncompressed, though half of the items shrink",
				n, len(s.types))
		}
		r.takeAll()
		r.close()
	})
}

// highRuns is how many runs of highRun make just so much that memory fills.
const highRuns = 5

// highRun is the size of an item that is such a run.
const highRun = spill.MemHigh/highRuns - spill.FramesAt - 3

// compressible appends n items that shrink.
func (r *rig) compressible(n, size int) {
	for range n {
		b := append(r.log.Begin(r.sent), make([]byte, size)...)
		r.log.Commit(b)
		r.sent++
	}
}

func TestRunsAreStoredPlainWhereMemoryFillsAndThereIsSpaceToSpare(t *testing.T) {
	const runs = highRuns
	for _, tt := range []struct {
		name  string
		runs  int
		usage spill.Usage
		want  byte // the type of the first chunk
	}{
		{"little waits", runs - 1, spill.Usage{Limit: -1}, 0},
		{"memory fills", runs, spill.Usage{Limit: -1}, 1},
		{"much is stored already", runs, spill.Usage{Bytes: 256 << 20, Limit: -1}, 0},
		{"nearly as much is stored already", runs, spill.Usage{Bytes: 256<<20 - 1, Limit: -1}, 1},
		{"nothing may be stored", runs, spill.Usage{}, 0},
		{"a quarter of the limit is used", runs, spill.Usage{Bytes: 1 << 20, Limit: 4 << 20}, 0},
		{"less than a quarter of the limit is used", runs,
			spill.Usage{Bytes: 1<<20 - 1, Limit: 4 << 20}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubbleWithProbe(t, func(t *testing.T, r *rig, s *probe) {
				s.usage = func() spill.Usage { return tt.usage }
				// Packers have no chance to begin before that much waits.
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
				r.compressible(tt.runs+1, highRun)
				synctest.Wait()
				if len(s.types) == 0 || s.types[0] != tt.want {
					t.Errorf("chunks of types %v, want %d first", s.types, tt.want)
				}
				s.usage = nil
			})
		})
	}
}

// One look lasts for some runs, and no longer.
func TestRunsAreStoredPlainForAWhile(t *testing.T) {
	inBubbleWithProbe(t, func(t *testing.T, r *rig, s *probe) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		r.compressible(highRuns+1, highRun)
		synctest.Wait()
		for range spill.PlainRun + 20 {
			r.compressible(1, highRun)
			synctest.Wait()
		}

		plain := bytes.Count(s.types, []byte{1})
		if want := bytes.Repeat([]byte{1}, plain); !bytes.Equal(s.types[:plain], want) {
			t.Errorf("plain chunks do not come first: %v", s.types)
		}
		if plain != spill.PlainRun {
			t.Errorf("%d chunks are plain, want %d", plain, spill.PlainRun)
		}
	})
}

// What waits for the store is no reason to save time for packing.
func TestRunsArePackedWhereTheStoreIsWhatEverybodyWaitsFor(t *testing.T) {
	inBubbleWithProbe(t, func(t *testing.T, r *rig, s *probe) {
		resume := r.m.Hang(storetest.Append)
		for r.log.Room(0) {
			r.compressible(1, fullRun)
			synctest.Wait()
		}
		resume()
		synctest.Wait()
		ahead := s.types[:spill.MaxPacked] // packed while the store hung
		if n := bytes.Count(ahead, []byte{1}); n > 0 {
			t.Errorf("%d of %d chunks are stored uncompressed", n, len(ahead))
		}
	})
}

func TestAtMostSoManyRunsGoToTheStoreAtOnce(t *testing.T) {
	inBubbleWithProbe(t, func(t *testing.T, r *rig, s *probe) {
		resume := r.m.Hang(storetest.Append)
		r.fill()
		if h := r.held(); h.Chunks > spill.MaxPacked*spill.BufSize {
			t.Errorf("in memory: %+v", h)
		}
		r.size = sized(1000)
		resume()
		synctest.Wait()
		r.log.Rest(r.got)
		synctest.Wait()
		for _, n := range s.appends {
			if n > spill.MaxPacked {
				t.Errorf("Appends of so many batches: %v", s.appends)
			}
		}
		r.takeAll()
	})
}

func TestAFlushWritesAllInAFewCalls(t *testing.T) {
	inBubbleWithProbe(t, func(t *testing.T, r *rig, s *probe) {
		r.size = sized(20_000) // three in a run
		r.send(10)
		r.rest()
		if diff := cmp.Diff([]int{4}, s.appends); diff != "" {
			t.Errorf("batches of each Append (-want +got):\n%s", diff)
		}
		r.takeAll()
	})
}

// Promise 6: a store that hangs keeps nothing that others need.
func TestALogWhoseStoreHangsDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := newRig(t, spill.Config{Keep: true}, storetest.NewMemory())
		hung.open()
		resume := hung.m.Hang()
		hung.fill()
		sleep(2 * time.Second)
		if hung.log.Refusal(0) != spill.ErrHung {
			t.Fatal("the store does not hang: the test is of no use")
		}

		var rigs []*rig
		for range 49 {
			r := newRig(t, spill.Config{Keep: true}, storetest.NewMemory())
			r.open()
			rigs = append(rigs, r)
		}
		start := time.Now()
		for range 10 {
			for _, r := range rigs {
				for range 100 {
					if !r.log.Room(0) {
						t.Fatal("no room in a log whose store answers")
					}
					r.append()
				}
				r.take(30)
			}
			synctest.Wait()
			if n := spill.Packers(); n > 0 {
				t.Errorf("%d packers are busy", n)
			}
		}
		for _, r := range rigs {
			if r.m.Calls(storetest.Append) == 0 {
				t.Error("a log has written nothing")
			}
			r.takeAll()
			r.close()
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("the others took %v", d)
		}

		hung.take(1 << 20) // from memory
		if hung.got != hung.sent {
			t.Errorf("%d of %d items of the log that hangs are at hand", hung.got, hung.sent)
		}
		resume()
		synctest.Wait()
		hung.close()
	})
}

// All logs share the packers: while those are busy, none packs, and all go on
// when they are free.
func TestFewPackersServeAllLogs(t *testing.T) {
	release := sync.OnceFunc(spill.HoldPackers())
	defer release()
	one := newRig(t, spill.Config{}, storetest.NewMemory())
	one.size = sized(fullRun)
	one.open()
	for range 9 {
		one.append()
	}
	for range 1000 {
		runtime.Gosched()
	}
	for i := 0; working() > spill.MaxPackers; i++ {
		if i == 1000 {
			t.Fatalf("%d goroutines wait for packers, want at most %d", working(), spill.MaxPackers)
		}
		runtime.Gosched()
	}

	rigs := []*rig{}
	for range 20 {
		r := newRig(t, spill.Config{Keep: true}, storetest.NewMemory())
		r.open()
		for range 600 {
			r.append()
		}
		rigs = append(rigs, r)
	}

	for range 1000 {
		runtime.Gosched()
	}
	for _, r := range rigs {
		if h := r.held(); h.Chunks > 0 || r.m.Calls(storetest.Append) > 0 {
			t.Fatalf("a log has packed something: %+v", h)
		}
	}

	release()
	one.close()
	for _, r := range rigs {
		for r.m.Calls(storetest.Append) == 0 {
			<-r.wake
		}
		for r.got < r.sent {
			switch {
			case r.cursor != nil && r.cursor.Left > 0:
				r.check()
			case !r.next():
				<-r.wake
			}
		}
		r.close()
	}
}

// Items that are done while their run is packed or written need not be written,
// and their memory is given back once and by the last who uses it.
func TestRunsMayBeDoneWhileTheyArePackedOrWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.size = sized(10_000)
		for i := range 500 {
			for range i % 13 {
				r.append()
			}
			if i%4 == 0 {
				resume := r.m.Hang(storetest.Append)
				for range 40 {
					r.append()
				}
				synctest.Wait()
				r.take(1 << 20)
				r.log.Ack(r.got)
				resume()
			}
			r.take(i % 13)
			r.held()
		}
		r.takeAll()
		if u := r.log.Usage(); u.Bytes != 0 {
			t.Errorf("with everything done the store takes %+v", u)
		}
		r.close()
	})
}

func TestARefusedAppendKeepsWhatItHasStored(t *testing.T) {
	for _, rest := range []bool{false, true} {
		t.Run(fmt.Sprint("at rest ", rest), func(t *testing.T) {
			s := &partial{}
			store := func(m *storetest.Memory) spill.Store {
				s.Store = m.Store()
				return s
			}
			inBubbleOn(t, spill.Config{Keep: true}, store, func(t *testing.T, r *rig) {
				r.size = sized(30_000)
				for range 100 {
					r.append()
				}
				if rest {
					r.log.Rest(r.got)
				}
				sleep(time.Minute)
				r.takeAll()
				if s.again {
					t.Error("batches that were stored have come again")
				}
				r.close()
			})
		})
	}
}

// A partial store takes one batch of each Append.
type partial struct {
	spill.Store
	end   uint64
	again bool
}

func (s *partial) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	s.again = s.again || batches[0].First < s.end
	n, err := s.Store.Append(ctx, batches[:1])
	s.end = batches[0].End()
	if err == nil && len(batches) > 1 {
		err = errors.New("one at a time")
	}
	return n, err
}

// A store that breaks the contract is told from one that can't do better.
func TestAStoreThatGivesNoReasonIsAskedAgain(t *testing.T) {
	store := func(m *storetest.Memory) spill.Store { return &silent{Store: m.Store(), times: 3} }
	inBubbleOn(t, spill.Config{Keep: true}, store, func(t *testing.T, r *rig) {
		r.send(600)
		if err := r.log.Refusal(0); err == nil {
			t.Error("no refusal")
		}
		sleep(time.Minute)
		if err := r.log.Refusal(0); err != nil {
			t.Errorf("Refusal: %v", err)
		}
		r.takeAll()
		r.close()
	})
}

// A silent store stores nothing for some times, and says nothing.
type silent struct {
	spill.Store
	times int
}

func (s *silent) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	if s.times > 0 {
		s.times--
		return 0, nil
	}
	n, _ := s.Store.Append(ctx, batches)
	return n, errors.New("though all is stored")
}
