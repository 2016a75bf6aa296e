package jetstream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"example.com/hopper/spill"
)

// item returns the item with a number and a size, which looks like no other.
func item(seq uint64, size int) []byte {
	random := rand.NewPCG(seq, 7)
	b := make([]byte, 0, size+8)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, random.Uint64())
	}
	return b[:size]
}

// batch returns a batch of n items of a size.
func batch(first uint64, n, size int) *spill.Batch {
	all := make([][]byte, n)
	for i := range all {
		all[i] = item(first+uint64(i), size)
	}
	return spill.NewBatch(label, first, all...)
}

func put(t testing.TB, s spill.Store, batches ...*spill.Batch) {
	t.Helper()
	n, err := s.Append(t.Context(), batches)
	if n != len(batches) || err != nil {
		t.Fatalf("Append of %d batches: %d are stored, %v", len(batches), n, err)
	}
}

// expectItems checks that a store has all items from next up to end, each of a
// size.
func expectItems(t testing.TB, s spill.Store, next, end uint64, size int) {
	t.Helper()
	if lost := readItems(t, s, next, end, size); len(lost) > 0 {
		t.Fatalf("items are lost: %v", lost)
	}
}

// readItems reads the items from next up to end, and returns those that are
// reported as lost.
func readItems(t testing.TB, s spill.Store, next, end uint64, size int) (lost []*spill.CorruptError) {
	t.Helper()
	for it, err := range spill.Items(t.Context(), s, label, spill.Range{Next: next, End: end}) {
		damage := (*spill.CorruptError)(nil)
		switch {
		case errors.As(err, &damage):
			if damage.First != next {
				t.Fatalf("%v, want item %d", err, next)
			}
			lost = append(lost, damage)
			next += damage.Items
		case err != nil:
			t.Fatal(err)
		case it.Seq >= end:
			return lost
		case it.Seq != next || !bytes.Equal(it.Bytes, item(next, size)):
			t.Fatalf("item %d of %d bytes, want item %d of %d", it.Seq, len(it.Bytes), next, size)
		default:
			next++
		}
	}
	if next != end {
		t.Fatalf("items up to %d, want %d", next, end)
	}
	return lost
}
