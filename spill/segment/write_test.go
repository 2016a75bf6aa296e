package segment

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

func TestAFullDiskRefusesWholeBatchesUntilThereIsRoom(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		for _, short := range []bool{true, false} {
			t.Run(fmt.Sprint(err, ", short ", short), func(t *testing.T) {
				b := newBench(t, unlimited)
				b.put(5, 5)
				b.disk.fail(fault{kind: "write", times: 3, err: err, short: short})
				for range 3 {
					if got := b.tryPut(5); !errors.Is(got, err) {
						t.Fatalf("Append: %v, want %v", got, err)
					}
					if got := b.disk.used(); got != b.store.Usage().Bytes {
						t.Fatalf("%d bytes on disk, Usage says %d", got, b.store.Usage().Bytes)
					}
				}
				b.put(50, 5)
				b.wants(0, [2]uint64{0, 55})
				b.kill()
				b.wants(0, [2]uint64{0, 55})
			})
		}
	}
}

func TestAWriteThatCannotBeCutBackEndsTheSegment(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(5, 5)
	b.disk.fail(fault{kind: "write", times: 1, err: syscall.EIO, short: true})
	b.disk.fail(fault{kind: "truncate", times: 1, err: syscall.EIO})
	if err := b.tryPut(5); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	b.put(10, 5)
	b.wants(0, [2]uint64{0, 15})
	if n := len(b.paths()); n < 2 {
		t.Errorf("%d segments", n)
	}

	b.kill() // the torn tail was never part of the store
	b.wants(0, [2]uint64{0, 15})
}

func TestABatchWithManyChunksIsStoredWholeOrNotAtAll(t *testing.T) {
	large := slices.Repeat(pool[:1<<16], 5)
	for n := range 6 {
		b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
		b.put(5, 5)
		before := b.disk.used()

		b.disk.fail(fault{kind: "write", skip: n, times: 1, err: syscall.ENOSPC, short: true})
		batch := spill.NewBatch(b.label, 5, large)
		stored, err := b.store.Append(t.Context(), []*spill.Batch{batch, b.batch(6, 2)})
		if n < 6 && (stored != 0 || !errors.Is(err, syscall.ENOSPC)) || b.disk.used() != before {
			t.Errorf("chunk %d: %d stored, %v, %d bytes more", n, stored, err, b.disk.used()-before)
		}

		if stored, err := b.store.Append(t.Context(), []*spill.Batch{batch, b.batch(6,
			2)}); stored != 2 || err != nil {
			t.Fatal(stored, err)
		}
		b.seq = 8
		item := func(seq uint64) []byte {
			if seq == 5 {
				return large
			}
			return testItem(seq)
		}
		if d := b.drain(spill.Range{End: 8}, item); d.items() != 8 {
			t.Errorf("%v, lost %v", d.read, d.lost)
		}
		b.close(8)
	}
}

func TestABatchIsOneWriteUnlessItHasManyChunks(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(1, 1)
	before := b.disk.operations("write")
	b.put(10, 10)
	if n := b.disk.operations("write") - before; n != 1 {
		t.Errorf("%d writes for a batch", n)
	}
	if _, err := b.store.Append(t.Context(), []*spill.Batch{spill.NewBatch(b.label, 11,
		make([]byte, 200<<10))}); err != nil {
		t.Fatal(err)
	}
	if n := b.disk.operations("write") - before; n != 1+4 {
		t.Errorf("%d writes for an item of 4 chunks", n-1)
	}
}

func TestAppendSaysHowFarItGot(t *testing.T) {
	b := newBench(t, unlimited)
	b.disk.fail(fault{kind: "write", skip: 3, times: 1,
		err: syscall.ENOSPC}) // a header, two batches
	n, err := b.store.Append(t.Context(), []*spill.Batch{b.batch(0, 2), b.batch(2, 2), b.batch(4,
		2)})
	if n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d stored, %v", n, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := b.store.Append(ctx, []*spill.Batch{b.batch(4, 2)}); n != 0 ||
		!errors.Is(err, context.Canceled) {
		t.Errorf("%d stored, %v", n, err)
	}
}

