package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

func TestAMissingOrSwappedSegmentIsReportedExactly(t *testing.T) {
	for _, what := range []string{"deleted", "emptied", "swapped", "doubled"} {
		for nth := range 3 {
			for _, vouched := range []bool{true, false} {
				t.Run(fmt.Sprintf("segment %d %s, receipt %v", nth, what, vouched),
					func(t *testing.T) {
						b := newBench(t, unlimited)
						b.put(100, 5)
						paths := b.paths()
						if len(paths) < 4 {
							t.Fatal(paths)
						}
						path, other := paths[nth], paths[nth+1]
						first := b.store.index.segments[nth].first
						lost := b.store.index.segments[nth].end - first
						if vouched {
							b.close(0)
						} else {
							b.abort()
						}

						at := path
						switch files := b.disk.files; what {
						case "deleted":
							delete(files, path)
							at = b.cfg.Dir // the segment before it is sealed, and so not cut off
						case "emptied":
							files[path].data = nil
						case "swapped":
							files[path], files[other] = files[other], files[path]
							lost = 0
						case "doubled":
							double := filepath.Join(b.cfg.Dir, segmentName(12345))
							files[double] = &inode{data: files[path].data}
							lost = 0
						}
						if what == "deleted" && nth == 0 && !vouched {
							lost = 0 // it may have been done
						}

						b.open()
						d := b.drain(b.found, testItem)
						if d.losses() != lost || d.items()+d.losses() != b.found.Items ||
							b.found.End != 100 {
							t.Fatalf("%+v: read %v, %d lost, want %d: %v", b.found, d.read,
								d.losses(), lost, d.lost)
						}
						if lost > 0 && (len(d.lost) != 1 || d.lost[0].First != first ||
							d.lost[0].Path != at) {
							t.Errorf("lost: %v, want from %d on, at %s", d.lost, first, at)
						}
					})
			}
		}
	}
}

func TestATruncatedSegmentIsReportedAtItsPathAndOffset(t *testing.T) { // A19
	for _, vouched := range []bool{true, false} {
		b := newBench(t, unlimited)
		b.put(100, 5)
		if vouched {
			b.close(0)
		} else {
			b.abort()
		}
		path := b.paths()[1]
		at := chunkOffsets(t, b.data(path))[2]
		b.disk.files[path].data = b.data(path)[:at+7]

		b.open()
		d := b.drain(b.found, testItem)
		if len(d.lost) != 1 || d.lost[0].Path != path || d.lost[0].Offset != int64(at) ||
			d.lost[0].Err != errCutOff {
			t.Errorf("receipt %v: %v", vouched, d.lost)
		}
		if d.items()+d.losses() != 100 {
			t.Errorf("receipt %v: read %v, lost %v", vouched, d.read, d.lost)
		}
	}
}

func TestRecoveryCanBeInterruptedAndRepeated(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.trim(20)
	b.reopen(27)
	b.put(40, 5)
	b.disk.fail(fault{kind: "remove", times: -1, err: syscall.EBUSY})
	b.store.Trim(t.Context(), 50) // so that there is something to remove
	b.abort()
	b.disk.heal()

	whole := b.disk
	complete := false
	for n := 0; !complete; n++ {
		b.disk = whole.clone()
		b.disk.fail(fault{skip: n, times: -1, err: errDead})
		if b.tryOpen(true) == nil {
			b.abort()
		}
		complete = !b.disk.hit("") && len(b.disk.hits) == 0
		b.disk.heal()

		b.open()
		d := b.drain(b.found, testItem)
		if b.found.Next > 50 || b.found.End != 100 || d.items() != b.found.Items || !d.has(50) ||
			!b.found.Crashed {
			t.Fatalf("ended at operation %d: %+v, read %v, lost %v", n, b.found, d.read, d.lost)
		}
		b.close(100)
	}
}

func TestAStopInterruptedAtAnyPointLosesNothing(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.reopen(27)
	b.put(10, 5)
	b.abort()
	whole := b.disk
	for n, complete := 0, false; !complete; n++ {
		b.disk = whole.clone()
		b.open()
		before := b.disk.count
		b.disk.fail(fault{skip: n, times: -1, err: errDead})
		b.store.Close(t.Context(), true, 40, b.seq)
		complete = b.disk.count-before <= n
		b.disk.heal()

		b.open()
		d := b.drain(b.found, testItem)
		if b.found.Next > 40 || b.found.End != 70 || d.items() != b.found.Items || complete &&
			b.found.Crashed || n == 0 && !b.found.Crashed {
			t.Fatalf("ended at operation %d: %+v, read %v, lost %v", n, b.found, d.read, d.lost)
		}
		b.close(70)
	}
}

