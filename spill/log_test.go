package spill

import (
	"log/slog"
	"testing"
)

// A log whose goroutines are not started: the test does their steps.
func newIdleLog(t *testing.T) *Log {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), MaxDisk: -1, SegmentSize: 1 << 20, Wake: make(chan struct{}, 1), Logger: slog.New(slog.DiscardHandler), fs: newDisk().mount()}
	s, next, _, err := openStore(cfg, cfg.fs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unlockDir(s.lock) })
	return newLog(s.cfg, s, next)
}

// fill appends items of a KiB until so many batches wait in memory.
func fill(l *Log, batches int) {
	for len(l.mem) < batches {
		l.Commit(append(l.Begin(l.End()), make([]byte, 1<<10)...))
	}
}

func mustClaim(t *testing.T, l *Log) *Batch {
	t.Helper()
	b, chunks, closing := l.claim()
	if b == nil || closing {
		t.Fatalf("claim: %v, closing %t", b, closing)
	}
	b.pack(checksum([]byte(l.cfg.Label)), chunks)
	return b
}

func poked(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// youngerPacked returns a log in which two batches have been claimed, and the younger one, b, is packed already.
func youngerPacked(t *testing.T) (l *Log, a, b *Batch) {
	t.Helper()
	l = newIdleLog(t)
	fill(l, 7)
	poked(l.wakeWriter)
	a, b = mustClaim(t, l), mustClaim(t, l)
	l.compressed(b)
	return l, a, b
}

func TestBatchesAreWrittenInOrderThoughCompressedInAny(t *testing.T) {
	l, a, _ := youngerPacked(t)
	w := writer{Log: l}
	if got := w.toWrite(); got != nil || poked(l.wakeWriter) {
		t.Fatal("the younger batch is to be written first")
	}
	l.compressed(a)
	if got := w.toWrite(); got != a || !poked(l.wakeWriter) {
		t.Fatal("the elder batch is not to be written, or nobody tells the writer")
	}
}

func TestBatchTakenWhileItIsCompressedDoesNotHoldUpTheNext(t *testing.T) {
	l, a, b := youngerPacked(t)
	w := writer{Log: l}
	if got := l.Next(); got != a {
		t.Fatal("the elder batch does not come from memory")
	}
	l.compressed(a)
	if got := w.toWrite(); got != b || !poked(l.wakeWriter) {
		t.Fatal("the younger batch is not to be written, or nobody tells the writer")
	}
}

func TestFewBatchesStayInMemory(t *testing.T) {
	l := newIdleLog(t)
	fill(l, reserve/maxPayload)
	if b, _, _ := l.claim(); b != nil {
		t.Fatal("batches are written though Next may yet take them from memory")
	}
	fill(l, reserve/maxPayload+3)
	for range 3 {
		mustClaim(t, l)
	}
	if b, _, _ := l.claim(); b != nil {
		t.Fatal("the last batches are written, too")
	}
}

func TestChunksMadeAheadAreBounded(t *testing.T) {
	l := newIdleLog(t)
	fill(l, 3*maxPacked+reserve/maxPayload)
	for range maxPacked {
		l.compressed(mustClaim(t, l))
	}
	if b, _, _ := l.claim(); b != nil {
		t.Fatal("more chunks are made than the disk has asked for")
	}
	w := writer{Log: l}
	for range maxPacked {
		w.put(w.toWrite())
	}
	if !poked(l.wakeCompressor) {
		t.Fatal("nobody tells the compressors that there is room")
	}
	mustClaim(t, l)
}

func TestTakingPackedBatchesMakesRoomForOthers(t *testing.T) {
	l := newIdleLog(t)
	fill(l, maxPacked+reserve/maxPayload-1)
	for range maxPacked - 1 {
		l.compressed(mustClaim(t, l))
	}
	l.Commit(append(l.Begin(l.End()), make([]byte, 1<<20)...))
	l.compressed(mustClaim(t, l))
	if l.Room(0) || !poked(l.wakeCompressor) {
		t.Fatal("memory is not full, or nobody has told the compressors")
	}
	for range maxPacked {
		l.Next()
	}
	if l.Room(0) {
		t.Fatal("memory is not full: the test is of no use")
	}
	if !poked(l.wakeCompressor) {
		t.Fatal("memory is full, nothing is packed, and nobody tells the compressors")
	}
	mustClaim(t, l)
}

func TestBatchesAreStoredPlainOnlyWhileMemoryFillsAndThereIsSpace(t *testing.T) {
	for _, c := range []struct {
		name    string
		batches int
		maxDisk int64
		want    bool
	}{
		{"the log keeps up", 4, -1, false},
		{"memory fills", 7, -1, true},
		{"memory fills and MaxDisk is near", 7, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newIdleLog(t)
			l.cfg.MaxDisk = c.maxDisk
			fill(l, c.batches)
			if b := mustClaim(t, l); b.plain != c.want || b.chunks[0] != map[bool]byte{false: typeCompressed, true: typeUncompressed}[c.want] {
				t.Errorf("plain is %v, of chunk type %d", b.plain, b.chunks[0])
			}
		})
	}
}

// reads lets the log read what it wants to, and returns how many batches that were.
func reads(t *testing.T, l *Log) (n int) {
	t.Helper()
	for ; ; n++ {
		b, next, _ := l.toRead()
		if b == nil {
			return n
		}
		ok, err := l.store.get(b, next)
		if err != nil {
			t.Fatal(err)
		}
		l.gotAhead(b, ok)
	}
}

func TestOnlyOneBatchIsReadAheadUntilTheFirstIsTaken(t *testing.T) {
	l := newIdleLog(t)
	w := writer{Log: l}
	write := func() {
		fill(l, 20)
		for range 12 {
			l.compressed(mustClaim(t, l))
			w.put(w.toWrite())
		}
	}
	write()
	for range 2 { // after it has caught up it begins anew
		if n := reads(t, l); n != 1 {
			t.Errorf("%d batches are read ahead of a consumer that takes none", n)
		}
		if l.Next() == nil {
			t.Fatal("nothing to take")
		}
		if n := reads(t, l); n < 2 {
			t.Errorf("%d batches are read ahead of a consumer that takes them", n)
		}
		for reads(t, l) > 0 || len(l.ready) > 0 {
			l.Next()
		}
		write()
	}
}
