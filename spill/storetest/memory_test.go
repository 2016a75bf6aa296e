package storetest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

const latency = 50 * time.Millisecond

func TestMemoryIsAStore(t *testing.T) {
	storetest.Test(t, func(*testing.T) storetest.Medium {
		return storetest.NewMemory().Medium()
	})
}

func TestMemoryWithLatencyIsAStore(t *testing.T) {
	storetest.TestInBubble(t, func(*testing.T) storetest.Medium {
		m := storetest.NewMemory()
		m.SetLatency(latency)
		return m.Medium()
	})
}

func TestMemoryThatOftenFailsIsAStore(t *testing.T) {
	storetest.TestInBubble(t, func(*testing.T) storetest.Medium {
		m := storetest.NewMemory()
		medium := m.Medium()
		medium.Store = func() spill.Store { return flaky{m.Store(), m, new(atomic.Bool)} }
		medium.Refuse = nil // it uses Fail, too
		return medium
	})
}

// A flaky store says "not now" to every other Append, Read and Sync, and has
// often stored what it says it has not. After Lift it takes everything, as a
// log does not ask again then.
type flaky struct {
	spill.Store
	m      *storetest.Memory
	lifted *atomic.Bool
}

var errFlaky = errors.New("connection lost")

func (f flaky) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	switch n := f.m.Calls(storetest.Append); {
	case f.lifted.Load():
	case n%4 == 0:
		f.m.LoseOutcome(1)
	case n%4 == 2:
		f.m.Fail(storetest.Append, 1, errFlaky)
	}
	return f.Store.Append(ctx, batches)
}

func (f flaky) Lift() {
	f.lifted.Store(true)
	f.Store.Lift()
}

func (f flaky) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	if f.m.Calls(storetest.Read)%2 == 0 {
		f.m.Fail(storetest.Read, 1, errFlaky)
	}
	return f.Store.Read(ctx, seq, from, buf)
}

func (f flaky) Sync(ctx context.Context, acked uint64) error {
	if f.m.Calls(storetest.Sync)%2 == 0 {
		f.m.Fail(storetest.Sync, 1, errFlaky)
	}
	return f.Store.Sync(ctx, acked)
}

// open opens a store on a medium.
func open(t *testing.T, m *storetest.Memory) spill.Store {
	t.Helper()
	s := m.Store()
	if _, err := s.Open(t.Context(), "test", true); err != nil {
		t.Fatal(err)
	}
	return s
}

func batches(n int) (all []*spill.Batch) {
	for i := range n {
		all = append(all, spill.NewBatch("test", uint64(i), []byte("item")))
	}
	return all
}

func TestBatchesOfAnAppendAreUnderWayTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := open(t, m)
		m.SetLatency(latency)

		start := time.Now()
		if n, err := s.Append(t.Context(), batches(4)); n != 4 || err != nil {
			t.Fatalf("Append: %d, %v", n, err)
		}
		if took := time.Since(start); took != latency {
			t.Errorf("Append of 4 batches took %v, want %v", took, latency)
		}
	})
}

func TestFailedCallsChangeNothing(t *testing.T) {
	m := storetest.NewMemory()
	s := open(t, m)

	wrong := errors.New("wrong")
	m.Fail(storetest.Append, 2, wrong)
	for range 2 {
		if n, err := s.Append(t.Context(), batches(4)); n != 0 || err != wrong {
			t.Fatalf("Append that is to fail: %d, %v", n, err)
		}
	}
	if u := s.Usage(); u.Bytes != 0 {
		t.Errorf("Usage after Appends that failed: %+v", u)
	}
	if n, err := s.Append(t.Context(), batches(4)); n != 4 || err != nil {
		t.Errorf("Append after those that were to fail: %d, %v", n, err)
	}
}

