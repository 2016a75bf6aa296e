package segment

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"example.com/hopper/spill"
)

// A goldsmith makes a directory of version 2 on a real file system.
type goldsmith struct {
	t     *testing.T
	dir   string
	store *Store
	seq   uint64
	rand  *rand.ChaCha8
}

func newGoldsmith(t *testing.T) *goldsmith {
	g := &goldsmith{t: t, dir: filepath.Join(t.TempDir(), "dir"), rand: rand.NewChaCha8([32]byte{7})}
	g.open()
	return g
}

func (g *goldsmith) open() {
	g.t.Helper()
	g.store = New(Config{Dir: g.dir, SegmentSize: 1 << 10, MaxBytes: -1})
	r, err := g.store.Open(g.t.Context(), "golden", true)
	must(g.t, err)
	g.seq = max(g.seq, r.End)
}

// put appends batches of 3 or 4 items, compressible, random or empty.
func (g *goldsmith) put(batches int) {
	g.t.Helper()
	for i := range batches {
		var items [][]byte
		for n := range 3 + i%2 {
			item := fmt.Appendf(nil, "item %d: a line of a log that says the same again and again", g.seq)
			switch (g.seq + uint64(n)) % 5 {
			case 1:
				item = make([]byte, 100)
				_, _ = g.rand.Read(item)
			case 3:
				item = nil
			}
			items = append(items, item)
		}
		b := spill.NewBatch("golden", g.seq, items...)
		_, err := g.store.Append(g.t.Context(), []*spill.Batch{b})
		must(g.t, err)
		g.seq = b.End()
	}
}

func (g *goldsmith) sync(acked uint64) {
	g.t.Helper()
	must(g.t, g.store.Sync(g.t.Context(), acked))
}

func (g *goldsmith) trim(acked uint64) {
	g.t.Helper()
	must(g.t, g.store.Trim(g.t.Context(), acked))
}

func (g *goldsmith) close(next uint64) {
	g.t.Helper()
	must(g.t, g.store.Close(g.t.Context(), true, next, g.seq))
}

// kill goes on in a copy, as after the end of the process.
func (g *goldsmith) kill() {
	g.t.Helper()
	old := g.store
	g.dir = copyDir(g.t, g.dir)
	must(g.t, old.Close(g.t.Context(), false, 0, 0))
	g.store = nil
}

// change changes the last segment that has a cursor, from the offset of its
// last cursor on.
func (g *goldsmith) change(f func(b []byte, cursor int) []byte) {
	g.t.Helper()
	names := listDir(g.t, g.dir)
	for i := len(names) - 1; i >= 0; i-- {
		path := filepath.Join(g.dir, names[i])
		b, err := os.ReadFile(path)
		must(g.t, err)
		for at := len(b) - cursorLen; at > 0; at-- {
			if _, _, ok := parseCursor(b[at:]); ok && isSegment(names[i]) {
				must(g.t, os.WriteFile(path, f(b, at), 0o600))
				return
			}
		}
	}
	g.t.Fatal("no cursor")
}

// midSegment leaves an active segment with cursors between its chunks.
func (g *goldsmith) midSegment() {
	g.put(1)
	g.sync(2) // the next segment is of version 2
	g.put(2)
	g.sync(4)
	g.put(1)
	g.sync(6)
	g.put(1)
	g.kill()
}

var goldsmiths = map[string]func(g *goldsmith){
	"cursor": (*goldsmith).midSegment,
	"cursor-last": func(g *goldsmith) {
		g.put(1)
		g.sync(1)
		g.put(2)
		g.sync(5)
		g.kill()
	},
	"cursor-sealed": func(g *goldsmith) {
		for i := range uint64(14) {
			g.put(1)
			g.sync(2 * i)
			g.trim(2 * i)
		}
		g.kill()
	},
	"cursor-alone": func(g *goldsmith) {
		g.put(9)
		g.close(3)
		g.open()
		g.sync(7)
		g.kill()
	},
	"cursor-and-receipt": func(g *goldsmith) {
		g.put(3)
		g.sync(3)
		g.put(3)
		g.sync(5)
		g.close(8)
	},
	"cursor-alone-and-receipt": func(g *goldsmith) {
		g.put(9)
		g.close(3)
		g.open()
		g.sync(7)
		g.close(9)
	},
	"mixed": func(g *goldsmith) {
		g.put(9)
		g.sync(5)
		g.put(9)
		g.sync(9)
		g.kill()
		g.open()
		g.put(2) // of version 1 again
		g.kill()
	},
	"damaged-cursor": func(g *goldsmith) {
		g.midSegment()
		g.change(func(b []byte, at int) []byte { b[at+20] ^= 4; return b })
	},
	"damaged-cursor-header": func(g *goldsmith) {
		g.midSegment()
		g.change(func(b []byte, at int) []byte { b[at] ^= 4; return b })
	},
	"damaged-cursor-sealed": func(g *goldsmith) {
		g.put(3)
		g.sync(3)
		g.put(9)
		g.sync(14)
		g.put(9)
		g.kill()
		g.change(func(b []byte, at int) []byte { b[at+20] ^= 4; return b })
	},
	"damaged-cursor-last": func(g *goldsmith) {
		g.put(1)
		g.sync(1)
		g.put(2)
		g.sync(5)
		g.kill()
		g.change(func(b []byte, at int) []byte { b[at+20] ^= 4; return b })
	},
	"torn-cursor": func(g *goldsmith) {
		g.put(1)
		g.sync(1)
		g.put(2)
		g.sync(4)
		g.put(1)
		g.sync(5)
		g.kill()
		g.change(func(b []byte, at int) []byte { return b[:at+13] })
	},
	"torn-behind-cursor": func(g *goldsmith) {
		g.midSegment()
		g.change(func(b []byte, at int) []byte { return b[:at+cursorLen+20] })
	},
}

// Nobody runs this but to add a case: what is there must stay as it is.
func TestWriteGoldenDirectories(t *testing.T) {
	if os.Getenv("HOPPER_WRITE_GOLDEN") == "" {
		t.Skip("writes testdata where HOPPER_WRITE_GOLDEN is set")
	}
	for name, make := range goldsmiths {
		root := filepath.Join("testdata/v2", name)
		if _, err := os.Stat(root); err == nil {
			continue
		}
		g := newGoldsmith(t)
		make(g)
		must(t, os.MkdirAll(root, 0o755))
		must(t, os.CopyFS(filepath.Join(root, "dir"), os.DirFS(g.dir)))

		b, err := json.MarshalIndent(readGolden(t, g.dir, "golden"), "", "\t")
		must(t, err)
		must(t, os.WriteFile(filepath.Join(root, "golden.json"), append(b, '\n'), 0o644))
	}
}
