//go:build unix

package segment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
)

// tempStore returns an open store without a name for its directory, in a
// temporary directory of its own.
func tempStore(t *testing.T) (s *Store, parent string) {
	t.Helper()
	parent = t.TempDir()
	t.Setenv("TMPDIR", parent)
	s = New(Config{MaxBytes: -1, SegmentSize: 4 << 10, Logger: slog.New(slog.DiscardHandler)})
	r, err := s.Open(t.Context(), "test", false)
	if err != nil || r != (spill.Range{}) {
		t.Fatalf("%+v, %v", r, err)
	}
	return s, parent
}

func TestATemporaryDirectoryIsThereOnlyWhileItIsNeeded(t *testing.T) { // B5
	s, parent := tempStore(t)
	if names := listDir(t, parent); len(names) > 0 {
		t.Fatalf("made before the first Append: %v", names)
	}
	must(t, s.Trim(t.Context(), 0))

	for round := range uint64(3) {
		for i := range uint64(10) {
			s.mustAppend(t, 50*round+5*i, 5)
		}
		names := listDir(t, parent)
		if len(names) != 1 || !strings.HasPrefix(names[0], tempPrefix) {
			t.Fatalf("%v", names)
		}
		if fi, err := os.Stat(filepath.Join(parent, names[0])); err != nil ||
			fi.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", fi.Mode(), err)
		}

		n := 0
		for item, err := range spill.Items(t.Context(), s, "test", spill.Range{Next: 50 * round,
			End: 50*round + 50}) {
			if err != nil || string(item.Bytes) != string(testItem(item.Seq)) {
				t.Fatal(item.Seq, err)
			}
			n++
		}
		must(t, s.Trim(t.Context(), 50*round+49))
		if n != 50 || len(listDir(t, parent)) != 1 {
			t.Errorf("%d items; %v while one remains", n, listDir(t, parent))
		}
		must(t, s.Trim(t.Context(), 50*round+50))
		if names := listDir(t, parent); len(names) > 0 {
			t.Fatalf("left with everything done: %v", names)
		}
	}

	s.mustAppend(t, 150, 5)
	must(t, s.Close(t.Context(), false, 0, 0))
	if names := listDir(t, parent); len(names) > 0 {
		t.Fatalf("left by Close: %v", names)
	}
	if u := s.Usage(); u.Bytes != 0 || u.Segments != 0 {
		t.Errorf("%+v", u)
	}
}

func TestATemporaryDirectoryThatCannotBeEmptiedIsLeftToTheNextSweep(t *testing.T) { // A11
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	d := newDisk()
	s := newStore(Config{MaxBytes: -1}, d.mount())
	_, err := s.Open(t.Context(), "test", false)
	must(t, err)
	s.mustAppend(t, 0, 5)
	d.fail(fault{kind: "remove", times: -1, err: syscall.EBUSY})
	if err := s.Close(t.Context(), false, 0, 0); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("Close: %v", err)
	}
	if names := listDir(t, parent); len(names) != 1 ||
		!exists(filepath.Join(parent, names[0], lockName)) {
		t.Fatalf("the marker is gone: %v", names)
	}
	sweep(parent)
	if names := listDir(t, parent); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestAStoreThatIsNeverWrittenToMakesNothing(t *testing.T) { // B5
	s, parent := tempStore(t)
	must(t, os.Remove(parent)) // so that nothing can be made
	must(t, s.Close(t.Context(), false, 0, 0))
}

func TestATemporaryDirectoryCannotBeKept(t *testing.T) {
	if _, err := New(Config{}).Open(t.Context(), "test", true); err == nil {
		t.Error("no error")
	}
}

func TestWithoutATemporaryDirectoryAppendFailsUntilThereIsOne(t *testing.T) {
	s, parent := tempStore(t)
	must(t, os.Remove(parent))
	n, err := s.Append(t.Context(), []*spill.Batch{spill.NewBatch("test", 0, []byte("x"))})
	if n != 0 || !errors.Is(err, os.ErrNotExist) ||
		!strings.Contains(err.Error(), "temporary directory") {
		t.Errorf("Append: %d, %v", n, err)
	}
	must(t, os.Mkdir(parent, 0o700))
	s.mustAppend(t, 0, 5)
	must(t, s.Close(t.Context(), false, 0, 0))
}