func TestAppendWhoseOutcomeIsLostStoresItsBatches(t *testing.T) {
	m := storetest.NewMemory()
	s := open(t, m)

	m.LoseOutcome(1)
	if n, err := s.Append(t.Context(), batches(4)); n != 0 || err == nil {
		t.Fatalf("Append whose outcome is lost: %d, %v", n, err)
	}
	before := s.Usage()
	if before.Bytes == 0 {
		t.Fatal("nothing is stored")
	}

	if n, err := s.Append(t.Context(), batches(4)); n != 4 || err != nil {
		t.Fatalf("Append of the same batches: %d, %v", n, err)
	}
	if u := s.Usage(); u != before {
		t.Errorf("the same batches take space again: Usage %+v, before %+v", u, before)
	}
}

func TestCallsHangUntilTheyAreResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := open(t, m)
		resume := m.Hang(storetest.Append)

		done := make(chan error, 1)
		go func() {
			_, err := s.Append(t.Context(), batches(1))
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Append that is to hang returns: %v", err)
		default:
		}

		if got := m.Calls(storetest.Append); got != 1 {
			t.Errorf("%d calls of Append, want 1", got)
		}
		resume()
		if err := <-done; err != nil {
			t.Errorf("Append that was resumed: %v", err)
		}
		resume()
	})
}

func TestCrashEndsCallsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := open(t, m)
		defer m.Hang(storetest.Append)()

		done := make(chan error, 1)
		go func() {
			_, err := s.Append(t.Context(), batches(1))
			done <- err
		}()
		synctest.Wait()
		m.Crash()
		if err := <-done; err == nil {
			t.Error("Append has not failed")
		}

		if u := open(t, m).Usage(); u.Bytes != 0 {
			t.Errorf("Append that the crash ended has stored something: Usage %+v", u)
		}
	})
}

func TestCallsThatBreakTheContractPanic(t *testing.T) {
	ctx := t.Context()
	buf := make([]byte, spill.MaxChunk)
	closed := func(m *storetest.Memory) spill.Store {
		s := open(t, m)
		if err := s.Close(ctx, true, 0, 0); err != nil {
			t.Fatal(err)
		}
		return s
	}

	for name, call := range map[string]func(m *storetest.Memory){
		"Append before Open": func(m *storetest.Memory) { m.Store().Append(ctx, batches(1)) },
		"Read before Open":   func(m *storetest.Memory) { m.Store().Read(ctx, 0, spill.Position{}, buf) },
		"Trim before Open":   func(m *storetest.Memory) { m.Store().Trim(ctx, 0) },
		"Lift before Open":   func(m *storetest.Memory) { m.Store().Lift() },
		"Close before Open":  func(m *storetest.Memory) { m.Store().Close(ctx, true, 0, 0) },
		"Append after Close": func(m *storetest.Memory) { closed(m).Append(ctx, batches(1)) },
		"Close twice":        func(m *storetest.Memory) { closed(m).Close(ctx, true, 0, 0) },
		"Open twice":         func(m *storetest.Memory) { open(t, m).Open(ctx, "test", true) },
		"Read into too little": func(m *storetest.Memory) {
			open(t, m).Read(ctx, 0, spill.Position{}, buf[1:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call(storetest.NewMemory())
		})
	}
}

func TestConcurrentCallsOfOneKindPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := open(t, m)
		resume := m.Hang(storetest.Append)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Append(t.Context(), batches(1))
		}()
		synctest.Wait()

		func() {
			defer func() {
				if recover() == nil {
					t.Error("Trim beside an Append: no panic")
				}
			}()
			s.Trim(t.Context(), 0)
		}()
		resume()
		<-done
	})
}

func TestDamageToAHeaderIsFoundByWhoeverReads(t *testing.T) {
	m := storetest.NewMemory()
	s := open(t, m)
	if _, err := s.Append(t.Context(), batches(9)); err != nil {
		t.Fatal(err)
	}
	m.CorruptHeader(4)

	ext, err := s.Read(t.Context(), 4, spill.Position{}, make([]byte, spill.MaxChunk))
	if err != nil || len(ext.Chunks) == 0 {
		t.Fatalf("Read: %+v, %v", ext, err)
	}
	if _, err := spill.ChunkLen(ext.Chunks); !errors.Is(err, spill.ErrStray) {
		t.Errorf("the damaged chunk: %v, want ErrStray", err)
	}
}
