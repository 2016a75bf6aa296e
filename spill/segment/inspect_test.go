package segment

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

// writeSegment writes the segment of the items [first, end), each of 4 bytes,
// two to a chunk.
func writeSegment(t *testing.T, dir string, first, end uint64, seal bool, more string) string {
	t.Helper()
	const label = "test"
	b := appendHeader(nil, header{version: version1, first: first, follows: first, kept: true, label: label})
	frames := uint64(0)
	for seq := first; seq < end; seq += 2 {
		var items [][]byte
		for i := seq; i < min(seq+2, end); i++ {
			items = append(items, shortItem(i))
		}
		batch := spill.NewBatch(label, seq, items...)
		for chunk := range batch.Chunks {
			b = append(b, chunk...)
		}
		frames += uint64(batch.FrameBytes())
	}
	if seal {
		b = appendFooter(b, footer{first: first, end: end, frames: frames})
	}
	path := filepath.Join(dir, segmentName(first))
	must(t, os.WriteFile(path, append(b, more...), 0o600))
	return path
}

func shortItem(seq uint64) []byte { return []byte{'i', 't', 'm', byte(seq)} }

func writeEmpty(t *testing.T, dir, name string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
}

// flip changes a bit of a file, counted from its end if at is negative.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
}

// contents returns the files in a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range listDir(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		files[name] = string(b)
	}
	return files
}

type state struct {
	First, End uint64
	State      string
}

func states(l Listing) (s []state) {
	for _, i := range l.Segments {
		s = append(s, state{i.First, i.End, i.State})
	}
	return s
}

