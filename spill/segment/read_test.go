package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

// read calls Read with a buffer of a size.
func (b *bench) read(seq uint64, from spill.Position, size int) spill.Extent {
	b.t.Helper()
	ext, err := b.store.Read(b.t.Context(), seq, from, make([]byte, size))
	if err != nil {
		b.t.Fatal(err)
	}
	return ext
}

func readBuf() []byte { return make([]byte, spill.MaxChunk) }

// namesLimit reports whether an error says which limit has been met.
func namesLimit(err error) bool { return strings.Contains(err.Error(), "ulimit -n") }

// behind returns the position behind an extent's chunks.
func behind(e spill.Extent) spill.Position {
	return spill.Position{Path: e.At.Path, Offset: e.At.Offset + int64(len(e.Chunks))}
}

// firsts returns the numbers of the first items of chunks.
func firsts(t *testing.T, chunks []byte) (seqs []uint64) {
	t.Helper()
	for len(chunks) > 0 {
		n, err := spill.ChunkLen(chunks)
		if err != nil || n > len(chunks) {
			t.Fatalf("the extent ends in the middle of a chunk: %v", err)
		}
		p, err := spill.DecodeChunk(make([]byte, 1<<16), chunks[:n])
		if err != nil {
			t.Fatal(err)
		}
		seqs, chunks = append(seqs, p.First), chunks[n:]
	}
	return seqs
}

func TestReadReturnsAsManyWholeChunksAsFit(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(1000, 5)
	before := b.disk.operations("read")
	var pos spill.Position
	reads, next := 0, uint64(0)
	for end := uint64(0); end == 0; reads++ {
		ext := b.read(next, pos, spill.MaxChunk)
		for _, first := range firsts(t, ext.Chunks) {
			if first != next {
				t.Fatalf("chunk of %d, want %d", first, next)
			}
			next += 5
		}
		if size := len(ext.Chunks); ext.End == 0 && size < spill.MaxChunk-2<<10 || ext.Err != nil {
			t.Errorf("%d bytes, %v", size, ext.Err)
		}
		pos, end = behind(ext), ext.End
	}
	if next != 1000 || b.disk.operations("read")-before != reads {
		t.Errorf("%d items with %d reads of the file in %d calls", next,
			b.disk.operations("read")-before, reads)
	}
}

func TestEndIsSetWhereNothingRemainsBelowTheWatermark(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 2 << 10})
	b.put(30, 5)
	var ends []uint64
	for seq := uint64(0); seq < 30; {
		ext := b.read(seq, spill.Position{}, spill.MaxChunk)
		if ext.End == 0 || len(ext.Chunks) == 0 || ext.First != seq {
			t.Fatalf("from %d on: %+v", seq, ext)
		}
		ends = append(ends, ext.End)
		seq = ext.End
	}
	if diff := cmp.Diff(len(b.paths()), len(ends)); diff != "" || ends[len(ends)-1] != 30 {
		t.Errorf("%v", ends)
	}

	// The active segment grows.
	b.put(1, 1)
	ext := b.read(30, spill.Position{}, spill.MaxChunk)
	if ext.End != 31 || firsts(t, ext.Chunks)[len(firsts(t, ext.Chunks))-1] != 30 {
		t.Errorf("%+v", ext)
	}

	// A position at the very end of what has been returned is good too.
	if ext := b.read(30, behind(ext), spill.MaxChunk); len(ext.Chunks) > 0 || ext.End != 31 ||
		ext.Err != nil {
		t.Errorf("%+v", ext)
	}
}

