//go:build unix

package segment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"example.com/hopper/spill"
)

// openReal opens a store on the real file system.
func openReal(t *testing.T, cfg Config) (*Store, spill.Range) {
	t.Helper()
	s := New(cfg)
	r, err := s.Open(t.Context(), "test", true)
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

func realConfig(t *testing.T) Config {
	t.Helper()
	return Config{Dir: filepath.Join(t.TempDir(), "log"), MaxBytes: -1, SegmentSize: 4 << 10}
}

// checkReal reads the items from next up to end.
func checkReal(t *testing.T, s *Store, next, end uint64) {
	t.Helper()
	n := next
	for item, err := range spill.Items(t.Context(), s, "test", spill.Range{Next: next, End: end}) {
		if err != nil || item.Seq != n || string(item.Bytes) != string(testItem(n)) {
			t.Fatalf("item %d, want %d: %v", item.Seq, n, err)
		}
		n++
	}
	if n != end {
		t.Fatalf("items up to %d, want %d", n, end)
	}
}

func TestTwoStoresCannotShareADirectory(t *testing.T) {
	cfg := realConfig(t)
	s, _ := openReal(t, cfg)
	_, err := New(cfg).Open(t.Context(), "test", true)
	if !errors.Is(err, spill.ErrLocked) || !strings.Contains(err.Error(), cfg.Dir) ||
		strings.Count(err.Error(), "spill:") != 1 {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	must(t, s.Close(t.Context(), true, 0, 0))
	s, _ = openReal(t, cfg)
	must(t, s.Close(t.Context(), true, 0, 0))
}

func TestPlantedLinksAndPipesAreLeftAlone(t *testing.T) {
	cfg := realConfig(t)
	target := filepath.Join(t.TempDir(), "target")
	elsewhere := realConfig(t)
	s, _ := openReal(t, elsewhere)
	s.mustAppend(t, 200, 5)
	must(t, s.Close(t.Context(), true, 200, 205))
	must(t, os.Rename(filepath.Join(elsewhere.Dir, segmentName(200)), target)) // a sound segment
	precious, err := os.ReadFile(target)
	must(t, err)
	must(t, os.MkdirAll(cfg.Dir, 0o700))
	must(t, os.Symlink(target, filepath.Join(cfg.Dir, segmentName(50))))
	must(t, os.Symlink(target, filepath.Join(cfg.Dir,
		segmentName(0)))) // the very name that comes next
	must(t, unix.Mkfifo(filepath.Join(cfg.Dir, segmentName(51)), 0o600))
	must(t, os.Mkdir(filepath.Join(cfg.Dir, segmentName(52)), 0o700))

	s, r := openReal(t, cfg)
	if r.Items > 0 {
		t.Errorf("%+v", r)
	}
	for i := range uint64(20) {
		s.mustAppend(t, 5*i, 5)
	}
	checkReal(t, s, 0, 100)
	must(t, s.Close(t.Context(), true, 0, 100))
	s, _ = openReal(t, cfg)
	checkReal(t, s, 0, 100)
	must(t, s.Close(t.Context(), true, 100, 100))

	if b, err := os.ReadFile(target); err != nil || string(b) != string(precious) {
		t.Errorf("%q, %v", b, err)
	}
	if names := listDir(t, cfg.Dir); len(names) != 4 {
		t.Errorf("left: %v", names)
	}
}

func init() { children["HOPPER_TEST_UMASK"] = underUmask }

// underUmask makes a store with segments in dir.
func underUmask(dir string) int {
	for _, mask := range []int{0, 0o777} {
		syscall.Umask(mask)
		s := New(Config{Dir: filepath.Join(dir, fmt.Sprintf("%o", mask), "sub"), MaxBytes: -1})
		_, err := s.Open(context.Background(), "test", true)
		if err == nil {
			_, err = s.Append(context.Background(), []*spill.Batch{spill.NewBatch("test", 0,
				[]byte("secret"))})
		}
		if err := errors.Join(err, s.Close(context.Background(), true, 0, 1)); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

func TestSegmentsArePrivateWhateverTheUmask(t *testing.T) {
	dir := t.TempDir()
	runChild(t, "HOPPER_TEST_UMASK", dir, 0)
	for _, mask := range []string{"0", "777"} {
		for path, want := range map[string]fs.FileMode{
			mask: 0o700, filepath.Join(mask, "sub"): 0o700, filepath.Join(mask, "sub",
				segmentName(0)): 0o600,
		} {
			fi, err := os.Stat(filepath.Join(dir, path))
			must(t, err)
			if diff := cmp.Diff(want, fi.Mode().Perm()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
}

func TestADirectoryThatIsNoneIsToldPlainly(t *testing.T) { // A18
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	_, err := New(Config{Dir: file}).Open(t.Context(), "test", true)
	if err == nil || !strings.Contains(err.Error(), file+" is a file, not a directory") {
		t.Errorf("Open: %v", err)
	}
	if _, err := New(Config{Dir: filepath.Join(file, "sub")}).Open(t.Context(), "test",
		true); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("Open: %v", err)
	}
}

func init() { children["HOPPER_TEST_READONLY"] = openReadOnly }

// openReadOnly opens a store as a user that may not write to dir.
func openReadOnly(dir string) int {
	if os.Getuid() == 0 {
		if err := syscall.Setuid(12345); err != nil {
			return 3
		}
	}
	_, err := New(Config{Dir: dir, MaxBytes: -1}).Open(context.Background(), "test", true)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(),
		"directory "+dir+" is not writable") {
		fmt.Println(err)
		return 1
	}
	if err := checkWritable(dir); !errors.Is(err, fs.ErrPermission) ||
		!strings.Contains(err.Error(), "is not writable") {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestADirectoryThatIsNotWritableIsToldPlainly(t *testing.T) { // A18
	dir, err := os.MkdirTemp("", "readonly")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o555))
	if os.Getuid() == 0 {
		exe, err := os.Executable()
		must(t, err)
		for ; exe != "/"; exe = filepath.Dir(exe) { // the child must reach itself
			if fi, err := os.Stat(exe); err != nil || fi.Mode().Perm()&0o005 != 0o005 &&
				!strings.HasPrefix(exe, os.TempDir()) {
				t.Skip("the test binary is out of the reach of other users")
			}
		}
	}
	runChild(t, "HOPPER_TEST_READONLY", dir, 0)
	if names := listDir(t, dir); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func init() { children["HOPPER_TEST_NOFILE"] = withoutDescriptors }

// withoutDescriptors opens stores where no file can be opened.
func withoutDescriptors(dir string) int {
	os.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	temp := New(Config{MaxBytes: -1})
	if _, err := temp.Open(context.Background(), "test", false); err != nil {
		fmt.Println(err)
		return 1
	}
	checkWritable(dir)

	var held []*os.File
	for {
		f, err := os.Open(dir)
		if err != nil {
			break
		}
		held = append(held, f)
	}
	named := New(Config{Dir: filepath.Join(dir, "named"), MaxBytes: -1})
	_, err1 := named.Open(context.Background(), "test", true)
	_, err2 := temp.Append(context.Background(), []*spill.Batch{spill.NewBatch("test", 0,
		[]byte("x"))})
	for _, f := range held {
		f.Close()
	}
	for _, err := range []error{err1, err2} {
		if !errors.Is(err, syscall.EMFILE) || !namesLimit(err) {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

func TestTooManyOpenFilesAreToldPlainlyAndLeaveNothing(t *testing.T) { // A17
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command("sh", "-c", `ulimit -n 40 && exec "$0"`, exe)
	cmd.Env = append(os.Environ(), "HOPPER_TEST_NOFILE="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff([]string{"tmp"}, listDir(t, dir)); diff != "" {
		t.Errorf("left: %s", diff)
	}
	if diff := cmp.Diff([]string{}, listDir(t, filepath.Join(dir, "tmp"))); diff != "" {
		t.Errorf("left: %s", diff)
	}
}

func init() { children["HOPPER_TEST_FSIZE"] = withSmallFiles }

// withSmallFiles fills a store where no file may exceed some KiB.
func withSmallFiles(dir string) int {
	s := New(Config{Dir: filepath.Join(dir, "log"), MaxBytes: -1})
	ctx := context.Background()
	_, err := s.Open(ctx, "test", true)
	for seq := uint64(0); seq < 400 && err == nil; seq += 5 {
		var items [][]byte
		for i := range uint64(5) {
			items = append(items, testItem(seq+i))
		}
		_, err = s.Append(ctx, []*spill.Batch{spill.NewBatch("test", seq, items...)})
	}
	if err := errors.Join(err, s.Close(ctx, true, 0, 400)); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestALimitOfTheSizeOfFilesCostsNothing(t *testing.T) { // A10
	dir := t.TempDir()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command("sh", "-c", `ulimit -f 16 && exec "$0"`, exe)
	cmd.Env = append(os.Environ(), "HOPPER_TEST_FSIZE="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s, r := openReal(t, Config{Dir: filepath.Join(dir, "log"), MaxBytes: -1})
	if r.Items != 400 || s.Usage().Segments < 5 {
		t.Errorf("%+v in %d segments", r, s.Usage().Segments)
	}
	checkReal(t, s, 0, 400)
	must(t, s.Close(t.Context(), true, 400, 400))
}

func TestADirectoryThatIsRemovedMeanwhileRefusesOnly(t *testing.T) {
	cfg := realConfig(t)
	s, _ := openReal(t, cfg)
	s.mustAppend(t, 0, 5)
	must(t, os.RemoveAll(cfg.Dir))
	checkReal(t, s, 0, 5) // the active segment is open
	s.writer.seal()
	if _, err := s.Append(t.Context(), []*spill.Batch{spill.NewBatch("test", 5,
		nil)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Append: %v", err)
	}
	s.Close(t.Context(), true, 5, 5)
}

func TestASegmentThatIsTruncatedMeanwhile(t *testing.T) { // A16
	cfg := realConfig(t)
	s, _ := openReal(t, cfg)
	s.mustAppend(t, 0, 5)
	must(t, os.Truncate(filepath.Join(cfg.Dir, segmentName(0)), 0))
	for i := range uint64(20) {
		s.mustAppend(t, 5+5*i, 5)
	}
	checkReal(t, s, 5, 105)
	must(t, s.Close(t.Context(), true, 0, 105))
}

// mount mounts a tmpfs, or skips the test.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs a tmpfs mount: Linux and root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs",
		dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	return dir
}

func TestARealFullDiskLosesNothing(t *testing.T) { // A9
	for _, keepFree := range []int64{0, 300 << 10} {
		t.Run(fmt.Sprint("KeepFree ", keepFree), func(t *testing.T) {
			dir := mountTmpfs(t, "size=1m")
			s, _ := openReal(t, Config{Dir: filepath.Join(dir, "log"), MaxBytes: -1,
				KeepFree: keepFree})
			next, end := uint64(0), uint64(0)
			fill := func() {
				t.Helper()
				for {
					var items [][]byte
					for i := range uint64(20) {
						items = append(items, testItem(end+i))
					}
					n, err := s.Append(t.Context(), []*spill.Batch{spill.NewBatch("test", end,
						items...)})
					if n == 0 {
						if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, ErrKeepFree) {
							t.Fatal(err)
						}
						if avail, _, err := Free(dir); err != nil || avail < keepFree {
							t.Errorf("%d bytes are free, want %d: %v", avail, keepFree, err)
						}
						return
					}
					end += 20
				}
			}

			for range 4 { // room comes back as items are done, and is used
				before := end
				fill()
				if end == before {
					t.Fatalf("nothing is taken, with items %d to %d there", next, end)
				}
				checkReal(t, s, next, end)
				next += (end - next) * 2 / 3
				must(t, s.Trim(t.Context(), next))
			}
			must(t, s.Close(t.Context(), true, next, end))
			s, _ = openReal(t, Config{Dir: filepath.Join(dir, "log"), MaxBytes: -1,
				KeepFree: keepFree})
			checkReal(t, s, next, end)
			must(t, s.Close(t.Context(), true, end, end))
			if names := listDir(t, filepath.Join(dir, "log")); len(names) > 0 {
				t.Errorf("left: %v", names)
			}
		})
	}
}

func TestAFullDiskIsNoObstacleToOpen(t *testing.T) {
	dir := mountTmpfs(t, "size=1m")
	log := &logBuffer{}
	cfg := Config{Dir: filepath.Join(dir, "log"), MaxBytes: -1,
		Logger: slog.New(slog.NewTextHandler(log, nil))}
	s, _ := openReal(t, cfg)
	if n := log.count("in memory"); n != 1 || inMemory("/proc") {
		t.Errorf("said %d times that the directory is in memory", n)
	}
	s.mustAppend(t, 0, 5)
	must(t, s.Close(t.Context(), true, 0, 5))
	f, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	f.Close()
	s, _ = openReal(t, cfg)
	checkReal(t, s, 0, 5)
	must(t, s.Close(t.Context(), true, 5, 5))
}

func TestNoDescriptorLeaks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	fds := func() int { return len(listDir(t, "/proc/self/fd")) }
	s, _ := openReal(t, realConfig(t))
	must(t, s.Close(t.Context(), true, 0, 0)) // what the runtime opens once
	before := fds()
	for range 20 {
		cfg := realConfig(t)
		s, _ := openReal(t, cfg)
		for i := range uint64(20) {
			s.mustAppend(t, 5*i, 5)
		}
		if n := fds(); n != before+2 {
			t.Fatalf("%d files open, %d before", n, before)
		}
		checkReal(t, s, 0, 100)
		must(t, s.Close(t.Context(), true, 50, 100))
		New(cfg).Open(t.Context(), "other", true) // fails
	}
	if n := fds(); n > before {
		t.Errorf("%d files open, %d before", n, before)
	}
}