func TestASegmentIsSealedAtItsSize(t *testing.T) {
	const size = 4 << 10
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: size})
	b.put(100, 2)
	paths := b.paths()
	if len(paths) < 4 {
		t.Fatal(paths)
	}
	for i, path := range paths {
		data := b.data(path)
		_, sealed := parseFooter(data[max(0, len(data)-footerLen):])
		if i < len(paths)-1 && (!sealed || len(data) < size || len(data) > size+1500) ||
			i == len(paths)-1 && sealed {
			t.Errorf("%s: %d bytes, sealed %v", path, len(data), sealed)
		}
	}
}

func TestASegmentThatIsExactlyFullIsSealedByTheNextBatch(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(5, 5)
	b.store.writer.limits.segment = b.store.writer.active.size + 1
	b.put(1, 1)
	if n := len(b.paths()); n != 1 {
		t.Fatalf("%d segments while the first is not full", n)
	}
	b.store.writer.limits.segment = b.store.writer.active.size
	b.put(1, 1)
	if n := len(b.paths()); n != 2 {
		t.Errorf("%d segments with the first full", n)
	}
}

func TestAGapInTheNumbersBeginsASegment(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(5, 5)
	b.seq = 20
	b.put(5, 5)
	b.wants(0, [2]uint64{0, 5}, [2]uint64{20, 25})
	b.wants(10, [2]uint64{20, 25})
	b.kill()
	if b.found.Items != 10 {
		t.Errorf("%+v", b.found)
	}
	b.wants(0, [2]uint64{0, 5}, [2]uint64{20, 25})
}

func TestAFailedFsyncIsReportedAndNeverRetried(t *testing.T) { // the fake panics on a second one
	b := newBench(t, unlimited)
	b.disk.fail(fault{kind: "sync", times: 1, err: syscall.EIO})
	b.put(60, 5)
	if !b.disk.hit("sync") {
		t.Fatal("nothing was synced")
	}
	err := b.store.Close(t.Context(), true, 0, 60)
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "items 0 to ") {
		t.Errorf("Close: %v", err)
	}
	b.open()
	b.wants(0, [2]uint64{0, 60})
}

