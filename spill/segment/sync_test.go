package segment

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

func (b *bench) sync(acked uint64) {
	b.t.Helper()
	if err := b.store.Sync(b.t.Context(), acked); err != nil {
		b.t.Fatal(err)
	}
}

// during returns the operations that change or sync something while f runs.
func (b *bench) during(f func()) (ops []string) {
	before := len(b.disk.journal)
	f()
	for _, line := range b.disk.journal[before:] {
		kind, _, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"create", "write", "sync", "syncdir", "remove", "truncate"}, kind) {
			ops = append(ops, kind)
		}
	}
	return ops
}

// cutPower ends the machine, and opens another store.
func (b *bench) cutPower(seed byte) {
	b.t.Helper()
	b.mount.crash(rand.New(rand.NewChaCha8([32]byte{seed})))
	b.abort()
	b.open()
}

// begins checks where a store that was opened after a crash begins.
func (b *bench) begins(next, end uint64) {
	b.t.Helper()
	if r := b.found; r.Next != next || r.End != end || r.Items != end-next || !r.Crashed {
		b.t.Fatalf("found %+v, want items %d to %d after a crash", r, next, end)
	}
}

// versions returns the versions of the segments.
func (b *bench) versions() (all []byte) {
	b.t.Helper()
	for _, path := range b.paths() {
		h, _, err := parseHeader(b.data(path))
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, h.version)
	}
	return all
}

var goldenCursor = "" +
	"\x82\x1c\x00\x00" + // skippable chunk of 28 bytes
	"hopper" + // magic
	"\x02" + // version
	"\x00" + // flags
	"\x2a\x00\x00\x00\x00\x00\x00\x00" + // the segment's first item: 42
	"\x2c\x00\x00\x00\x00\x00\x00\x00" + // items below 44 are done
	"\x78\x05\x6a\x7c" // masked CRC-32C