func TestAReaderThatFollowsTheWriterReadsEachByteOnce(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	var read int
	for range 50 {
		b.put(5, 5)
		ext := b.read(b.seq-5, spill.Position{}, spill.MaxChunk)
		if got := firsts(t, ext.Chunks); got[0] != b.seq-5 || ext.End != b.seq {
			t.Fatalf("%v, end %d", got, ext.End)
		}
		read += len(ext.Chunks)
	}
	if _, f := b.disk.only(t); read != len(f.data)-int(b.store.index.segments[0].start) {
		t.Errorf("%d bytes of %d", read, len(f.data))
	}

	// An older item is found again nevertheless.
	if got := firsts(t, b.read(7, spill.Position{}, spill.MaxChunk).Chunks); got[0] > 7 {
		t.Errorf("%v", got)
	}
}

func TestReadingBeyondTheEndIsAnError(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(5, 5)
	if ext, err := b.store.Read(t.Context(), 5, spill.Position{}, readBuf()); err == nil {
		t.Errorf("%+v", ext)
	}
}

func TestADamagedChunkHeaderEndsASegmentWhereItStands(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(50, 5)
	path, f := b.disk.only(t)
	at := chunkOffsets(t, f.data)[4]
	f.data[at] ^= 0x40

	ext := b.read(0, spill.Position{}, spill.MaxChunk)
	if diff := cmp.Diff([]uint64{0, 5, 10, 15}, firsts(t, ext.Chunks)); diff != "" ||
		ext.End != 0 || ext.Err != nil {
		t.Errorf("%+v", ext)
	}
	ext = b.read(20, behind(ext), spill.MaxChunk)
	if !errors.Is(ext.Err, spill.ErrStray) || ext.End != 50 ||
		ext.At != (spill.Position{Path: path, Offset: int64(at)}) || len(ext.Chunks) > 0 {
		t.Errorf("%+v", ext)
	}

	// What is appended behind the damage comes all the same.
	b.put(5, 5)
	ext = b.read(50, spill.Position{}, spill.MaxChunk)
	if diff := cmp.Diff([]uint64{50}, firsts(t, ext.Chunks)); diff != "" || ext.End != 55 {
		t.Errorf("%+v", ext)
	}
	b.kill()
	if d := b.drainFrom(0); d.items()+d.losses() != 20+1 {
		t.Errorf("%v, lost %v", d.read, d.lost)
	}
}

