package spill

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeSegment writes the segment of the items [first, end), each of 4 bytes, two to a chunk.
func writeSegment(t *testing.T, dir string, first, end uint64, seal bool, more string) string {
	t.Helper()
	const label = "test"
	b := appendHeader(nil, header{first: first, follows: first, kept: true, label: label})
	frames := 0
	for seq := first; seq < end; seq += 2 {
		raw := make([]byte, payloadHeaderLen)
		n := min(2, end-seq)
		for i := range n {
			raw = append(raw, 4, 'i', 't', 'm', byte(seq+i))
		}
		putPayloadHeader(raw, payload{first: seq, count: uint32(n), tag: checksum([]byte(label))})
		b = appendChunk(b, raw, false)
		frames += len(raw) - payloadHeaderLen
	}
	if seal {
		b = appendFooter(b, footer{first, end, uint64(frames)})
	}
	path := filepath.Join(dir, segmentName(first))
	if err := os.WriteFile(path, append(b, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeEmpty(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

type brief struct {
	First, End uint64
	State      string
}

func TestInspectTellsTheStateOfEachSegment(t *testing.T) {
	dir := t.TempDir()
	writeSegment(t, dir, 0, 10, true, "")  // delivered, as the receipt says
	writeSegment(t, dir, 10, 20, true, "") // 10 to 14 too
	writeSegment(t, dir, 30, 40, true, "")
	path := writeSegment(t, dir, 40, 50, true, "")
	flip(t, path, int64(len(streamID)+10))
	writeSegment(t, dir, 50, 60, false, "")
	writeSegment(t, dir, 60, 70, false, "\x00\xff")
	writeEmpty(t, dir, segmentName(70))
	writeEmpty(t, dir, retainedName(writeSegment(t, dir, 80, 90, true, "")))
	writeEmpty(t, dir, receipt{15, 40}.name())
	writeEmpty(t, dir, "notes.txt")

	l, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []brief
	for _, s := range l.Segments {
		got = append(got, brief{s.First, s.End, s.State})
	}
	want := []brief{
		{0, 10, StateSealed}, {10, 20, StateSealed}, {20, 30, StateMissing}, {30, 40, StateSealed}, {40, 50, StateDamaged},
		{50, 60, StateOpen}, {60, 70, StateTorn}, {70, 70, StateTorn}, {80, 80, StateRetained},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if l.Next != 15 || l.Items != 55 {
		t.Errorf("%d items from %d on, want 55 from 15 on", l.Items, l.Next)
	}
}

func TestItemsSkipsTheDeliveredAndReportsTheLost(t *testing.T) {
	dir := t.TempDir()
	path := writeSegment(t, dir, 0, 10, true, "")
	flip(t, path, fileSize(t, path)-footerLen-1) // items 8 and 9
	writeSegment(t, dir, 10, 15, false, "torn")
	writeEmpty(t, dir, receipt{5, 10}.name())
	before := contents(t, dir)
	var got []uint64
	var lost []brief
	for item, err := range Items(dir) {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			lost = append(lost, brief{corrupt.First, corrupt.First + corrupt.Items, filepath.Base(corrupt.Path)})
			continue
		}
		if want := []byte{'i', 't', 'm', byte(item.Seq)}; err != nil || !bytes.Equal(item.Bytes, want) {
			t.Fatalf("item %d is %q, %v", item.Seq, item.Bytes, err)
		}
		got = append(got, item.Seq)
	}
	if diff := cmp.Diff([]uint64{5, 6, 7, 10, 11, 12, 13, 14}, got); diff != "" {
		t.Errorf("items: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]brief{{8, 10, segmentName(0)}}, lost); diff != "" {
		t.Errorf("lost: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("the directory was changed: -before +after:\n%s", diff)
	}
}

func TestItemsCanBeLeftEarly(t *testing.T) {
	dir := t.TempDir()
	writeSegment(t, dir, 0, 10, true, "")
	for item, err := range Items(dir) {
		if err != nil || item.Seq > 3 {
			t.Fatal(item.Seq, err)
		}
		if item.Seq == 3 {
			break
		}
	}
}

func TestVerifyChecksDeliveredItemsTooButCallsNoneOfThemLost(t *testing.T) {
	dir := t.TempDir()
	path := writeSegment(t, dir, 0, 10, true, "")
	flip(t, path, fileSize(t, path)-footerLen-1) // items 8 and 9
	for next, want := range map[uint64]uint64{0: 2, 8: 2, 9: 1} {
		writeEmpty(t, dir, receipt{next, 10}.name())
		var places, lost uint64
		l, err := Verify(dir, func(e *CorruptError) {
			places++
			lost += e.Items
			if e.Path != path || e.First+e.Items != 10 {
				t.Errorf("from %d on: %v", next, e)
			}
		})
		if err != nil || places != 1 || lost != want || l.Items != 10-next {
			t.Errorf("from %d on: %d places, %d of %d items lost, want %d; %v", next, places, lost, l.Items, want, err)
		}
		os.Remove(filepath.Join(dir, receipt{next, 10}.name()))
	}
}

func TestSegmentsThatCanNotBeReadAreListedAndNotVerified(t *testing.T) {
	dir := t.TempDir()
	writeSegment(t, dir, 0, 10, true, "")
	b := bytes.Replace(appendHeader(nil, header{first: 10, label: "test"}), []byte(magic+"\x01"), []byte(magic+"\x63"), 1)
	b = finishSkippable(b[:len(b)-checksumLen], len(streamID))
	if err := os.WriteFile(filepath.Join(dir, segmentName(10)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Inspect(dir)
	if err != nil || len(l.Segments) != 2 || l.Segments[1].State != StateDamaged || !errors.Is(l.Segments[1].Err, ErrVersion) {
		t.Errorf("Inspect: %+v, %v", l, err)
	}
	if _, err := Verify(dir, func(*CorruptError) {}); !errors.Is(err, ErrVersion) {
		t.Errorf("Verify: %v", err)
	}
	for _, err := range Items(dir) {
		if !errors.Is(err, ErrVersion) {
			t.Errorf("Items: %v", err)
		}
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := osFS{}.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	return files
}