func TestACrashIsTold(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	oldest := b.store.Usage().TrimAt
	b.kill()
	if r := b.found; !r.Crashed || r.Repeated != oldest || r.Next != 0 || r.Items != 60 {
		t.Errorf("after a kill: %+v, the oldest segment ends at %d", r, oldest)
	}

	b.reopen(7)
	if r := b.found; r.Crashed || r.Repeated != 0 || r.Next != 7 {
		t.Errorf("after Close: %+v", r)
	}
	b.kill() // without having done anything
	if r := b.found; !r.Crashed || r.Repeated != oldest-7 || r.Next != 7 {
		t.Errorf("after Close, Open and a kill: %+v", r)
	}

	b.reopen(7)
	b.put(10, 5)
	b.trim(oldest)
	b.kill()
	if r := b.found; !r.Crashed || r.Next != oldest || r.End != 70 {
		t.Errorf("after Trim and a kill: %+v", r)
	}

	b.trim(70)
	b.kill()
	if r := b.found; r.Crashed || r.Items != 0 {
		t.Errorf("with nothing left: %+v", r)
	}
}

func TestOldestIsWhenTheOldestSegmentWasWritten(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.close(0)
	hour := time.Now().Add(-time.Hour).Truncate(0)
	b.disk.files[b.paths()[0]].modified = hour
	b.open()
	if !b.found.Oldest.Equal(hour) {
		t.Errorf("%v, want %v", b.found.Oldest, hour)
	}
	if ext := b.read(0, spill.Position{}, spill.MaxChunk); !ext.Stored.Equal(hour) {
		t.Errorf("%v, want %v", ext.Stored, hour)
	}
	start := time.Now()
	b.seq = 70
	b.put(1, 1)
	if ext := b.read(70, spill.Position{}, spill.MaxChunk); ext.Stored.Before(start) ||
		time.Since(ext.Stored) < 0 {
		t.Errorf("%v", ext.Stored)
	}
}

func TestAReceiptDoesNotVouchForWhatIsDone(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.reopen(0)
	if !b.hasReceipt() {
		t.Fatal("no receipt")
	}
	b.trim(b.store.Usage().TrimAt)
	if b.hasReceipt() {
		t.Errorf("%v", b.disk.names())
	}
	next := b.store.index.segments[0].first
	b.kill()
	b.wants(0, [2]uint64{next, 60})
}