func TestAReadErrorKeepsTheFileAndNamesItsItems(t *testing.T) {
	for _, kind := range []string{"read", "open"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, unlimited)
			b.put(60, 5)
			b.reopen(0)
			b.disk.fail(fault{kind: kind, times: 1, err: syscall.EIO})
			d := b.drainFrom(0)
			if len(d.lost) != 1 || d.items()+d.losses() != 60 {
				t.Fatalf("%v, lost %v", d.read, d.lost)
			}
			e := d.lost[0]
			var pathErr *fs.PathError
			if !errors.Is(e, syscall.EIO) || !errors.As(e, &pathErr) || e.Path != pathErr.Path {
				t.Errorf("%v", e)
			}

			b.trim(60)
			name := filepath.Base(e.Path)
			want := []string{strings.TrimSuffix(name, segmentExt) + retainedExt, name}
			if diff := cmp.Diff(want, b.disk.names()); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if u := b.store.Usage(); u.Bytes != 0 || u.Segments != 0 {
				t.Errorf("%+v", u)
			}
			data := string(b.data(e.Path))

			// Later stores leave it alone, and say so.
			b.reopen(60)
			if b.found.Items != 0 || b.log.count("left alone") != 1 {
				t.Errorf("%+v", b.found)
			}
			b.put(60, 5)
			b.trim(b.seq)
			b.close(b.seq)
			if diff := cmp.Diff(want, b.disk.names()); diff != "" ||
				string(b.data(e.Path)) != data {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASegmentThatIsGoneIsReportedAndNotRetained(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.reopen(0)
	path := b.paths()[1]
	delete(b.disk.files, path)
	d := b.drainFrom(0)
	if len(d.lost) != 1 || d.lost[0].Path != path || !errors.Is(d.lost[0], fs.ErrNotExist) ||
		d.items()+d.losses() != 60 {
		t.Errorf("%v, lost %v", d.read, d.lost)
	}
	b.trim(60)
	if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func TestWithoutFileDescriptorsNothingIsLost(t *testing.T) { // A17
	for _, tt := range []struct {
		err  error
		hint bool
	}{{syscall.EMFILE, true}, {syscall.ENFILE, true}, {syscall.ENOMEM, false}} {
		t.Run(tt.err.Error(), func(t *testing.T) {
			b := newBench(t, unlimited)
			b.put(60, 5)
			b.reopen(0)
			b.disk.fail(fault{kind: "open", times: 2, err: tt.err})
			for range 2 {
				_, err := b.store.Read(t.Context(), 0, spill.Position{}, readBuf())
				if !errors.Is(err, tt.err) || namesLimit(err) != tt.hint {
					t.Errorf("Read: %v", err)
				}
			}
			b.wants(0, [2]uint64{0, 60})

			b.disk.fail(fault{kind: "create", times: 1, err: tt.err})
			b.seq = 70
			if err := b.tryPut(5); !errors.Is(err, tt.err) ||
				namesLimit(err) != tt.hint {
				t.Errorf("Append: %v", err)
			}
			b.put(5, 5)
		})
	}
}

// TestAStoreAtRestHoldsTwoDescriptors counts files; the lock is the other one.
func TestAStoreAtRestHoldsTwoDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, unlimited)
		b.put(60, 5)
		if n := b.disk.open(); n != 1 {
			t.Errorf("%d files are open after writing", n)
		}
		b.wants(0, [2]uint64{0, 60})
		b.read(0, spill.Position{}, spill.MaxChunk)
		if n := b.disk.open(); n != 2 {
			t.Errorf("%d files are open while reading", n)
		}

		// Each read puts the closing off.
		time.Sleep(idleClose - time.Nanosecond)
		b.read(0, spill.Position{}, spill.MaxChunk)
		time.Sleep(idleClose - time.Nanosecond)
		if n := b.disk.open(); n != 2 {
			t.Errorf("%d files are open between two reads", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := b.disk.open(); n != 1 {
			t.Errorf("%d files are open at rest", n)
		}

		b.wants(0, [2]uint64{0, 60}) // and it goes on
		b.close(0)
		if n := b.disk.open(); n != 0 {
			t.Errorf("%d files are open after Close", n)
		}
	})
}

func TestTheActiveSegmentIsReadThroughTheWritersDescriptor(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(5, 5)
	path, f := b.disk.only(t)
	delete(b.disk.files, path) // as if the directory had been removed
	b.wants(0, [2]uint64{0, 5})
	b.disk.files[path] = f
	if n := b.disk.open(); n != 1 {
		t.Errorf("%d files are open", n)
	}
}

func TestTheFileOfASegmentThatIsGoneIsClosed(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.read(0, spill.Position{}, spill.MaxChunk)
	b.trim(b.store.Usage().TrimAt)
	if n := b.disk.open(); n != 1 {
		t.Errorf("%d files are open", n)
	}
}

func TestDamageThatCostsNothingIsToldOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		offset func(data []byte) int64
		spoil  func(f *inode)
		want   string
	}{
		{"header", func([]byte) int64 { return 0 }, func(f *inode) { f.data[30] ^= 1 },
			"segment header: checksum mismatch"},
		{"footer", func(b []byte) int64 { return int64(len(b)) - footerLen },
			func(f *inode) { f.data[len(f.data)-1] ^= 1 }, errFooter.Error()},
		{"junk", func(b []byte) int64 { return int64(len(b)) },
			func(f *inode) { f.data = append(f.data, "junk"...) }, errJunk.Error()},
		{"much junk", func(b []byte) int64 { return int64(len(b)) },
			func(f *inode) { f.data = append(f.data, pool[:5000]...) }, errJunk.Error()},
		{"zeros", func(b []byte) int64 { return int64(len(b)) },
			func(f *inode) { f.data = append(f.data, make([]byte, 90)...) }, errJunk.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) { // junk: A19
			b := newBench(t, unlimited)
			b.put(60, 5)
			b.close(0)
			path := b.paths()[1]
			want := spill.CorruptError{Path: path, Offset: tt.offset(b.data(path)),
				Err: errors.New(tt.want)}
			tt.spoil(b.disk.files[path])

			b.open()
			d := b.drainFrom(0)
			if len(d.lost) != 1 || d.items() != 60 {
				t.Fatalf("%v, lost %v", d.read, d.lost)
			}
			want.First = d.lost[0].First
			if diff := cmp.Diff(want.Error(), d.lost[0].Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if d := b.drainFrom(0); len(d.lost) != 0 {
				t.Errorf("told again: %v", d.lost)
			}
		})
	}
}