// leftover makes what a killed process leaves, and returns its path.
func leftover(t *testing.T, parent string, marked bool, files ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, tempPrefix)
	must(t, err)
	if marked {
		files = append(files, lockName)
	}
	for _, name := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestWhatKilledProcessesLeftIsSweptAway(t *testing.T) { // A11
	parent := t.TempDir()
	target := filepath.Join(parent, "target")
	must(t, os.WriteFile(target, []byte("precious"), 0o600))
	var gone, stays []string

	gone = append(gone,
		leftover(t, parent, true),
		leftover(t, parent, true, segmentName(0), segmentName(42), "00000000000000000042.retained"))

	inUse := leftover(t, parent, true, segmentName(0))
	l, err := lockMarkerFile(filepath.Join(inUse, lockName))
	must(t, err)
	defer l.release()
	noMarker := leftover(t, parent, false, segmentName(0))
	foreign := leftover(t, parent, true, "precious.txt", segmentName(0))
	linked := leftover(t, parent, false)
	must(t, os.Symlink(target, filepath.Join(linked, lockName)))
	other := filepath.Join(parent, "other-123")
	must(t, os.Mkdir(other, 0o700))
	must(t, os.WriteFile(filepath.Join(other, lockName), nil, 0o600))
	link := filepath.Join(parent, tempPrefix+"link")
	must(t, os.Symlink(leftoverElsewhere(t), link))
	stays = append(stays, inUse, filepath.Join(inUse, segmentName(0)), noMarker,
		filepath.Join(noMarker, segmentName(0)),
		filepath.Join(foreign, "precious.txt"), linked, other, filepath.Join(other, lockName),
		link, target,
		filepath.Join(link, segmentName(7)))

	sweep(parent)
	for _, path := range gone {
		if exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range stays {
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
}

// leftoverElsewhere is a directory that a link may point to.
func leftoverElsewhere(t *testing.T) string {
	t.Helper()
	return leftover(t, t.TempDir(), true, segmentName(7))
}

func TestDirectoriesOfOtherUsersAreNotSwept(t *testing.T) { // A11
	if os.Getuid() != 0 {
		t.Skip("needs root, to give a directory away")
	}
	parent := t.TempDir()
	dir := leftover(t, parent, true, segmentName(0))
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Skip(err)
	}
	marker := leftover(t, parent, true, segmentName(0))
	must(t, os.Chown(filepath.Join(marker, lockName), 12345, -1))
	sweep(parent)
	if !exists(filepath.Join(dir, segmentName(0))) ||
		!exists(filepath.Join(marker, segmentName(0))) {
		t.Error("swept")
	}
}

func TestTheFirstTemporaryDirectoryOfAProcessSweeps(t *testing.T) { // A11
	s, parent := tempStore(t)
	swept.Store(false)
	dir := leftover(t, parent, true, segmentName(0))
	if !exists(dir) {
		t.Fatal("swept too early")
	}
	s.mustAppend(t, 0, 5)
	if exists(dir) {
		t.Error("not swept")
	}

	dir = leftover(t, parent, true, segmentName(0))
	must(t, s.Trim(t.Context(), 5))
	s.mustAppend(t, 5, 5)
	if !exists(dir) {
		t.Error("swept a second time")
	}
	must(t, s.Close(t.Context(), false, 0, 0))
}

func init() { children["HOPPER_TEST_KILLED"] = spillAndDie }

// spillAndDie is a process that ends without Close.
func spillAndDie(parent string) int {
	os.Setenv("TMPDIR", parent)
	s := New(Config{MaxBytes: -1})
	ctx := context.Background()
	if _, err := s.Open(ctx, "test", false); err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := s.Append(ctx, []*spill.Batch{spill.NewBatch("test", 0, []byte("x"))}); err != nil {
		fmt.Println(err)
		return 1
	}
	return 7
}

func TestTheDirectoryOfAProcessThatEndsWithoutCloseIsSwept(t *testing.T) { // A11
	s, parent := tempStore(t)
	for range 2 { // the second one sweeps what the first has left
		runChild(t, "HOPPER_TEST_KILLED", parent, 7)
		if names := listDir(t, parent); len(names) != 1 {
			t.Fatalf("%v", names)
		}
	}
	swept.Store(false)
	s.mustAppend(t, 0, 5)
	must(t, s.Close(t.Context(), false, 0, 0))
	if names := listDir(t, parent); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

// runChild runs this binary as a child, and checks how it ends.
func runChild(t *testing.T, name, value string, exit int) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), name+"="+value)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != exit {
		t.Fatalf("exit %d, want %d: %s", got, exit, out)
	}
}