func TestAReceiptIsGoneForGoodBeforeAnythingItVouchesFor(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.reopen(0)
	before := b.paths()
	b.disk.fail(fault{kind: "syncdir", times: 1, err: syscall.EIO})
	if err := b.store.Trim(t.Context(), 60); !errors.Is(err, syscall.EIO) {
		t.Errorf("Trim: %v", err)
	}
	if diff := cmp.Diff(before, b.paths()); diff != "" {
		t.Errorf("segments are gone, though the removal of the receipt may be undone:\n%s", diff)
	}
	b.trim(60)
	b.close(60)
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestACloseThatCouldNotStoreAllVouchesForNothing(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	must(t, b.store.Close(t.Context(), true, 13, 13))
	b.open()
	if r := b.found; r.Next != 13 || r.End != 60 || r.Items != 47 || r.Crashed {
		t.Errorf("%+v", r)
	}
	b.kill()
	if r := b.found; r.Next != 13 || r.Items != 47 || !r.Crashed {
		t.Errorf("%+v", r)
	}
}

func TestALossThatWasNotToldYetIsToldByTheNextStore(t *testing.T) {
	for _, last := range []bool{true, false} {
		b := newBench(t, unlimited)
		b.put(100, 5)
		b.close(0)
		paths := b.paths()
		lost := paths[1]
		if last {
			lost = paths[len(paths)-1]
		}
		delete(b.disk.files, lost)

		b.open()
		b.reopen(3)
		if d := b.drain(b.found, testItem); d.items()+d.losses() != 97 || len(d.lost) != 1 {
			t.Errorf("last %v: read %v, lost %v", last, d.read, d.lost)
		}
	}
}

func TestOpenRefusesWhatItMustNotTouch(t *testing.T) {
	future := func(f *inode) { f.data = futureHeader() }
	for _, tt := range []struct {
		name  string
		label string
		keep  bool
		spoil func(*inode)
		want  error
	}{
		{"a version that is not known", "test", true, future, spill.ErrVersion},
		{"a version that is not known, not to be kept", "test", false, future, spill.ErrVersion},
		{"another label", "other", true, nil, &spill.LabelError{}},
		{"another label, not to be kept", "other", false, nil, &spill.LabelError{}},
		{"items that were left on purpose", "test", false, nil, spill.ErrNotResumed},
	} {
		for _, closed := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, ", closed ", closed), func(t *testing.T) {
				b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
				b.put(5, 5)
				if closed {
					b.close(0)
				} else {
					b.abort()
				}
				path, f := b.disk.only(t)
				if tt.spoil != nil {
					tt.spoil(f)
				}

				before, names := string(f.data), fmt.Sprint(b.disk.names())
				b.label = tt.label
				err := b.tryOpen(tt.keep)
				var label *spill.LabelError
				if !errors.Is(err, tt.want) && !(errors.As(tt.want, &label) &&
					errors.As(err, &label)) {
					t.Errorf("Open: %v, want %v", err, tt.want)
				}
				if label != nil && (label.Found != "test" || label.Want != "other" ||
					label.Path != path) {
					t.Errorf("LabelError: %+v", label)
				}
				if strings.Count(err.Error(), "spill:") != 1 {
					t.Errorf("Open: %v", err)
				}
				if label == nil && !strings.Contains(err.Error(), b.cfg.Dir) {
					t.Errorf("Open: %v", err)
				}
				if string(f.data) != before || fmt.Sprint(b.disk.names()) != names {
					t.Errorf("changed: %v, before %v", b.disk.names(), names)
				}
				open := b.disk.handles
				if closed && open != 0 {
					t.Errorf("%d files are open", open)
				}
				if _, err := os.Stat(b.cfg.Dir); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestTheLeftoverOfALogThatWasNotToKeepIsDeleted(t *testing.T) {
	b := newBench(t, unlimited)
	b.close(0)
	must(t, b.tryOpen(false))
	if b.log.count("ended without Close") > 0 {
		t.Error("said of an empty directory")
	}
	b.put(60, 5)
	b.abort()
	must(t, b.tryOpen(false))
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" || b.found.Items != 0 ||
		b.found.End != 0 {
		t.Errorf("%+v, left: %s", b.found, diff)
	}
	if n := b.log.count("ended without Close"); n != 1 {
		t.Errorf("said %d times", n)
	}
	b.put(60, 5)
	b.abort()

	b.open() // one that keeps its items takes what there is
	b.wants(0, [2]uint64{0, 60})
}

func TestNumbersNearTheLimitAreNobodys(t *testing.T) { // A20
	b := newBench(t, unlimited)
	b.put(10, 5)
	b.close(3)
	planted := []string{
		"18446744073709551615.sz", "09223372036854775808.sz",
		"18446744073709551600-18446744073709551615.ack",
		"09223372036854775809-09223372036854775810.ack",
	}
	whole := string(b.data(b.paths()[0]))
	for _, name := range planted {
		b.disk.files[filepath.Join(b.cfg.Dir, name)] = &inode{data: []byte(whole)}
	}

	b.open()
	if r := b.found; r.Next != 3 || r.End != 10 || r.Items != 7 {
		t.Errorf("%+v", r)
	}
	if n := b.log.count("left alone"); n != len(planted) {
		t.Errorf("said %d times, want once for each of %d files", n, len(planted))
	}
	b.put(10, 5)
	b.wants(3, [2]uint64{3, 20})
	b.trim(20)
	b.close(20)
	if n := len(b.disk.names()); n != len(planted) {
		t.Errorf("left: %v", b.disk.names())
	}
}

func TestASegmentWithNumbersNearTheLimitInsideIsNoTrap(t *testing.T) { // A20
	for _, h := range []header{
		{first: 1<<64 - 1}, {first: 1 << 63}, {first: 5, follows: 1<<64 - 1}, {first: 5,
			acked: 1<<64 - 1},
	} {
		b := newBench(t, unlimited)
		b.put(5, 5)
		b.abort()
		h.version, h.label = version1, b.label
		b.disk.files[filepath.Join(b.cfg.Dir, segmentName(5))] = &inode{data: appendHeader(nil, h)}
		b.open()
		b.put(10, 5)
		b.wants(0, [2]uint64{0, 15})
	}
}

// TestOpenWithstandsAnyNumbers opens directories whose headers, chunks, footers
// and receipts have right checksums and any numbers.
func TestOpenWithstandsAnyNumbers(t *testing.T) { // A20
	runs := 1000
	dir := t.TempDir()
	if soak() {
		runs = 100_000
	}
	for seed := range runs {
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		number := func() uint64 {
			base := []uint64{0, 5, 10, spill.MaxSeq - 12, spill.MaxSeq,
				1<<64 - 20}[min(r.IntN(12), 5)]
			return base + uint64(r.IntN(12))
		}
		d := newDisk()
		for range 1 + r.IntN(4) {
			h := header{version: version1, first: number(), follows: number(), acked: 0, kept: true, label: "bytes"}
			if r.IntN(4) == 0 {
				h.acked = number()
			}
			b := appendHeader(nil, h)
			for range r.IntN(3) {
				first := h.first
				if r.IntN(4) == 0 {
					first = number()
				}
				for chunk := range spill.NewBatch("bytes", first, make([][]byte,
					1+r.IntN(5))...).Chunks {
					b = append(b, chunk...)
				}
			}
			if r.IntN(2) == 0 {
				b = appendFooter(b, footer{first: h.first, end: max(h.first, number()), frames: 1})
			}
			name := h.first
			if r.IntN(4) == 0 {
				name = number()
			}
			d.files[filepath.Join(dir, segmentName(name))] = &inode{data: b}
		}
		if next := number(); r.IntN(2) == 0 {
			d.files[filepath.Join(dir, receipt{next, max(next, number())}.name())] = &inode{}
		}
		if readAll(t, d, dir, false); t.Failed() {
			t.Fatal("seed", seed)
		}
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	b := newBench(t, unlimited)
	foreign := map[string]string{}
	for _, name := range []string{"notes.txt", "1.sz", "00000000000000000007.szx",
		"00000000000000000001.ack", segmentName(99), segmentName(98)} {
		foreign[name] = "sNaPpY " + name
	}
	foreign[segmentName(98)] = "x"
	for name, data := range foreign {
		b.disk.files[filepath.Join(b.cfg.Dir, name)] = &inode{data: []byte(data)}
	}
	b.disk.files[filepath.Join(b.cfg.Dir, segmentName(50))] = &inode{strange: syscall.ELOOP}
	b.kill()
	b.put(120, 5)
	b.wants(0, [2]uint64{0, 120})
	b.kill()
	b.wants(0, [2]uint64{0, 120})
	b.trim(120)
	b.close(120)
	if n := len(b.disk.names()); n != len(foreign)+1 {
		t.Errorf("left: %v", b.disk.names())
	}
	for name, data := range foreign {
		if got := string(b.data(filepath.Join(b.cfg.Dir, name))); got != data {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestASegmentThatAPowerCutLeftAsZerosIsDeleted(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(5, 5)
	b.abort()
	b.disk.files[filepath.Join(b.cfg.Dir, segmentName(5))] = &inode{data: make([]byte, 5000)}
	b.open()
	if n := len(b.paths()); n != 1 || b.found.Items != 5 {
		t.Errorf("%v, %+v", b.disk.names(), b.found)
	}
}

func TestCloseSyncsWhatAKilledPredecessorHasLeft(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(20, 5)
	b.kill()
	_, f := b.disk.only(t)
	b.close(0)
	if f.synced != len(f.data) {
		t.Errorf("%d of %d bytes are synced", f.synced, len(f.data))
	}

	b.open()
	b.put(20, 5)
	b.kill()
	b.disk.fail(fault{kind: "sync", times: 1, err: syscall.EIO})
	err := b.store.Close(t.Context(), true, 0, 40)
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(),
		"items 0 to 19 may not survive") {
		t.Errorf("Close: %v", err)
	}
}

func TestAnUnfinishedSegmentIsDeleted(t *testing.T) {
	whole := appendHeader(nil, header{version: version1, first: 5, label: "test", kept: true})
	for n := range len(whole) + 1 {
		b := newBench(t, unlimited)
		b.put(5, 5)
		b.abort()
		b.disk.files[filepath.Join(b.cfg.Dir, segmentName(5))] = &inode{data: whole[:n]}
		b.open()
		if n := len(b.paths()); n != 1 || b.found.Items != 5 {
			t.Errorf("%d bytes of a header: %v, %+v", n, b.disk.names(), b.found)
		}
		b.close(5)
	}
}

func TestAMarkWithoutItsSegmentHidesNothing(t *testing.T) { // R6
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.reopen(0)
	b.disk.fail(fault{kind: "read", times: 1, err: syscall.EIO})
	if d := b.drainFrom(0); len(d.lost) != 1 {
		t.Fatalf("lost %v", d.lost)
	}
	b.reopen(60)
	salvaged := b.paths()[0]
	mark := filepath.Join(b.cfg.Dir, retainedName(salvaged))
	delete(b.disk.files, salvaged) // as the message tells the user to

	// A store that is using the directory does not take the name.
	if b.seq = firstOf(salvaged); b.found.End > b.seq {
		t.Fatalf("%+v", b.found)
	}
	b.put(10, 5)
	if b.disk.files[salvaged] != nil || b.disk.files[mark] == nil {
		t.Errorf("%v", b.disk.names())
	}
	b.reopen(0)
	if b.found.Items != 10 || b.found.Crashed || b.disk.files[mark] != nil {
		t.Errorf("%+v: %v", b.found, b.disk.names())
	}
	if d := b.drain(b.found, testItem); d.items() != 10 || len(d.lost) > 0 {
		t.Errorf("read %v, lost %v", d.read, d.lost)
	}
	b.close(b.seq)

	// Neither does the mark stay for the next one.
	b.disk.files[mark] = &inode{}
	must(t, b.tryOpen(false))
	must(t, b.store.Close(t.Context(), false, 0, 0))
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestANameWithAMarkIsTaken(t *testing.T) { // R6
	for _, strange := range []error{nil, syscall.ELOOP} {
		b := newBench(t, unlimited)
		mark := filepath.Join(b.cfg.Dir, retainedName(segmentName(0)))
		b.disk.files[mark] = &inode{strange: strange}
		b.disk.fail(fault{kind: "open", times: 1, err: syscall.EMFILE})
		if err := b.tryPut(5); !errors.Is(err, syscall.EMFILE) || !namesLimit(err) {
			t.Errorf("Append: %v", err)
		}
		b.put(5, 5)
		if diff := cmp.Diff([]string{filepath.Base(mark), segmentName(1)},
			b.disk.names()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		b.wants(0, [2]uint64{0, 5})
	}
}

func TestOfTwoReceiptsTheNewerCounts(t *testing.T) { // R13
	for _, old := range []receipt{{0, 5}, {0, 0}} {
		b := newBench(t, unlimited)
		b.put(5, 5)
		b.reopen(0)
		b.put(5, 5)
		b.close(0)
		for _, name := range []string{old.name(), old.openedName()} { // as if it was replaced just now
			b.disk.files[filepath.Join(b.cfg.Dir, name)] = &inode{}
		}

		b.open()
		if r := b.found; r.Crashed || r.Repeated > 0 || r.Items != 10 {
			t.Errorf("%v: %+v", old, r)
		}
		if diff := cmp.Diff([]string{receipt{0, 10}.name(), receipt{0, 10}.openedName(),
			segmentName(0), segmentName(5)}, b.disk.names()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		delete(b.disk.files, filepath.Join(b.cfg.Dir, segmentName(5))) // it vouches for this
		b.kill()
		if d := b.drain(b.found, testItem); d.losses() != 5 {
			t.Errorf("read %v, lost %v", d.read, d.lost)
		}
	}
}

// syncedWhole checks that all segments survive a power cut.
func (b *bench) syncedWhole() {
	b.t.Helper()
	for _, path := range b.paths() {
		if f := b.disk.files[path]; f.synced != len(f.data) {
			b.t.Errorf("%s: %d of %d bytes are synced", path, f.synced, len(f.data))
		}
		if b.disk.durable[path] != b.disk.files[path] {
			b.t.Errorf("%s is not in the directory", path)
		}
	}
}

func TestCloseSyncsWhatHasEndedWithoutASeal(t *testing.T) { // R10
	for _, tt := range []struct {
		name string
		end  func(b *bench)
	}{
		{"a write that can't be cut back", func(b *bench) {
			b.disk.fail(fault{kind: "write", times: 1, err: syscall.EIO, short: true})
			b.disk.fail(fault{kind: "truncate", times: 1, err: syscall.EIO})
			if b.tryPut(5) == nil {
				b.t.Error("no error")
			}
		}},
		{"somebody adds to the file", func(b *bench) {
			_, f := b.disk.only(b.t)
			f.data = append(f.data, make([]byte, 100)...)
		}},
		{"no room for the footer", func(b *bench) {
			b.disk.fail(fault{kind: "write", times: 1, err: syscall.ENOSPC})
			b.store.writer.seal()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(10) {
				b := newBench(t, unlimited)
				b.put(5, 5)
				tt.end(b)
				b.put(5, 5)
				b.close(0)
				b.syncedWhole()
				b.mount.crash(rand.New(rand.NewPCG(seed, 2)))
				b.open()
				if d := b.drainFrom(0); d.items() != 10 || d.losses() > 0 {
					t.Fatalf("read %v, lost %v", d.read, d.lost)
				}
				b.close(10)
			}
		})
	}
}

func TestCloseSyncsWhatALogHasLeftThatWasNotToKeep(t *testing.T) { // R10
	b := newBench(t, unlimited)
	b.close(0)
	must(t, b.tryOpen(false))
	b.put(60, 5)
	b.abort()
	b.open()
	b.close(0)
	b.syncedWhole()
}

func TestCloseSyncsNothingTwice(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.close(0)
	if n := b.disk.operations("sync"); n != len(b.paths()) {
		t.Errorf("%d syncs of %d segments", n, len(b.paths()))
	}
	b.open()
	b.close(0)
	if n := b.disk.operations("sync"); n != len(b.paths()) {
		t.Errorf("%d syncs of %d segments", n, len(b.paths()))
	}
}

func TestWhatStandsBehindTheItemsThatAReceiptVouchesForIsNoItem(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(5, 5)
	b.disk.fail(fault{kind: "write", times: 1, err: syscall.ENOSPC}) // the footer
	b.close(0)
	path, f := b.disk.only(t)
	whole := string(f.data)

	for _, tt := range []struct {
		name  string
		first uint64 // of the receipt
		junk  string
		want  uint64 // items
	}{
		{"nothing", 0, "", 5},
		{"less than a footer", 0, strings.Repeat("junk", footerLen/4), 5},
		{"more", 0, strings.Repeat("junk", footerLen), 5},
		{"more, part of it done", 4, strings.Repeat("junk", footerLen), 1},
	} {
		b.disk.files = map[string]*inode{
			path: {data: []byte(whole + tt.junk)},
			filepath.Join(b.cfg.Dir, receipt{tt.first, 5}.name()): {},
		}
		b.open()
		d := b.drain(b.found, testItem)
		if b.found.Items != tt.want || d.items() != tt.want || d.losses() > 0 || b.found.End != 5 {
			t.Errorf("%s: %+v: read %v, lost %v", tt.name, b.found, d.read, d.lost)
		}
		b.abort()
	}
}

func TestJunkBehindTheLastNumberIsNoItem(t *testing.T) { // A20
	b := newBench(t, unlimited)
	b.seq = spill.MaxSeq - 3
	b.put(3, 3)
	b.abort()
	_, f := b.disk.only(t)
	f.data = append(f.data, strings.Repeat("junk", footerLen)...)
	b.open()
	if b.found.End != spill.MaxSeq || b.found.Items != 3 {
		t.Errorf("%+v", b.found)
	}
}

func TestWhatIsEmptyWasNotLeftOnPurpose(t *testing.T) {
	b := newBench(t, unlimited)
	b.close(0)
	head := appendHeader(nil, header{version: version1, kept: true, label: b.label})
	b.disk.files[filepath.Join(b.cfg.Dir, segmentName(0))] = &inode{data: head}
	b.disk.files[filepath.Join(b.cfg.Dir, receipt{5, 5}.name())] = &inode{}
	must(t, b.tryOpen(false))
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestAReceiptThatCanNotBeMarkedIsTold(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(5, 5)
	b.reopen(0)
	if n := b.log.count("may not notice"); n != 0 {
		t.Errorf("said %d times", n)
	}
	b.close(0)
	b.disk.fail(fault{kind: "create", skip: 1, times: 1, err: syscall.EIO}) // behind the probe
	b.open()
	if n := b.log.count("may not notice"); n != 1 {
		t.Errorf("said %d times", n)
	}
	b.wants(0, [2]uint64{0, 5})
}