func TestAStoreThatDoesNotKeepSyncsNothing(t *testing.T) {
	b := newBench(t, unlimited)
	b.close(0)
	b.disk.journal = nil
	must(t, b.tryOpen(false))
	b.put(60, 5)
	b.trim(30)
	must(t, b.store.Close(t.Context(), false, 0, 0))
	if n := b.disk.operations("sync") + b.disk.operations("syncdir"); n != 0 {
		t.Errorf("%d syncs", n)
	}
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestAFileSystemThatCannotSyncDirectoriesIsUsedAllTheSame(t *testing.T) { // A6
	for _, err := range []error{syscall.EINVAL, syscall.ENOTSUP, syscall.EOPNOTSUPP} {
		t.Run(err.Error(), func(t *testing.T) {
			b := newBench(t, unlimited)
			b.disk.fail(fault{kind: "syncdir", times: -1, err: err})
			b.put(60, 5)
			b.reopen(10)
			b.wants(10, [2]uint64{10, 60})
			b.trim(60)
			b.close(60)
			if n := b.log.count("can't sync directories"); n != 2 {
				t.Errorf("said %d times, want once for each store", n)
			}
		})
	}
	t.Run("EIO", func(t *testing.T) {
		b := newBench(t, unlimited)
		b.disk.fail(fault{kind: "syncdir", times: 1, err: syscall.EIO})
		if err := b.tryPut(5); !errors.Is(err, syscall.EIO) {
			t.Errorf("Append: %v", err)
		}
		b.put(5, 5)
		if diff := cmp.Diff([]string{segmentName(0)}, b.disk.names()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestAFileThatMayGrowNoMoreIsFollowedByAnother(t *testing.T) { // A10
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	for range 5 {
		b.put(10, 5)
		b.disk.fail(fault{kind: "write", times: 1, err: syscall.EFBIG, short: true})
		b.put(5, 5) // in a new segment
	}
	if n := len(b.paths()); n < 5 {
		t.Errorf("%d segments", n)
	}
	if d := b.drainFrom(0); d.items() != b.seq || len(d.lost) > 0 {
		t.Errorf("%v, lost %v", d.read, d.lost)
	}

	// A batch that is larger than any file may be is refused.
	b.disk.fail(fault{kind: "write", skip: 1, times: 1, err: syscall.EFBIG})
	b.store.writer.seal()
	if err := b.tryPut(5); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Append: %v", err)
	}
	b.put(5, 5)
	b.kill()
	if d := b.drainFrom(0); d.items() != b.seq || len(d.lost) > 0 {
		t.Errorf("%v, lost %v", d.read, d.lost)
	}
}

func TestTheNextSegmentsAreNotFilledUpToTheLimitOfAFile(t *testing.T) { // A10
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(10, 5)
	b.disk.fail(fault{kind: "write", times: 1, err: syscall.EFBIG})
	b.put(100, 5)
	if n := len(b.paths()); n < 8 {
		t.Errorf("%d segments", n)
	}
}

func TestASegmentThatSomebodyCutsOffCostsOnlyWhatIsCut(t *testing.T) { // A16
	for _, size := range []int{0, 30, 700, 100_000} {
		t.Run(fmt.Sprint("to ", size, " bytes"), func(t *testing.T) {
			b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
			b.put(20, 2)
			path, f := b.disk.only(t)
			f.data = append(f.data, make([]byte, 100_000)...)[:size]
			b.put(40, 2)
			if got := b.disk.used(); got != b.store.Usage().Bytes {
				t.Errorf("%d bytes on disk, Usage says %d", got, b.store.Usage().Bytes)
			}

			for range 2 {
				d := b.drainFrom(0)
				if d.items()+d.losses() != 60 || len(d.lost) > 1 || !d.has(20) || !d.has(59) {
					t.Fatalf("%v, lost %v", d.read, d.lost)
				}
				if size == 100_000 && len(d.lost) > 0 || size < 100_000 && d.lost[0].Path != path {
					t.Errorf("lost %v", d.lost)
				}
				b.kill()
			}
		})
	}
}

func TestMaxBytesIsNeverExceeded(t *testing.T) {
	const limit = 32 << 10
	b := newBench(t, Config{MaxBytes: limit, SegmentSize: 4 << 10})
	if u := b.store.Usage(); u.Limit != limit {
		t.Errorf("%+v", u)
	}
	fill := func() {
		t.Helper()
		var err error
		for err == nil {
			err = b.tryPut(2)
			if got := b.disk.used(); got > limit || got != b.store.Usage().Bytes {
				t.Fatalf("%d bytes on disk, Usage says %d", got, b.store.Usage().Bytes)
			}
		}
		if !errors.Is(err, ErrMaxBytes) || !errors.Is(err, spill.ErrFull) ||
			b.disk.used() < limit-2<<10 {
			t.Errorf("Append: %v with %d bytes", err, b.disk.used())
		}
	}

	fill()
	b.trim(b.seq / 2)
	fill()
	b.store.Lift()
	b.put(20, 2)
	b.close(0)
}

func TestMaxBytesLeavesRoomForTheFooter(t *testing.T) {
	sizeOf := func(t *testing.T) int64 {
		b := newBench(t, unlimited)
		b.put(5, 5)
		return b.disk.used() + footerLen
	}
	for _, missing := range []int64{0, 1} {
		b := newBench(t, Config{MaxBytes: sizeOf(t) - missing, SegmentSize: 1 << 20})
		if err := b.tryPut(5); (err == nil) != (missing == 0) {
			t.Errorf("%d bytes too few: %v", missing, err)
		}
		if missing > 0 && (len(b.disk.names()) > 0 || b.store.Usage().Bytes > 0) {
			t.Errorf("left: %v, %+v", b.disk.names(), b.store.Usage())
		}
	}
}

func TestKeepFreeIsNeverUsed(t *testing.T) {
	const keepFree, capacity = 64 << 10, 128 << 10
	b := newBench(t, Config{MaxBytes: -1, KeepFree: keepFree, SegmentSize: 4 << 10})
	b.disk.fill(capacity)
	var err error
	for err == nil {
		err = b.tryPut(2)
	}
	free := capacity - b.disk.used()
	if !errors.Is(err, ErrKeepFree) || !errors.Is(err, spill.ErrFull) || free < keepFree ||
		free > keepFree+2<<10 {
		t.Errorf("Append: %v with %d bytes free", err, free)
	}
	b.store.Lift()
	b.put(10, 2)
}

func TestKeepFreeIsByDefaultAPartOfASmallFileSystem(t *testing.T) {
	for _, tt := range []struct{ keepFree, total, want int64 }{
		{-1, 1 << 40, DefaultKeepFree},
		{-1, 20 * DefaultKeepFree, DefaultKeepFree},
		{-1, 20 << 20, 1 << 20},
		{5, 20 << 20, 5},
	} {
		if got := (limits{keepFree: tt.keepFree}).reserve(tt.total); got != tt.want {
			t.Errorf("KeepFree %d of %d bytes: %d, want %d", tt.keepFree, tt.total, got, tt.want)
		}
	}
}

func TestAFileSystemThatDoesNotKnowItsSpaceIsWrittenTo(t *testing.T) { // A8
	t.Run("0 of 0", func(t *testing.T) {
		b := newBench(t, Config{MaxBytes: -1, KeepFree: -1})
		b.store.dir.fs = noSize{b.mount}
		b.put(60, 5)
		b.wants(0, [2]uint64{0, 60})
	})
	for _, err := range []error{syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EACCES, syscall.EIO} {
		t.Run(err.Error(), func(t *testing.T) {
			b := newBench(t, Config{MaxBytes: -1, KeepFree: -1})
			b.disk.fail(fault{kind: "free", times: -1, err: err})
			b.put(60, 5)
			b.wants(0, [2]uint64{0, 60})
		})
	}
	t.Run("the directory is gone", func(t *testing.T) {
		b := newBench(t, Config{MaxBytes: -1, KeepFree: -1})
		b.put(5, 5)
		b.disk.fail(fault{kind: "free", times: -1, err: syscall.ENOENT})
		if err := b.tryPut(5); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("Append: %v", err)
		}
	})
}

// noSize is a file system that says 0 of 0, as ramfs and FUSE do.
type noSize struct{ fsys }

func (noSize) Free(string) (avail, total int64, err error) { return 0, 0, nil }

func TestTheSizeOfASegmentFollowsTheSpaceThereIs(t *testing.T) { // A9
	for _, tt := range []struct{ segment, max, total, want int64 }{
		{0, -1, 0, DefaultSegmentSize},
		{-1, -1, 1 << 40, DefaultSegmentSize},
		{0, -1, 3 << 20, 3 << 16},
		{0, -1, 100 << 10, minSegmentSize},
		{0, 1 << 20, 1 << 40, 256 << 10},
		{0, 1 << 20, 1 << 20, 64 << 10},
		{0, 0, 1 << 40, 1},
		{5 << 20, 1 << 20, 3 << 20, 5 << 20},
	} {
		b := newBench(t, Config{MaxBytes: tt.max, SegmentSize: tt.segment})
		b.disk.fill(tt.total)
		if tt.total == 0 {
			b.store.dir.fs = noSize{b.mount}
		}
		b.store.writer.sizeSegments()
		if got := b.store.writer.limits.segment; got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
		b.close(0)
	}
}

func TestASmallFileSystemGivesSpaceBackInParts(t *testing.T) { // A9
	b := newBench(t, Config{MaxBytes: -1})
	b.disk.fill(1 << 20)
	fill := func() (n int) {
		for b.tryPut(10) == nil {
			n++
		}
		return n
	}
	if fill() == 0 {
		t.Fatal("nothing fits")
	}
	b.trim(b.seq * 2 / 3)
	if got := fill(); got == 0 {
		t.Error("nothing is taken with two thirds of the items done")
	}
}

func TestALeftoverOfAFailedCreateDoesNotTakeTheName(t *testing.T) {
	b := newBench(t, unlimited)
	b.disk.fail(fault{kind: "write", times: 1, err: syscall.ENOSPC})
	b.disk.fail(fault{kind: "remove", times: 1, err: syscall.EBUSY})
	if err := b.tryPut(5); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if u := b.store.Usage(); u.Segments != 1 || u.TrimAt > 0 {
		t.Errorf("%+v", u)
	}
	b.put(5, 1)
	b.wants(0, [2]uint64{0, 5})
	b.trim(0)
	if n := len(b.paths()); n != 1 || b.store.Usage().Segments != 1 {
		t.Errorf("%d files after Trim, %+v", n, b.store.Usage())
	}
	b.kill()
	b.wants(0, [2]uint64{0, 5})
	b.trim(5)
	b.close(5)
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestANameThatIsTakenIsLeftAlone(t *testing.T) {
	for _, strange := range []error{nil, syscall.ELOOP} {
		b := newBench(t, unlimited)
		planted := filepath.Join(b.cfg.Dir, segmentName(0))
		b.disk.files[planted] = &inode{data: []byte("precious"), strange: strange}
		b.put(1, 1)
		b.wants(0, [2]uint64{0, 1})
		b.kill()
		b.wants(0, [2]uint64{0, 1})

		// And its name is no loss if the header is damaged.
		path := filepath.Join(b.cfg.Dir, segmentName(1))
		b.data(path)[20] ^= 1
		b.kill()
		if d := b.drainFrom(0); d.items() != 1 || d.losses() != 0 {
			t.Errorf("%v, lost %v, %+v", d.read, d.lost, b.found)
		}
		b.trim(1)
		if f := b.disk.files[planted]; f == nil || string(f.data) != "precious" {
			t.Errorf("%v", b.disk.names())
		}
	}
}

func TestOlderItemsMayComeLast(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.seq = 10
	b.put(20, 5)
	b.store.Lift()
	for _, batch := range []*spill.Batch{
		b.batch(4, 6),   // the window, up to what is stored
		b.batch(10, 5),  // is there already
		b.batch(20, 15), // in part
		b.batch(35, 2),
	} {
		if n, err := b.store.Append(t.Context(), []*spill.Batch{batch}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	b.seq = 37
	b.wants(4, [2]uint64{4, 37})
	b.close(5)

	b.open()
	if r := b.found; r.Next != 5 || r.End != 37 || r.Items != 32 || r.Crashed {
		t.Errorf("%+v", r)
	}
	b.wants(5, [2]uint64{5, 37})
	b.trim(37)
	b.close(37)
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestABatchThatComesAgainIsNotWrittenAgain(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(40, 5)
	before := b.disk.used()
	for first := range uint64(36) {
		if n, err := b.store.Append(t.Context(), []*spill.Batch{b.batch(first, 5)}); n != 1 ||
			err != nil {
			t.Fatal(n, err)
		}
	}
	if b.disk.used() != before {
		t.Errorf("%d bytes more", b.disk.used()-before)
	}
}

func TestNumbersThatAreUsedUpAreRefused(t *testing.T) { // A20
	b := newBench(t, unlimited)
	for _, batch := range []*spill.Batch{
		{First: spill.MaxSeq - 1, Items: 2}, {First: spill.MaxSeq, Items: 1}, {First: 1<<64 - 1,
			Items: 2}, {First: 1},
	} {
		if n, err := b.store.Append(t.Context(), []*spill.Batch{batch}); n != 0 || err == nil {
			t.Errorf("%d items from %d on: %d stored, %v", batch.Items, batch.First, n, err)
		}
	}
	b.seq = spill.MaxSeq - 3
	b.put(3, 3)
	b.wants(5, [2]uint64{spill.MaxSeq - 3, spill.MaxSeq})
	b.reopen(spill.MaxSeq - 2)
	b.wants(spill.MaxSeq-2, [2]uint64{spill.MaxSeq - 2, spill.MaxSeq})
}

func TestAFileThatCannotBeRemovedIsTriedAgain(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	u := b.store.Usage()
	b.disk.fail(fault{kind: "remove", times: -1, err: syscall.EBUSY})
	if err := b.store.Trim(t.Context(), 60); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("Trim: %v", err)
	}
	if got := b.store.Usage(); got.Bytes != u.Bytes || got.Segments != u.Segments ||
		got.TrimAt > 60 {
		t.Errorf("what could not be removed does not count: %+v, before %+v", got, u)
	}

	b.disk.heal()
	b.trim(60)
	if got := b.store.Usage(); got.Bytes != 0 || got.Segments != 0 || got.TrimAt != never {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestASegmentThatIsStillThereAtCloseIsNotDeliveredAgain(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.disk.fail(fault{kind: "remove", times: -1, err: syscall.EBUSY})
	if err := b.store.Close(t.Context(), true, 60, 60); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("Close: %v", err)
	}
	b.disk.heal()
	b.open()
	if b.found.Items != 0 || b.found.End != 60 || b.found.Next != 60 || b.found.Crashed {
		t.Errorf("%+v", b.found)
	}
	b.close(60)
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestTrimAtIsTheEndOfTheOldestSegment(t *testing.T) {
	b := newBench(t, unlimited)
	if at := b.store.Usage().TrimAt; at != never {
		t.Errorf("empty: %d", at)
	}
	b.put(200, 5)
	for range 3 {
		at := b.store.Usage().TrimAt
		before := len(b.paths())
		b.trim(at - 1)
		if len(b.paths()) != before {
			t.Fatalf("Trim(%d) has removed something", at-1)
		}
		b.trim(at)
		if len(b.paths()) != before-1 {
			t.Fatalf("Trim(%d) has removed %d segments", at, before-len(b.paths()))
		}
	}
	b.trim(200) // the active one included
	if at := b.store.Usage().TrimAt; at != never || len(b.paths()) != 0 {
		t.Errorf("empty: %d", at)
	}
	b.put(5, 5)
	if at := b.store.Usage().TrimAt; at != 205 {
		t.Errorf("%d", at)
	}
	b.wants(200, [2]uint64{200, 205})
}

// TestAnyOperationMayFail runs a script with each operation failing in its
// turn: what was stored comes back, in order, or is reported lost.
func TestAnyOperationMayFail(t *testing.T) {
	total := runScript(t, fault{})
	if total < 100 {
		t.Fatalf("the script makes only %d operations", total)
	}
	for i, tt := range []struct {
		name  string
		fault fault
	}{
		{"once with EIO", fault{times: 1, err: syscall.EIO}},
		{"once with EIO, half done", fault{times: 1, err: syscall.EIO, short: true}},
		{"once with EMFILE", fault{times: 1, err: syscall.EMFILE}},
		{"once with EFBIG, half done", fault{times: 1, err: syscall.EFBIG, short: true}},
		{"once with EINVAL", fault{times: 1, err: syscall.EINVAL}},
		{"three times with ENOSPC, half done", fault{times: 3, err: syscall.ENOSPC, short: true}},
		{"ten times with EDQUOT", fault{times: 10, err: syscall.EDQUOT}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			step := 3
			if soak() {
				step = 1
			}
			for n := i % step; n < total; n += step {
				f := tt.fault
				f.skip = n
				runScript(t, f)
				if t.Failed() {
					t.Fatalf("operation %d", n)
				}
			}
		})
	}
}

// runScript does some of everything, and returns how many operations that
// takes.
func runScript(t *testing.T, f fault) int {
	t.Helper()
	m := newModel(t, Config{MaxBytes: -1, SegmentSize: 3 << 10}, 1)
	if f.err != nil {
		m.hurt(f)
	}
	for _, op := range script {
		m.step(op)
	}
	m.finish()
	return m.bench.disk.count
}

var script = []op{
	{put, 3}, {put, 5}, {put, 9}, {put, 7}, {read, 4}, {ack, 10}, {put, 6}, {put, 8}, {read, 30},
	{ack, 15},
	{stop, 0}, {put, 4}, {put, 70}, {put, 9}, {read, 25}, {trim, 0}, {ack, 20}, {put, 9},
	{kill, 0}, {read, 9}, {put, 9}, {put, 12}, {ack, 9}, {stop, 0}, {read, 50}, {ack, 50}, {put,
		5}, {read, 3},
}

func TestOlderItemsThatComeLastMayHaveGaps(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.seq = 10
	b.put(20, 5)
	b.store.Lift()
	for _, batch := range []*spill.Batch{b.batch(4, 2), b.batch(8, 2)} {
		n, err := b.store.Append(t.Context(), []*spill.Batch{batch})
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	b.wants(4, [2]uint64{4, 6}, [2]uint64{8, 30})
	b.kill()
	if r := b.found; r.Next != 4 || r.End != 30 || r.Items != 24 {
		t.Errorf("%+v", r)
	}
	b.wants(4, [2]uint64{4, 6}, [2]uint64{8, 30})
}
