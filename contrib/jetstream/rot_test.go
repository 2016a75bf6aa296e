package jetstream_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.com/hopper/contrib/jetstream"
	"example.com/hopper/spill"
)

// TestABitThatFlipsInTheServersFilesIsReportedExactly flips one while the
// server is stopped: with a store that goes on afterwards, and with one that
// was closed and is opened anew. The server drops what it finds damaged,
// sometimes more.
func TestABitThatFlipsInTheServersFilesIsReportedExactly(t *testing.T) {
	t.Parallel()
	places := 8
	if soak() {
		places = 200
	}
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprint("closed ", closed), func(t *testing.T) {
			t.Parallel()
			damaged := 0
			for i := range places {
				damaged += testRot(t, float64(i)/float64(places), closed)
			}
			t.Logf("%d of %d flips have cost items", damaged, places)
			if damaged < places/2 {
				t.Errorf("only %d of %d flips have cost items", damaged, places)
			}
		})
	}
}

// testRot returns 1 if the flip has cost items.
func testRot(t *testing.T, place float64, closed bool) int {
	const n, size = 60, 3000
	h := newHost(t)
	js := connect(t, h.url())
	defer js.Conn().Close()
	s := newStore(t, js, jetstream.Config{Lease: time.Minute})
	open(t, s)
	for first := uint64(0); first < n; first += 10 {
		put(t, s, batch(first, 10, size))
	}
	if closed {
		if err := s.Close(t.Context(), true, 0, n); err != nil {
			t.Fatal(err)
		}
	}

	h.stop()
	flipIn(t, h.opts.StoreDir, place)
	h.start()
	defer h.stop()
	if closed {
		until(t, "the client is connected anew", func() bool {
			return js.Conn().Stats().Reconnects > 0 && js.Conn().IsConnected()
		})
		s = newStore(t, js, jetstream.Config{Lease: time.Minute})
		if r := open(t, s); r.Next != 0 || r.End != n {
			t.Errorf("Open after a flip at %.3f: %+v, want items 0 to %d", place, r, n-1)
		}
	}

	until(t, "the store goes on", func() bool {
		stored, err := s.Append(t.Context(), []*spill.Batch{batch(n, 10, size)})
		return stored == 1 && err == nil
	})

	lost := uint64(0)
	for _, e := range readItems(t, s, 0, n+10, size) {
		lost += e.Items
	}
	s.Close(t.Context(), true, n+10, n+10) // which may tell of the loss
	return int(min(lost, 1))
}

// flipIn flips a bit in the files in which a server keeps its messages.
func flipIn(t *testing.T, dir string, place float64) {
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", streamName, "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("no blocks in %s: %v", dir, err)
	}
	b := must[[]byte](t)(os.ReadFile(blocks[0]))
	b[int(place*float64(len(b)))] ^= 1 << 3
	if err := os.WriteFile(blocks[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}