func TestADirectoryThatIsSweptWhileItIsMadeIsMadeAgain(t *testing.T) { // A11
	parent := t.TempDir()
	stop := make(chan struct{})
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		for {
			select {
			case <-stop:
				return
			default:
				sweep(parent)
			}
		}
	}()

	for range 200 {
		path, l, err := newTemp(parent)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(path, segmentName(0)), nil, 0o600))
		if !exists(filepath.Join(path, lockName)) {
			t.Errorf("%s has lost its marker", path)
		}
		must(t, os.Remove(filepath.Join(path, segmentName(0))))
		must(t, l.release())
		os.Remove(path)
	}
	close(stop)
	<-swept
	for _, name := range listDir(t, parent) {
		if names := listDir(t, filepath.Join(parent, name)); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
	}
}

func TestAMarkerThatWasRemovedIsNoLock(t *testing.T) { // A11
	path := filepath.Join(t.TempDir(), lockName)
	f, err := createPrivate(path)
	must(t, err)
	defer f.Close()
	must(t, os.Remove(path))
	if _, err := lockMarker(f); !errors.Is(err, errStale) {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(path, nil, 0o600)) // another one in its place
	if _, err := lockMarker(f); !errors.Is(err, errStale) {
		t.Errorf("%v", err)
	}
}

func TestAMarkerCanBeLockedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), lockName)
	l, err := lockMarkerFile(path)
	must(t, err)
	if _, err := lockMarkerFile(path); !errors.Is(err, spill.ErrLocked) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	must(t, l.release())
	if exists(path) {
		t.Error("the marker is left")
	}
}

func TestCheckTempLeavesNothingBehind(t *testing.T) {
	parent := t.TempDir()
	must(t, checkWritable(parent))
	if diff := cmp.Diff([]string{}, listDir(t, parent)); diff != "" {
		t.Error(diff)
	}
	file := filepath.Join(parent, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{file, filepath.Join(parent, "missing")} {
		if err := checkWritable(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	must(t, CheckTemp())
}

func TestAnEmptyTemporaryDirectoryIsSweptAfterAnHour(t *testing.T) {
	parent := t.TempDir()
	now := time.Now()
	aged := func(age time.Duration, files ...string) string {
		dir := leftover(t, parent, false, files...)
		must(t, os.Chtimes(dir, now, now.Add(-age)))
		return dir
	}
	young, old := aged(59*time.Minute), aged(61*time.Minute)
	full := aged(2*time.Hour, segmentName(0))
	marked := leftover(t, parent, true)
	must(t, os.Chtimes(marked, now, now.Add(-2*time.Hour)))
	m, err := lockMarkerFile(filepath.Join(marked, lockName))
	must(t, err)
	defer m.release()

	sweep(parent)
	for path, stays := range map[string]bool{young: true, old: false, full: true, marked: true} {
		if exists(path) != stays {
			t.Errorf("%s: stays %v", path, exists(path))
		}
	}
}

func TestATemporaryDirectoryRetainsNothing(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	for _, trim := range []bool{true, false} {
		d := newDisk()
		s := newStore(Config{MaxBytes: -1, SegmentSize: 1}, d.mount())
		_, err := s.Open(t.Context(), "test", false)
		must(t, err)
		s.mustAppend(t, 0, 5)
		s.mustAppend(t, 5, 5)
		d.fail(fault{kind: "read", times: 1, err: syscall.EIO})
		ext, err := s.Read(t.Context(), 0, spill.Position{}, readBuf())
		if err != nil || !errors.Is(ext.Err, syscall.EIO) {
			t.Fatalf("%+v, %v", ext, err)
		}

		if trim {
			must(t, s.Trim(t.Context(), 10))
			if names := append(d.names(), listDir(t, parent)...); len(names) > 0 {
				t.Errorf("left by Trim: %v", names)
			}
		}
		must(t, s.Close(t.Context(), false, 0, 0))
		if names := append(d.names(), listDir(t, parent)...); len(names) > 0 {
			t.Errorf("left by Close: %v", names)
		}
	}
}