func TestCursorFormat(t *testing.T) {
	want := cursor{first: 42, acked: 44}
	if diff := cmp.Diff([]byte(goldenCursor), appendCursor(nil, want)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got, is, ok := parseCursor([]byte(goldenCursor + "what follows"))
	if !is || !ok || got != want {
		t.Errorf("%+v, %t, %t", got, is, ok)
	}

	for n := range goldenCursor {
		if _, is, _ := parseCursor([]byte(goldenCursor[:n])); is {
			t.Errorf("%d bytes of a cursor are one", n)
		}
		if torn := tornCursor([]byte(goldenCursor[:n])); torn != (n >= chunkHeaderLen) {
			t.Errorf("%d bytes of a cursor may be the beginning of one: %t", n, torn)
		}
	}
	for bit := range len(goldenCursor) * 8 {
		b := []byte(goldenCursor)
		b[bit/8] ^= 1 << (bit % 8)
		_, is, ok := parseCursor(b)
		if inHeader := bit/8 < chunkHeaderLen; !is || ok != inHeader {
			t.Errorf("bit %d flipped: a cursor %t, sound %t", bit, is, ok)
		}
	}
	if _, _, ok := parseCursor(appendCursor(nil, cursor{acked: spill.MaxSeq})); ok {
		t.Error("an implausible number")
	}
}

func TestASyncCostsOneWriteOfACursorAndOneFsync(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(20, 5)
	b.sync(7) // the first segment of version 2
	b.put(20, 5)

	want := [][]string{{"write", "sync"}, nil, {"sync"}, {"write", "sync"}}
	var got [][]string
	for i, acked := range []uint64{12, 12, 12, 13} {
		if i == 2 {
			b.put(5, 5)
		}
		got = append(got, b.during(func() { b.sync(acked) }))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestASyncThatHasNothingToRecordStaysWithVersion1(t *testing.T) {
	b := newBench(t, unlimited)
	b.seq = 50
	b.put(60, 5)
	for range 3 {
		b.sync(50)
		b.put(20, 5)
	}
	b.sync(50)
	for _, v := range b.versions() {
		if v != version1 {
			t.Error("a segment of version", v)
		}
	}

	b.cutPower(1)
	b.begins(50, 170)
	b.trim(170)
	b.sync(170) // and all is done
	if names := b.disk.names(); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

func TestACursorOutlivesTheSegmentsThatItWasRecordedIn(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(100, 5)
	b.close(10)
	b.open()
	b.sync(33) // into a segment that has nothing else
	if v := b.versions(); v[len(v)-1] != version2 {
		t.Fatalf("versions %v", v)
	}

	for range 3 { // it stays, whatever happens
		b.kill()
		b.begins(33, 100)
		b.wants(33, [2]uint64{33, 100})
	}
	b.reopen(33)
	if b.found.Crashed || b.found.Next != 33 {
		t.Fatalf("found %+v", b.found)
	}

	b.trim(60)
	b.kill()
	if b.found.Next < 33 || b.found.Next > 60 {
		t.Fatalf("found %+v, want items from 33 to 60 on", b.found)
	}
	b.put(30, 5)
	b.trim(130)
	if names := b.disk.names(); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// Whatever the end of the machine interrupts, what was done at a sync stays so.
func TestAPowerCutWhileSegmentsAreTrimmedDoesNotBringBackWhatWasDone(t *testing.T) {
	for skip := range 16 {
		for seed := range byte(16) {
			b := newBench(t, unlimited)
			b.put(60, 5)
			b.sync(5)
			b.put(10, 5)
			b.sync(41) // in the middle of an older segment than the cursor's
			b.disk.fail(fault{kind: "", skip: skip, times: -1, err: syscall.EIO})
			_ = b.store.Trim(t.Context(), 70)
			b.disk.heal()
			b.cutPower(seed)
			if r := b.found; r.Items > 0 && r.Next < 41 {
				t.Fatalf("operation %d, seed %d: found %+v, though the items below 41 were done",
					skip, seed, r)
			}
		}
	}
}

// A put that fails must not take the segment away that has the cursor.
func TestAFailedPutKeepsACursor(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(50, 5)
	b.sync(22)
	b.disk.fail(fault{kind: "write", times: 1, err: syscall.ENOSPC, short: true})
	if err := b.tryPut(5); err == nil {
		t.Fatal("nothing fails")
	}
	b.cutPower(3)
	b.begins(22, 50)
	b.put(10, 5)
	b.wants(22, [2]uint64{22, 60})
}

func TestASyncAtTheLimitMakesItemsDurableAndIsMadeGoodLater(t *testing.T) {
	b := newBench(t, Config{MaxBytes: 8 << 10, SegmentSize: 2 << 10})
	for b.tryPut(3) == nil {
	}
	end, full := b.seq, b.store.Usage().Bytes
	b.store.writer.limits.max = full
	err := b.store.Sync(t.Context(), 2)
	if !errors.Is(err, ErrMaxBytes) {
		t.Fatalf("Sync: %v, want ErrMaxBytes", err)
	}
	if n := b.store.Usage().Bytes; n > full+footerLen { // the footer has its room
		t.Errorf("%d bytes, before %d", n, full)
	}
	b.cutPower(1)
	b.begins(0, end)

	b.store.writer.limits.max = b.store.Usage().Bytes
	if b.store.Sync(t.Context(), 2) == nil {
		t.Fatal("Sync at the limit has nothing to say")
	}
	b.trim(b.store.Usage().TrimAt + 1)
	b.sync(b.store.writer.acked)
	b.cutPower(2)
	b.begins(b.found.Next, end)
}

// What the kernel has dropped after a failed fsync is stored anew.
func TestWhatAFailedFsyncMayHaveLostIsStoredAgain(t *testing.T) {
	for seed := range byte(20) {
		b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
		b.put(30, 5)
		b.sync(3)
		b.put(30, 5)
		b.disk.fail(fault{kind: "sync", times: 1 + int(seed%3), err: syscall.EIO})
		tries := 0
		for b.store.Sync(t.Context(), 8) != nil {
			if tries++; tries > 5 {
				t.Fatal("Sync does not recover")
			}
		}

		b.wants(8, [2]uint64{8, 60})
		b.put(5, 5)
		b.sync(8)
		b.cutPower(seed)
		b.begins(8, 65)
		b.wants(8, [2]uint64{8, 65})
		b.trim(65)
		if u := b.store.Usage(); u.Bytes != 0 || len(b.disk.names()) > 0 {
			t.Fatalf("%+v, %q", u, b.disk.names())
		}
	}
}

// A sync that fails anywhere has promised nothing, and the next one holds.
func TestASyncThatFailsAnywhereIsMadeGood(t *testing.T) {
	for skip := range 14 {
		for _, kind := range []string{"", "write", "sync", "syncdir", "create"} {
			for _, active := range []bool{false, true} {
				b := newBench(t, unlimited)
				b.put(60, 5)
				if active {
					b.sync(3)
					b.put(7, 5)
				} else {
					b.reopen(3)
				}

				b.disk.fail(fault{kind: kind, skip: skip, times: 1, err: syscall.EIO, short: true})
				failed := b.store.Sync(t.Context(), 17) != nil
				if hit := b.disk.hit(kind); failed && !hit && kind != "" {
					t.Fatalf("%s %d: Sync fails, though nothing else does", kind, skip)
				}
				b.disk.heal()
				b.sync(17)
				end := b.seq
				b.cutPower(byte(skip))
				b.begins(17, end)
				b.wants(17, [2]uint64{17, end})
			}
		}
	}
}

// Items come twice at most, whatever becomes of a cursor.
func TestDamageToACursorCostsNoItem(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
		b.put(10, 5)
		b.sync(2)
		b.put(10, 5)
		b.sync(6)
		b.put(10, 5)
		b.sync(12)
		b.put(10, 5)
		if sealed {
			b.close(12)
		} else {
			b.abort()
		}

		path := slices.Max(b.paths())
		whole := slices.Clone(b.data(path))
		for at := range whole {
			_, is, _ := parseCursor(whole[at:])
			if !is || string(whole[at:at+4]) != cursorHeader {
				continue
			}
			for bit := range cursorLen * 8 {
				c := &bench{t: t, disk: b.disk.clone(), cfg: b.cfg, label: b.label, log: &logBuffer{}}
				c.disk.files[path].data[at+bit/8] ^= 1 << (bit % 8)
				c.open()
				if r := c.found; r.Next > 12 || r.End != 40 {
					t.Fatalf("sealed %t, offset %d, bit %d: found %+v", sealed, at, bit, r)
				}
				d := c.drain(c.found, testItem)
				if want := [][2]uint64{{c.found.Next, 40}}; !cmp.Equal(d.read, want) {
					t.Fatalf("sealed %t, offset %d, bit %d: read %v, want %v", sealed, at, bit, d.read, want)
				}
				c.abort()
			}
		}
	}
}

func TestAnItemThatLooksLikeACursorIsNone(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(10, 5)
	b.sync(3)
	evil := appendCursor(nil, cursor{first: 10, acked: 1 << 40})
	batch := spill.NewBatch(b.label, b.seq, evil)
	if n, err := b.store.Append(t.Context(), []*spill.Batch{batch}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.seq = batch.End()
	b.kill()
	b.begins(3, 11)
	b.reopen(4)
	if b.found.Next != 4 || b.found.Items != 7 {
		t.Fatalf("found %+v", b.found)
	}
}

func TestInspectShowsCursors(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MaxBytes: -1}
	s := New(cfg)
	_, err := s.Open(t.Context(), "test", true)
	must(t, err)
	s.mustAppend(t, 0, 5)
	must(t, s.Sync(t.Context(), 2))
	s.mustAppend(t, 5, 5)
	must(t, s.Sync(t.Context(), 4))

	l, err := Inspect(cfg.Dir)
	must(t, err)
	var acked []uint64
	for _, seg := range l.Segments {
		acked = append(acked, seg.Acked)
	}
	if diff := cmp.Diff([]uint64{0, 4}, acked); diff != "" || l.Next != 4 || l.Items != 6 {
		t.Errorf("%+v, acked (-want +got):\n%s", l, diff)
	}
	if _, err := Verify(cfg.Dir, func(e *spill.CorruptError) { t.Error(e) }); err != nil {
		t.Error(err)
	}
	must(t, s.Close(t.Context(), true, 4, 10))
	if state := l.Segments[1].State; state != StateOpen {
		t.Errorf("state %q", state)
	}
}

// Whoever is done with an item at a time takes no more space than for those
// that are not.
func TestCursorsDoNotPileUp(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 8 << 10})
	batch := spill.NewBatch(b.label, 0, make([][]byte, 5000)...) // in one chunk
	if n, err := b.store.Append(t.Context(), []*spill.Batch{batch}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.seq = 5000
	most := spill.Usage{}
	for acked := uint64(1); acked < 5000; acked++ {
		b.sync(acked)
		if u := b.store.Usage(); u.Bytes > most.Bytes {
			most = u
		}
		if acked%700 == 0 {
			b.kill()
			b.begins(acked, 5000)
		}
	}
	if most.Bytes > 20<<10 || b.store.Usage().Segments > 3 {
		t.Errorf("at most %+v, now %+v: %q", most, b.store.Usage(), b.disk.names())
	}
	b.cutPower(1)
	b.begins(4999, 5000)
	b.trim(5000)
	if names := b.disk.names(); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

func TestCursorsCountTowardTheLimit(t *testing.T) {
	for limit := int64(6000); limit < 6600; limit += 7 {
		for _, syncs := range []bool{false, true} {
			b := newBench(t, Config{MaxBytes: limit, SegmentSize: 1 << 20})
			b.put(2, 1)
			b.sync(1)
			for acked := uint64(2); b.tryPut(1) == nil; acked++ {
				if syncs {
					_ = b.store.Sync(t.Context(), acked)
				}
			}

			full := b.store.Usage()
			b.close(1) // what ends the segment has its room
			if u := b.store.Usage(); full.Bytes > u.Limit || u.Bytes > u.Limit {
				t.Fatalf("limit %d, syncs %t: %+v, after Close %+v", limit, syncs, full, u)
			}
		}
	}
}

func BenchmarkSync(b *testing.B) {
	s := New(Config{Dir: b.TempDir(), MaxBytes: -1})
	if _, err := s.Open(b.Context(), "test", true); err != nil {
		b.Fatal(err)
	}
	seq := uint64(0)
	for b.Loop() {
		batch := spill.NewBatch("test", seq, testItem(1), testItem(2), testItem(3))
		seq = batch.End()
		if _, err := s.Append(b.Context(), []*spill.Batch{batch}); err != nil {
			b.Fatal(err)
		}
		if err := s.Sync(b.Context(), seq-2); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(b.Context(), false, 0, 0); err != nil {
		b.Fatal(err)
	}
}

// A hooked file system calls a function, once, before it opens a file.
type hooked struct {
	*mount
	path string
	hook func()
}

func (h *hooked) Open(path string) (file, error) {
	if hook := h.hook; hook != nil && path == h.path {
		h.hook = nil
		hook()
	}
	return h.mount.Open(path)
}

func TestACopyTakesThePlaceOfASegmentWhileItIsRead(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(40, 5)
	b.abort()
	hooks := &hooked{mount: b.disk.mount()}
	b.mount, b.store = hooks.mount, newStore(b.cfg, hooks)
	if _, err := b.store.Open(t.Context(), b.label, true); err != nil {
		t.Fatal(err)
	}

	old := b.store.index.all()[1]
	hooks.path = old.path
	hooks.hook = func() {
		if err := b.store.rescue(old, errors.New("it was not synced")); err != nil {
			t.Error(err)
		}
	}
	b.wants(0, [2]uint64{0, 40})
	if hooks.hook != nil || b.disk.files[old.path] != nil {
		t.Error("the segment was not read, or is still there")
	}
	b.close(40)
}

func TestASyncFailsWhereTheDirectoryIsGone(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(5, 5)
	if err := os.Rename(b.cfg.Dir, b.cfg.Dir+".moved"); err != nil {
		t.Skip(err)
	}
	if err := b.store.Sync(t.Context(), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Sync: %v, want fs.ErrNotExist", err)
	}
	if err := os.Rename(b.cfg.Dir+".moved", b.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	b.sync(0)
	b.cutPower(1)
	b.begins(0, 5)
}
