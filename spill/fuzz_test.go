package spill

import (
	"bytes"
	"log/slog"
	"math"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
)

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte(goldenHeader))
	f.Add([]byte(streamID))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseHeader(b)
		if err == nil && !bytes.Equal(appendHeader(nil, h), b[:n]) && b[len(streamID)+chunkHeaderLen+len(magic)+1]&^flagKept == 0 {
			t.Errorf("%+v is encoded otherwise", h)
		}
	})
}

func FuzzParseFooter(f *testing.F) {
	f.Add([]byte(goldenFooter))
	f.Fuzz(func(t *testing.T, b []byte) {
		ft, ok := parseFooter(b)
		if ok && ft.first > ft.end {
			t.Errorf("%+v", ft)
		}
	})
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add([]byte(goldenChunk))
	f.Add([]byte(goldenPlainChunk))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := chunkLen(b)
		if err != nil || n > len(b) {
			return
		}
		p, err := decodeChunk(make([]byte, maxPayload), b[:n])
		if err != nil || p.offset > 0 || p.count == 0 {
			return
		}
		if rest := skipFrames(p.frames, int(p.count)); len(rest) != 0 {
			t.Errorf("%d bytes behind %d frames", len(rest), p.count)
		}
	})
}

// FuzzOpen opens a directory with two segments and a receipt of any bytes, and takes out what it can.
func FuzzOpen(f *testing.F) {
	whole := goldenHeader + goldenPlainChunk + goldenFooter
	f.Add([]byte(whole), []byte(""), uint64(42), uint64(45), true)
	f.Add([]byte(goldenHeader+goldenChunk), []byte(whole), uint64(0), uint64(math.MaxUint64), true)
	f.Add([]byte(goldenHeader), []byte(goldenHeader+"\x00\xff\xff\xff"), uint64(7), uint64(9), false)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, a, b []byte, next, end uint64, again bool) {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(256 << 20))
		d := newDisk()
		d.files[filepath.Join(dir, segmentName(42))] = &inode{data: a}
		d.files[filepath.Join(dir, segmentName(45))] = &inode{data: b}
		if next <= end {
			d.files[filepath.Join(dir, receipt{next, end}.name())] = &inode{}
		}
		cfg := Config{Dir: dir, Keep: true, MaxDisk: -1, Label: "bytes"}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		readAll(t, d, cfg)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
			t.Errorf("%d bytes allocated for files of %d", n, len(a)+len(b))
		}
	})
}

// readAll opens a directory of any content twice, and reads what it says that there is.
func readAll(t *testing.T, d *disk, cfg Config) {
	t.Helper()
	for range 2 {
		cfg.fs = d.mount()
		cfg.Logger = slog.New(slog.DiscardHandler)
		s, at, _, err := openStore(cfg, cfg.fs)
		if err != nil {
			return
		}
		b := newBatch()
		for range 1000 {
			ok, err := s.get(b, at)
			if !ok || err != nil {
				break
			}
			if b.Err == nil {
				for range b.Items {
					b.Next()
				}
			}
			if b.end() < at {
				t.Fatalf("batch of %d items from %d on, want %d", b.Items, b.First, at)
			}
			at = b.end()
		}
		s.close(receipt{at, at}, true)
	}
}

func FuzzModel(f *testing.F) {
	f.Add(byte(1), script)
	f.Add(byte(2), []byte{4, 15, 4, 15, 4, 15, 13, 9, 7, 90, 14, 200, 12, 0})
	f.Add(byte(5), []byte{4, 15, 4, 15, 4, 15, 11, 4, 4, 15, 6, 255, 10, 255, 12, 0, 14, 1, 14, 199})
	f.Fuzz(func(t *testing.T, seed byte, ops []byte) {
		if len(ops) > 300 {
			return
		}
		runModel(t, modelConfig(int(seed)), newDisk(), ops)
	})
}