func TestReadsAndWritesAtOnceMeetNoRace(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 8 << 10})
	const items = 3000
	b.put(5, 5)
	stored := make(chan uint64)
	go func() {
		defer close(stored)
		for seq := uint64(5); seq < items; seq += 5 {
			if _, err := b.store.Append(t.Context(), []*spill.Batch{b.batch(seq, 5)}); err != nil {
				t.Error(err)
				return
			}
			if seq%500 == 0 {
				b.store.Trim(t.Context(), seq/4)
			}
			stored <- seq + 5
		}
	}()

	next := uint64(0)
	for end := range stored {
		if seq := max(end/2, next); seq < end {
			ext, err := b.store.Read(t.Context(), seq, spill.Position{}, readBuf())
			if err != nil || ext.Err != nil {
				t.Fatal(seq, err, ext.Err)
			}
			got := firsts(t, ext.Chunks)
			if got[0] > seq || got[len(got)-1] < seq-4 && ext.End != 0 {
				t.Fatalf("read %d: chunks of %v, end %d", seq, got, ext.End)
			}
			b.store.Usage()
		}
	}
	b.seq = items
	if d := b.drainFrom(items / 2); d.items() != items/2 {
		t.Error(fmt.Sprint(d.read, d.lost))
	}
}

func TestAFileIsClosedThoughItsTimerHasMetAnother(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(60, 5)
	b.read(0, spill.Position{}, spill.MaxChunk)

	r := &b.store.reader
	r.mu.Lock() // as letGo does
	r.disarm()
	r.fired.Add(1)
	expired := make(chan struct{})
	go func() {
		defer close(expired)
		r.expire()
	}()
	time.Sleep(10 * time.Millisecond)
	r.mu.Unlock()
	<-expired
	if n := b.disk.open(); n != 1 {
		t.Errorf("%d files are open", n)
	}
}

func TestNothingBehindTheWatermarkIsRead(t *testing.T) {
	b := newBench(t, Config{MaxBytes: -1, SegmentSize: 1 << 20})
	b.put(200, 5)
	path, f := b.disk.only(t)
	size := len(f.data)
	b.disk.fail(fault{kind: "write", skip: 1, times: 1, err: syscall.EIO}) // the second chunk
	b.disk.fail(fault{kind: "truncate", times: 1, err: syscall.EIO})
	large := spill.NewBatch(b.label, 200, make([]byte, 100<<10))
	if n, err := b.store.Append(t.Context(), []*spill.Batch{large}); n != 0 || err == nil {
		t.Fatal(n, err)
	}
	if len(f.data) == size {
		t.Fatal("no chunk is left behind the watermark")
	}

	offsets := chunkOffsets(t, f.data) // that of the large item's first chunk included
	last := spill.Position{Path: path, Offset: int64(offsets[len(offsets)-2])}
	ext := b.read(195, last, spill.MaxChunk)
	if diff := cmp.Diff([]uint64{195}, firsts(t, ext.Chunks)); diff != "" || ext.End != 200 {
		t.Errorf("End %d, chunks -want +got:\n%s", ext.End, diff)
	}
}
