package segment

import (
	"bytes"
	"context"
	"errors"
	"math"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"example.com/hopper/spill"
)

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte(goldenHeader))
	f.Add([]byte(streamID))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseHeader(b)
		if n < 0 || err == nil && n > len(b) {
			t.Fatalf("a header of %d bytes in %d", n, len(b))
		}
		flags := len(streamID) + chunkHeaderLen + len(magic) + 1
		if err == nil && !bytes.Equal(appendHeader(nil, h), b[:n]) && b[flags]&^flagKept == 0 {
			t.Errorf("%+v is encoded otherwise", h)
		}
		if err == nil && max(h.first, h.follows, h.acked) >= spill.MaxSeq {
			t.Errorf("%+v", h)
		}
	})
}

func FuzzParseFooter(f *testing.F) {
	f.Add([]byte(goldenFooter))
	f.Fuzz(func(t *testing.T, b []byte) {
		ft, ok := parseFooter(b)
		if ok && (ft.first > ft.end || ft.end > spill.MaxSeq) {
			t.Errorf("%+v", ft)
		}
	})
}

// FuzzOpen opens a directory with two segments and a receipt of any bytes, and
// takes out what it can.
func FuzzOpen(f *testing.F) {
	whole := goldenHeader + goldenChunk + goldenFooter
	f.Add([]byte(whole), []byte(""), uint64(42), uint64(45), true)
	f.Add([]byte(goldenHeader+goldenChunk), []byte(whole), uint64(0), uint64(math.MaxUint64), true)
	f.Add([]byte(goldenHeader), []byte(goldenHeader+"\x00\xff\xff\xff"), uint64(7), uint64(9),
		false)
	f.Add([]byte(whole+"junk"), []byte(goldenHeader+goldenChunk+goldenChunk), uint64(7),
		uint64(90), true)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, a, b []byte, next, end uint64, opened bool) {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(256 << 20))
		d := newDisk()
		d.files[filepath.Join(dir, segmentName(42))] = &inode{data: a}
		d.files[filepath.Join(dir, segmentName(45))] = &inode{data: b}
		if r := (receipt{next, end}); next <= end {
			d.files[filepath.Join(dir, r.name())] = &inode{}
			if opened {
				d.files[filepath.Join(dir, r.openedName())] = &inode{}
			}
		}

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		readAll(t, d, dir, true)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
			t.Errorf("%d bytes allocated for files of %d", n, len(a)+len(b))
		}
	})
}

// readAll opens a directory of any content twice, and reads what it says that
// there is: each item once, or reported lost. Of files that contradict
// themselves, though their checksums are right, the number of items may differ.
func readAll(t *testing.T, d *disk, dir string, exact bool) {
	t.Helper()
	for range 2 {
		s := newStore(Config{Dir: dir, MaxBytes: -1}, d.mount())
		r, err := s.Open(context.Background(), "bytes", true)
		if err != nil {
			return
		}
		if r.Next > r.End || r.End > spill.MaxSeq || r.Items > r.End-r.Next ||
			r.Repeated > r.Items {
			t.Fatalf("%+v", r)
		}

		seen, at := uint64(0), r.Next
		for item, err := range spill.Items(context.Background(), s, "bytes", r) {
			var corrupt *spill.CorruptError
			switch {
			case errors.As(err, &corrupt) && corrupt.Items == 0:
			case errors.As(err, &corrupt):
				if end := corrupt.First + corrupt.Items; corrupt.First < at ||
					end > spill.MaxSeq || exact && end > r.End {
					t.Fatalf("%+v: %v where item %d is due", r, corrupt, at)
				}
				seen, at = seen+corrupt.Items, corrupt.First+corrupt.Items
			case err != nil:
				t.Fatal(err)
			default:
				if item.Seq < at {
					t.Fatalf("%+v: item %d where item %d is due", r, item.Seq, at)
				}
				seen, at = seen+1, item.Seq+1
			}
		}
		if exact && seen != r.Items {
			t.Fatalf("%+v: %d items read or lost", r, seen)
		}
		s.Close(context.Background(), true, r.Next, r.End)
	}
}

func FuzzModel(f *testing.F) {
	f.Add(byte(1), []byte{0, 5, 0, 90, 0, 60, 9, 9, 1, 90, 4, 0, 8, 0})
	f.Add(byte(2), []byte{0, 15, 0, 15, 7, 15, 0, 9, 1, 90, 5, 200, 8, 0, 6, 3})
	f.Fuzz(func(t *testing.T, seed byte, ops []byte) {
		if len(ops) > 300 {
			return
		}
		runModel(t, seed, ops)
	})
}