func TestInspectTellsTheStateOfEachSegment(t *testing.T) {
	dir := t.TempDir()
	writeSegment(t, dir, 0, 10, true, "")  // done, as the receipt says
	writeSegment(t, dir, 10, 20, true, "") // 10 to 14 too
	writeSegment(t, dir, 30, 40, true, "")
	flip(t, writeSegment(t, dir, 40, 50, true, ""), len(streamID)+10)
	writeSegment(t, dir, 50, 60, false, "")
	writeSegment(t, dir, 60, 70, false, "\x00\xff")
	writeEmpty(t, dir, segmentName(70))
	writeEmpty(t, dir, retainedName(writeSegment(t, dir, 80, 90, true, "")))
	writeSegment(t, dir, 90, 92, true, "junk")
	writeEmpty(t, dir, receipt{15, 40}.name())
	writeEmpty(t, dir, "notes.txt")
	must(t, os.WriteFile(filepath.Join(dir, segmentName(95)), []byte("not ours"), 0o600))
	before := contents(t, dir)

	l, err := Inspect(dir)
	must(t, err)
	want := []state{
		{0, 10, StateSealed}, {10, 20, StateSealed}, {20, 30, StateMissing}, {30, 40, StateSealed},
		{40, 50, StateDamaged}, {50, 60, StateOpen}, {60, 70, StateTorn}, {70, 70, StateTorn},
		{70, 90, StateMissing}, {80, 80, StateRetained}, {90, 92, StateDamaged}, {95, 95,
			StateDamaged},
	}
	if diff := cmp.Diff(want, states(l)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if l.Next != 15 || l.Items != 77 || l.Empty() {
		t.Errorf("%d items from %d on, want 77 from 15 on", l.Items, l.Next)
	}
	if s := l.Segments[0]; s.Bytes != int64(len(before[segmentName(0)])) || s.FrameBytes != 50 ||
		s.Label != "test" || s.Path != filepath.Join(dir, segmentName(0)) {
		t.Errorf("%+v", s)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("the directory was changed: -before +after:\n%s", diff)
	}
}

func TestADirectoryWithoutAnySegmentIsToldFromASoundOne(t *testing.T) {
	dir := t.TempDir()
	writeEmpty(t, dir, "passwd")
	writeEmpty(t, dir, "00000000000000000001.ack")
	for _, look := range []func(string) (Listing, error){
		Inspect, func(dir string) (Listing, error) {
			return Verify(dir,
				func(*spill.CorruptError) { t.Error("damage") })
		},
	} {
		if l, err := look(dir); err != nil || !l.Empty() {
			t.Errorf("%+v, %v", l, err)
		}
	}
	writeSegment(t, dir, 0, 1, true, "")
	if l, err := Inspect(dir); err != nil || l.Empty() {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := Inspect(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestItemsSkipsWhatIsDoneAndReportsWhatIsLost(t *testing.T) {
	dir := t.TempDir()
	flip(t, writeSegment(t, dir, 0, 10, true, ""), -footerLen-1) // items 8 and 9
	writeSegment(t, dir, 10, 15, false, "torn")
	writeEmpty(t, dir, receipt{5, 10}.name())
	before := contents(t, dir)

	var got []uint64
	var lost []goldenLoss
	for item, err := range Items(dir) {
		var corrupt *spill.CorruptError
		if errors.As(err, &corrupt) {
			lost = append(lost, brief(corrupt, dir))
			continue
		}
		if err != nil || !bytes.Equal(item.Bytes, shortItem(item.Seq)) {
			t.Fatalf("item %d is %q, %v", item.Seq, item.Bytes, err)
		}
		got = append(got, item.Seq)
	}
	if diff := cmp.Diff([]uint64{5, 6, 7, 10, 11, 12, 13, 14}, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if len(lost) != 1 || lost[0].First != 8 || lost[0].Items != 2 ||
		lost[0].Path != segmentName(0) {
		t.Errorf("lost: %+v", lost)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("the directory was changed: -before +after:\n%s", diff)
	}
}

func TestItemsCanBeLeftEarly(t *testing.T) {
	dir := t.TempDir()
	writeSegment(t, dir, 0, 10, true, "")
	n := 0
	for item, err := range Items(dir) {
		if must(t, err); item.Seq == 3 {
			break
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d items", n)
	}
}

func TestVerifyChecksWhatIsDoneTooButCallsNoneOfItLost(t *testing.T) {
	dir := t.TempDir()
	path := writeSegment(t, dir, 0, 10, true, "")
	flip(t, path, -footerLen-1) // items 8 and 9
	for next, want := range map[uint64]uint64{0: 2, 8: 2, 9: 1} {
		writeEmpty(t, dir, receipt{next, 10}.name())
		var places, lost uint64
		l, err := Verify(dir, func(e *spill.CorruptError) {
			places++
			lost += e.Items
			if e.Path != path || e.First+e.Items != 10 {
				t.Errorf("from %d on: %v", next, e)
			}
		})
		if err != nil || places != 1 || lost != want || l.Items != 10-next {
			t.Errorf("from %d on: %d places, %d of %d items lost, want %d; %v", next, places,
				lost, l.Items, want, err)
		}
		must(t, os.Remove(filepath.Join(dir, receipt{next, 10}.name())))
	}
}

func TestVerifyTellsOfJunkBehindAFooter(t *testing.T) { // A19
	dir := t.TempDir()
	path := writeSegment(t, dir, 0, 10, true, "")
	at := int64(len(contents(t, dir)[segmentName(0)]))
	writeSegment(t, dir, 0, 10, true, "junk")
	var told []*spill.CorruptError
	l, err := Verify(dir, func(e *spill.CorruptError) { told = append(told, e) })
	if err != nil || len(told) != 1 || told[0].Path != path || told[0].Offset != at ||
		told[0].Items != 0 {
		t.Errorf("%v, %v", told, err)
	}
	if l.Items != 10 {
		t.Errorf("%+v", l)
	}
}

func TestSegmentsThatCanNotBeReadAreListedAndNotVerified(t *testing.T) {
	other := appendHeader(nil, header{version: version1, first: 10, label: "other"})
	for _, tt := range []struct {
		name  string
		b     []byte
		state string
		is    func(error) bool
	}{
		{"version", futureHeader(), StateDamaged, func(err error) bool {
			return errors.Is(err,
				spill.ErrVersion)
		}},
		{"label", other, StateOpen, func(err error) bool {
			return errors.As(err,
				new(*spill.LabelError))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			writeSegment(t, dir, 0, 10, true, "")
			must(t, os.WriteFile(filepath.Join(dir, segmentName(10)), tt.b, 0o600))
			l, err := Inspect(dir)
			if err != nil || len(l.Segments) != 2 || l.Segments[1].State != tt.state ||
				!tt.is(l.Segments[1].Err) {
				t.Errorf("Inspect: %+v, %v", l, err)
			}
			if l.Segments[1].Bytes != int64(len(tt.b)) {
				t.Errorf("%+v", l.Segments[1])
			}
			if _, err := Verify(dir, func(*spill.CorruptError) {}); !tt.is(err) {
				t.Errorf("Verify: %v", err)
			}
			n := 0
			for _, err := range Items(dir) {
				if n++; !tt.is(err) {
					t.Errorf("Items: %v", err)
				}
			}
			if n != 1 {
				t.Errorf("%d items", n)
			}
		})
	}
}

// TestADirectoryInUseCanBeLookedAt looks at the directory of a store that
// writes and deletes: nothing of that is damage.
func TestADirectoryInUseCanBeLookedAt(t *testing.T) {
	dir := t.TempDir()
	s := New(Config{Dir: dir, MaxBytes: -1, SegmentSize: 2 << 10})
	_, err := s.Open(t.Context(), "test", true)
	must(t, err)
	s.mustAppend(t, 0, 5)

	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 30 {
			last := uint64(0)
			for item, err := range Items(dir) {
				if err != nil || item.Seq < last || !bytes.Equal(item.Bytes, testItem(item.Seq)) {
					t.Errorf("item %d behind %d: %v", item.Seq, last, err)
				}
				last = item.Seq
			}
			if _, err := Verify(dir, func(e *spill.CorruptError) { t.Error(e) }); err != nil {
				t.Error(err)
			}
		}
	}()
	for seq := uint64(5); ; seq += 5 {
		s.mustAppend(t, seq, 5)
		if seq > 100 {
			must(t, s.Trim(t.Context(), seq-100))
		}
		select {
		case <-done:
			must(t, s.Close(t.Context(), true, seq+5, seq+5))
			return
		default:
		}
	}
}

func TestAViewCannotBeChanged(t *testing.T) {
	dir := t.TempDir()
	writeSegment(t, dir, 0, 10, true, "")
	v, err := look(dir)
	must(t, err)
	r, err := v.Open(t.Context(), "test", true)
	if err != nil || r.Items != 10 {
		t.Errorf("%+v, %v", r, err)
	}
	v.Lift()
	if n, err := v.Append(t.Context(), []*spill.Batch{spill.NewBatch("test", 10,
		nil)}); n != 0 || err == nil {
		t.Errorf("Append: %d, %v", n, err)
	}
	if err := v.Trim(t.Context(), 10); err == nil {
		t.Error("Trim: no error")
	}
	must(t, v.Close(t.Context(), false, 0, 0))
	if diff := cmp.Diff([]string{segmentName(0)}, listDir(t, dir)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheLabelIsThatOfTheFirstSegmentWithASoundHeader(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, segmentName(0)), futureHeader(), 0o600))
	flip(t, writeSegment(t, dir, 10, 20, true, ""), len(streamID)+10)
	writeSegment(t, dir, 20, 30, true, "")
	writeEmpty(t, dir, "99999999999999999999.sz")
	l, err := Inspect(dir)
	must(t, err)
	var labels []string
	for _, s := range l.Segments {
		labels = append(labels, s.Label)
	}
	if diff := cmp.Diff([]string{"", "test", "test"}, labels); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatARunningStoreTakesBackIsNoDamage(t *testing.T) {
	for _, tt := range []struct {
		name  string
		seal  bool
		spoil func(path string)
		lost  uint64
	}{
		{"nothing", false, func(string) {}, 0},
		{"a chunk is cut back", false, func(path string) { shorten(t, path, 5) }, 0},
		{"a sealed segment is cut off", true, func(path string) { shorten(t, path, footerLen+5) }, 2},
		{"a bit flips", false, func(path string) { flip(t, path, -1) }, 2},
	} {
		dir := t.TempDir()
		path := writeSegment(t, dir, 0, 10, tt.seal, "")
		v, err := look(dir)
		must(t, err)
		tt.spoil(path)

		var items, lost uint64
		for _, err := range v.items(0) {
			var corrupt *spill.CorruptError
			switch {
			case errors.As(err, &corrupt):
				lost += corrupt.Items
			case err != nil:
				t.Fatal(err)
			default:
				items++
			}
		}
		if want := uint64(10); tt.lost != lost || items > want-tt.lost || items < 8 {
			t.Errorf("%s: %d items, %d lost", tt.name, items, lost)
		}
	}
}

// shorten cuts bytes off the end of a file.
func shorten(t *testing.T, path string, bytes int64) {
	t.Helper()
	fi, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, fi.Size()-bytes))
}
