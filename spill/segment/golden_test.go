package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

// A golden is what the code that wrote a directory made of it itself. See
// testdata/v1/README.txt.
type golden struct {
	Label    string
	Next     uint64
	Items    uint64
	End      uint64
	Read     [][2]uint64
	SHA256   string
	Lost     []goldenLoss
	Left     []string
	Segments []goldenSegment
	Verified []goldenLoss
}

type goldenLoss struct {
	Path   string
	Offset int64
	First  uint64
	Items  uint64
	Err    string
}

type goldenSegment struct {
	Name       string
	First, End uint64
	Bytes      int64
	FrameBytes int64
	State      string
}

// differ is where this version says more than the one that wrote the golden
// files. In all of them the same items come back.
var differ = map[string]func(g *golden){
	// The damage is where the data ends, not at the directory (see errCutOff).
	"truncated-sealed": func(g *golden) {
		lost := []goldenLoss{{"00000000000000000020.sz", 1012, 40, 4, errCutOff.Error()}}
		g.Lost, g.Verified = lost, lost
		g.Segments[1].State = StateTorn
		g.Segments[2].Name = "00000000000000000020.sz"
	},
	// A footer says where it is damaged.
	"damaged-footer": func(g *golden) {
		g.Lost[0].Offset = 1481
		g.Verified[0].Offset = 1481
	},
	// What stands behind a footer is told.
	"junk-behind-footer": func(g *golden) {
		lost := []goldenLoss{{"00000000000000000020.sz", 1521, 20, 0, errJunk.Error()}}
		g.Lost, g.Verified = lost, lost
		g.Segments[1].State = StateDamaged
	},
	// A name that is taken no longer pushes the numbers up, and the size of a
	// file that is nobody's is told.
	"foreign":  func(g *golden) { g.End, g.Segments[1].Bytes = 20, 15 },
	"retained": func(g *golden) { g.End = 44 },
	// An error has a better text.
	"damaged-chunk-header": func(g *golden) {
		text := spill.ErrStray.Error() + ": type 0x04"
		g.Lost[0].Err, g.Verified[0].Err = text, text
	},
}

func TestGoldenDirectoriesOfVersion1AreRead(t *testing.T) { readGoldens(t, "testdata/v1", 20) }

func TestGoldenDirectoriesOfVersion2AreRead(t *testing.T) { readGoldens(t, "testdata/v2", 10) }

func readGoldens(t *testing.T, all string, least int) {
	t.Helper()
	cases, err := os.ReadDir(all)
	if err != nil {
		t.Fatal(err)
	}

	read := 0
	for _, c := range cases {
		if !c.IsDir() {
			continue
		}
		read++
		t.Run(c.Name(), func(t *testing.T) {
			root := filepath.Join(all, c.Name())
			b, err := os.ReadFile(filepath.Join(root, "golden.json"))
			if err != nil {
				t.Fatal(err)
			}
			var want golden
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}

			if f := differ[c.Name()]; f != nil && all == "testdata/v1" {
				f(&want)
			}
			got := readGolden(t, copyDir(t, filepath.Join(root, "dir")), want.Label)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if read < least {
		t.Errorf("only %d directories", read)
	}
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// readGolden does with a directory what the golden files were made of.
func readGolden(t *testing.T, dir, label string) golden {
	t.Helper()
	g := golden{Label: label}
	l, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Segments {
		g.Segments = append(g.Segments, goldenSegment{shortName(s.Path, dir), s.First, s.End,
			s.Bytes, s.FrameBytes, s.State})
	}
	if _, err := Verify(dir, func(e *spill.CorruptError) {
		g.Verified = append(g.Verified,
			brief(e, dir))
	}); err != nil {
		t.Fatal(err)
	}

	s := New(Config{Dir: dir, MaxBytes: -1})
	r, err := s.Open(t.Context(), label, true)
	if err != nil {
		t.Fatal(err)
	}
	g.Next, g.Items, g.End = r.Next, r.Items, r.End

	sum := sha256.New()
	for item, err := range spill.Items(t.Context(), s, label, r) {
		var corrupt *spill.CorruptError
		if errors.As(err, &corrupt) {
			g.Lost = append(g.Lost, brief(corrupt, dir))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(g.Read); n > 0 && g.Read[n-1][1] == item.Seq {
			g.Read[n-1][1]++
		} else {
			g.Read = append(g.Read, [2]uint64{item.Seq, item.Seq + 1})
		}
		sum.Write(append(binary.AppendUvarint(nil, uint64(len(item.Bytes))), item.Bytes...))
	}
	g.SHA256 = fmt.Sprintf("%x", sum.Sum(nil))

	if err := s.Close(t.Context(), true, r.End, r.End); err != nil {
		t.Fatal(err)
	}
	g.Left = listDir(t, dir)
	return g
}

func brief(e *spill.CorruptError, dir string) goldenLoss {
	return goldenLoss{shortName(e.Path, dir), e.Offset, e.First, e.Items, e.Err.Error()}
}

// shortName returns the name of a file, or "." for the directory.
func shortName(path, dir string) string {
	if path == dir {
		return "."
	}
	return filepath.Base(path)
}

func listDir(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
