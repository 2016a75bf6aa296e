//go:build unix

package segment

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

// closeGone closes the store and checks what Close says to be gone.
func (b *bench) closeGone(next, first, items uint64) {
	b.t.Helper()
	err := b.store.Close(b.t.Context(), true, next, b.seq)
	if u := b.store.Usage(); u.Segments != b.count() {
		b.t.Errorf("%d segments are left: %+v", b.count(), u)
	}
	var gone *spill.CorruptError
	if !errors.As(err, &gone) || gone.First != first || gone.Items != items {
		b.t.Fatalf("Close: %v, want %d items from %d on to be gone", err, items, first)
	}
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), gone.Path) ||
		!strings.Contains(err.Error(), "let no other program") ||
		strings.Contains(err.Error(), "twice") {
		b.t.Errorf("Close: %v", err)
	}
}

// count returns how many segments there are where the directory leads to.
func (b *bench) count() int {
	if b.store.dir.check() != nil {
		return 0
	}
	return len(b.paths())
}

func TestCloseDoesNotVouchForASegmentThatIsGone(t *testing.T) { // R11
	for _, tt := range []struct {
		name string
		nth  []int // segments that go
		next int   // segment with the first item that is left, the third of which it is
	}{
		{"the first", []int{0}, 0},
		{"the first, of which a part is done", []int{1}, 1},
		{"one in the middle", []int{2}, 0},
		{"several", []int{1, 3}, 0},
		{"the last, which is active", []int{-1}, 0},
	} {
		for _, resumed := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				b := newBench(t, unlimited)
				b.put(100, 5)
				if resumed {
					b.reopen(0)
				}
				segments := b.store.index.all()
				next := segments[tt.next].first + 2
				first, items := never, uint64(0)
				for _, n := range tt.nth {
					s := segments[(n+len(segments))%len(segments)]
					delete(b.disk.files, s.path)
					first = min(first, max(next, s.first))
					items += s.end - max(next, s.first)
				}
				b.closeGone(next, first, items)

				b.open()
				if b.found.Crashed || b.found.End < b.seq {
					t.Errorf("%+v", b.found)
				}
				if d := b.drain(b.found, testItem); d.items() != 100-next-items {
					t.Errorf("read %v, lost %v", d.read, d.lost)
				}
				b.close(b.seq)
				if diff := cmp.Diff([]string{}, b.disk.names()); diff != "" {
					t.Errorf("left: %s", diff)
				}
			})
		}
	}
}

func TestWhatIsGoneAndDoneIsNoLoss(t *testing.T) { // R11
	b := newBench(t, unlimited)
	b.put(100, 5)
	segments := b.store.index.all()
	delete(b.disk.files, segments[0].path)
	b.close(segments[0].end)
	b.open()
	if d := b.drain(b.found, testItem); d.losses() > 0 || b.found.Next != segments[0].end {
		t.Errorf("%+v: lost %v", b.found, d.lost)
	}

	for _, s := range segments {
		delete(b.disk.files, s.path)
	}
	b.seq = 100
	b.close(100)
}

func TestCloseDoesNotVouchIfTheDirectoryIsGone(t *testing.T) { // R11
	for _, replaced := range []bool{false, true} {
		b := newBench(t, unlimited)
		b.put(100, 5)
		b.close(3)
		delete(b.disk.files, b.paths()[1])
		b.open() // which knows of the loss
		b.put(20, 5)

		must(t, os.RemoveAll(b.cfg.Dir))
		if replaced {
			must(t, os.Mkdir(b.cfg.Dir, 0o700))
		}
		names := b.disk.names() // of another store, if there is another directory
		if n := b.disk.operations("remove"); b.store.Trim(t.Context(), 3) != nil ||
			b.disk.operations("remove") != n {
			t.Error("something was removed")
		}
		b.closeGone(8, 8, 112)
		if diff := cmp.Diff(names, b.disk.names()); diff != "" {
			t.Errorf("replaced %v: files have changed: %s", replaced, diff)
		}
	}
}

func TestTheFilesOfAnotherStoreInItsPlaceAreLeftAlone(t *testing.T) { // R11
	cfg := Config{Dir: filepath.Join(t.TempDir(), "log"), MaxBytes: -1, SegmentSize: 1}
	first, second := New(cfg), New(cfg)
	_, err := first.Open(t.Context(), "test", true)
	must(t, err)
	first.mustAppend(t, 0, 5)
	first.mustAppend(t, 5, 5)
	must(t, os.Rename(cfg.Dir, cfg.Dir+"-old"))

	_, err = second.Open(t.Context(), "test", true)
	must(t, err)
	second.mustAppend(t, 0, 5)
	before := contents(t, cfg.Dir)

	more := []*spill.Batch{spill.NewBatch("test", 10, []byte("x"))}
	if n, err := first.Append(t.Context(), more); n != 0 || !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), "has been replaced") {
		t.Errorf("Append: %d, %v", n, err)
	}
	must(t, first.Trim(t.Context(), 5))
	var gone *spill.CorruptError
	if err := first.Close(t.Context(), true, 5, 10); !errors.As(err, &gone) || gone.First != 5 ||
		gone.Items != 5 {
		t.Errorf("Close: %v", err)
	}
	if diff := cmp.Diff(before, contents(t, cfg.Dir)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	must(t, second.Close(t.Context(), true, 0, 5))
}

func TestCloseSaysIfItCanNotTellWhatIsThere(t *testing.T) {
	b := newBench(t, unlimited)
	b.put(10, 5)
	b.disk.fail(fault{kind: "list", times: 1, err: fs.ErrPermission})
	err := b.store.Close(t.Context(), true, 0, 10)
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, spill.ErrCorrupt) {
		t.Errorf("Close: %v", err)
	}
	b.open()
	b.wants(0, [2]uint64{0, 10})
}

func TestARemovedDirectoryIsToldAtCloseAndOnlyThere(t *testing.T) { // R11
	cfg := realConfig(t)
	cfg.SegmentSize = 1
	s, _ := openReal(t, cfg)
	s.mustAppend(t, 0, 5)
	s.mustAppend(t, 5, 5)
	must(t, s.Close(t.Context(), true, 0, 10))

	s, _ = openReal(t, cfg)
	s.mustAppend(t, 10, 5)
	must(t, os.RemoveAll(cfg.Dir))
	must(t, s.Trim(t.Context(), 5))
	if u := s.Usage(); u.Segments != 2 {
		t.Errorf("%+v", u)
	}
	want := "spill: " + cfg.Dir + " is gone, 10 items from 5 on are lost: " +
		"let no other program remove files there"
	if err := s.Close(t.Context(), true, 5, 15); err == nil || err.Error() != want {
		t.Errorf("Close: %v", err)
	}
	if u := s.Usage(); u.Segments != 0 || u.Bytes != 0 {
		t.Errorf("%+v", u)
	}
}
