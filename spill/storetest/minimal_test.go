package storetest_test

import (
	"bytes"
	"context"
	"math"
	"slices"
	"sync"
	"testing"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// A minimal store does no more than the contract demands: it finds its batches
// by number alone, returns each whole, and keeps those that come twice.
type minimal struct {
	mu      sync.Mutex
	used    bool
	keep    bool
	crashed bool
	label   string
	next    uint64 // the items below are done
	end     uint64
	batches []stored
}

type stored struct {
	first, end uint64
	chunks     []byte
}

func TestMinimalStoreIsAStore(t *testing.T) {
	storetest.Test(t, func(*testing.T) storetest.Medium {
		m := &minimal{}
		return storetest.Medium{
			Store: func() spill.Store { return m },
			Crash: func(spill.Store) { m.used = false },
			Corrupt: func(seq uint64) {
				for _, b := range m.batches {
					storetest.FlipBit(b.chunks, seq)
				}
			},
		}
	})
}

func (m *minimal) Open(_ context.Context, label string, keep bool) (spill.Range, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.used:
		return spill.Range{}, spill.ErrLocked
	case len(m.batches) > 0 && m.label != label:
		return spill.Range{}, &spill.LabelError{Found: m.label, Want: label}
	case len(m.batches) > 0 && m.keep && !keep:
		return spill.Range{}, spill.ErrNotResumed
	case !keep:
		m.batches, m.crashed = nil, false
	}

	r := spill.Range{Next: m.end, End: m.end, Crashed: m.crashed}
	for i, b := range m.batches {
		if i == 0 {
			r.Next = max(b.first, m.next)
		}
		if at := max(b.first, r.Next, m.reached(i)); at < b.end {
			r.Items += b.end - at
		}
	}
	if r.Crashed {
		r.Repeated = r.Items
	}
	m.used, m.keep, m.label, m.crashed = true, keep, label, true
	return r, nil
}

// reached returns the end of the batches before one.
func (m *minimal) reached(i int) (end uint64) {
	for _, b := range m.batches[:i] {
		end = max(end, b.end)
	}
	return end
}

func (m *minimal) Append(_ context.Context, batches []*spill.Batch) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range batches {
		s := stored{first: b.First, end: b.End()}
		for chunk := range b.Chunks {
			s.chunks = append(s.chunks, chunk...)
		}
		m.batches = append(m.batches, s)
		m.end = max(m.end, s.end)
	}

	slices.SortStableFunc(m.batches, func(a, b stored) int {
		return int(min(max(int64(a.first)-int64(b.first), -1), 1))
	})
	return len(batches), nil
}

func (m *minimal) Read(
	_ context.Context, seq uint64, _ spill.Position, _ []byte,
) (spill.Extent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.batches {
		if b.end > seq {
			first := max(b.first, seq)
			return spill.Extent{First: first, Chunks: bytes.Clone(b.chunks), End: b.end}, nil
		}
	}
	return spill.Extent{First: m.end, End: m.end}, nil
}

func (m *minimal) Trim(_ context.Context, acked uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trim(acked)
	return nil
}

func (m *minimal) trim(acked uint64) {
	m.batches = slices.DeleteFunc(m.batches, func(b stored) bool { return b.end <= acked })
}

func (m *minimal) Sync(_ context.Context, acked uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next, m.end = max(m.next, acked), max(m.end, acked)
	return nil
}

func (m *minimal) Lift() {}

func (m *minimal) Usage() spill.Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := spill.Usage{Limit: -1, Segments: len(m.batches), TrimAt: math.MaxUint64}
	for _, b := range m.batches {
		u.Bytes += int64(len(b.chunks))
		u.TrimAt = min(u.TrimAt, b.end)
	}
	return u
}

func (m *minimal) Close(_ context.Context, keep bool, next, end uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used, m.crashed = false, false
	m.trim(next)
	m.next = next
	if !keep {
		m.batches, m.next, m.end = nil, 0, 0
	}
	return nil
}
