//go:build unix

package spill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A probeLog is a Log on the real disk, and what it must deliver.
type probeLog struct {
	*Log
	t    *testing.T
	wake chan struct{}
	seq  uint64 // of the next item to be appended
	next uint64 // of the next item to be delivered
}

func openReal(t *testing.T, cfg Config) *probeLog {
	t.Helper()
	wake := make(chan struct{}, 1)
	cfg.Wake = wake
	if cfg.Label == "" {
		cfg.Label = "real"
	}
	l, next, items, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if items == 0 {
		next = l.End()
	}
	return &probeLog{Log: l, t: t, wake: wake, seq: l.End(), next: next}
}

func realItem(seq uint64) []byte {
	at := seq * 7919 % uint64(len(pool)/2-3000)
	return pool[at : at+seq*37%3000]
}

// fill appends n items, or as many as there is room for.
func (p *probeLog) fill(n int) (appended int) {
	for ; appended < n && p.Room(0); appended++ {
		p.Commit(append(p.Begin(p.seq), realItem(p.seq)...))
		p.seq++
	}
	return appended
}

// drain delivers items until n are, or all.
func (p *probeLog) drain(n int) {
	p.t.Helper()
	for p.next < p.seq && n > 0 {
		b := p.Next()
		if b == nil {
			p.await()
			continue
		}
		if b.Err != nil || b.First != p.next {
			p.t.Fatalf("batch from %d, want %d: %v", b.First, p.next, b.Err)
		}
		for range b.Items {
			if got := b.Next(); !bytes.Equal(got, realItem(p.next)) {
				p.t.Fatalf("item %d: %d bytes, want %d", p.next, len(got), len(realItem(p.next)))
			}
			p.next++
			n--
		}
		p.Release(b)
		p.Ack(p.next)
	}
}

func (p *probeLog) await() {
	p.t.Helper()
	select {
	case <-p.wake:
	case <-time.After(10 * time.Second):
		p.t.Fatalf("no wake-up: %d of %d delivered, blocked by %v", p.next, p.seq, p.Blocked())
	}
}

// until waits for a state that the log comes to by itself.
func (p *probeLog) until(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			p.t.Fatalf("never: %s", what)
		}
	}
}

func (p *probeLog) close() {
	p.t.Helper()
	if unsaved, err := p.Close(context.Background(), p.next, nil); unsaved != 0 || err != nil {
		p.t.Fatalf("Close: %d unsaved, %v", unsaved, err)
	}
}

func realConfig(t *testing.T) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "log"), MaxDisk: -1, SegmentSize: 256 << 10}
}

func listDir(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestTheDiskIsFreeAgainOnceAllIsDelivered(t *testing.T) {
	cfg := realConfig(t)
	p := openReal(t, cfg)
	for range 3 {
		for p.seq%2000 != 1999 {
			if p.fill(1) == 0 {
				p.await()
			}
		}
		p.fill(1)
		p.until("segments", func() bool { _, n := p.Usage(); return n > 1 })
		p.drain(1 << 30)
		p.until("an empty directory", func() bool { _, n := p.Usage(); return n == 0 })
		if names := listDir(t, cfg.Dir); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
	}
	p.close()
}

func TestTwoLogsCannotShareADirectory(t *testing.T) {
	cfg := realConfig(t)
	p := openReal(t, cfg)
	if _, _, _, err := Open(cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	p.close()
	openReal(t, cfg).close()
}

func TestForeignFilesAndPlantedLinksAreLeftAlone(t *testing.T) {
	cfg := realConfig(t)
	cfg.Keep = true
	target := filepath.Join(t.TempDir(), "target")
	must(t, os.MkdirAll(cfg.Dir, 0o700))
	foreign := map[string]string{target: "precious"}
	for _, name := range []string{"notes.txt", "1.sz", "00000000000000000007.szx", "00000000000000000001.ack", segmentName(99)} {
		foreign[filepath.Join(cfg.Dir, name)] = "sNaPpY " + name
	}
	for path, data := range foreign {
		must(t, os.WriteFile(path, []byte(data), 0o644))
	}
	must(t, os.Symlink(target, filepath.Join(cfg.Dir, segmentName(50))))
	must(t, syscall.Mkfifo(filepath.Join(cfg.Dir, segmentName(51)), 0o600))
	p := openReal(t, cfg)
	must(t, os.Symlink(target, filepath.Join(cfg.Dir, segmentName(p.seq)))) // the very name that comes next
	p.fill(400)
	p.until("segments", func() bool { _, n := p.Usage(); return n > 0 })
	p.drain(1 << 30)
	p.close()
	for path, data := range foreign {
		if got, err := os.ReadFile(path); err != nil || string(got) != data {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func init() { children["HOPPER_TEST_UMASK"] = underUmask }

// underUmask makes a log with segments in dir. It is what the child of the next test does.
func underUmask(dir string) int {
	for _, mask := range []int{0, 0o777} {
		syscall.Umask(mask)
		cfg := Config{Dir: filepath.Join(dir, fmt.Sprintf("%o", mask)), MaxDisk: -1, SegmentSize: 1 << 20, Keep: true}
		l, _, _, err := Open(cfg)
		if err == nil {
			l.Commit(append(l.Begin(0), "secret"...))
			_, err = l.Close(context.Background(), 0, nil)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

func TestSegmentsArePrivateWhateverTheUmask(t *testing.T) {
	exe, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "HOPPER_TEST_UMASK="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, mask := range []string{"0", "777"} {
		sub := filepath.Join(dir, mask)
		fi, err := os.Stat(sub)
		must(t, err)
		if diff := cmp.Diff(fs.FileMode(0o700), fi.Mode().Perm()); diff != "" {
			t.Errorf("umask %s: directory (-want +got):\n%s", mask, diff)
		}
		fi, err = os.Stat(filepath.Join(sub, segmentName(0)))
		must(t, err)
		if diff := cmp.Diff(fs.FileMode(0o600), fi.Mode().Perm()); diff != "" {
			t.Errorf("umask %s: segment (-want +got):\n%s", mask, diff)
		}
	}
}

func TestTheLeftoverOfARunThatWasNotToBeKeptIsDeleted(t *testing.T) {
	cfg := realConfig(t)
	p := openReal(t, cfg)
	p.fill(400)
	p.until("a segment", func() bool { _, n := p.Usage(); return n > 0 })
	saved := map[string][]byte{}
	for _, name := range listDir(t, cfg.Dir) {
		b, err := os.ReadFile(filepath.Join(cfg.Dir, name))
		must(t, err)
		saved[name] = b
	}
	p.next = p.seq
	p.close()
	if names := listDir(t, cfg.Dir); len(names) > 0 {
		t.Errorf("left by Close: %v", names)
	}
	for name, b := range saved { // as if it had been killed
		must(t, os.WriteFile(filepath.Join(cfg.Dir, name), b, 0o600))
	}
	p = openReal(t, cfg)
	if names := listDir(t, cfg.Dir); len(names) > 0 || p.next != p.seq {
		t.Errorf("left by Open: %v, items %d to %d", names, p.next, p.seq)
	}
	p.close()
}

func TestAKeptBacklogIsNotDeleted(t *testing.T) {
	cfg := realConfig(t)
	cfg.Keep = true
	p := openReal(t, cfg)
	n := uint64(p.fill(500))
	p.drain(100)
	p.close()
	before := listDir(t, cfg.Dir)
	cfg.Keep = false
	cfg.Label = "real"
	if _, _, _, err := Open(cfg); !errors.Is(err, ErrNotResumed) {
		t.Errorf("Open: %v, want ErrNotResumed", err)
	}
	if diff := cmp.Diff(before, listDir(t, cfg.Dir)); diff != "" {
		t.Errorf("directory (-before +after):\n%s", diff)
	}
	cfg.Keep = true
	p = openReal(t, cfg)
	if p.next < 100 || p.seq != n {
		t.Errorf("items %d to %d came back", p.next, p.seq)
	}
	p.drain(1 << 30)
	p.close()
	if names := listDir(t, cfg.Dir); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestATemporaryDirectoryIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p := openReal(t, Config{MaxDisk: -1, SegmentSize: 1 << 20})
	p.fill(500)
	p.next = p.seq
	p.close()
	if _, err := os.Stat(p.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", p.Dir(), err)
	}
}

func TestADirectoryThatIsRemovedMeanwhileStopsReceivingOnly(t *testing.T) {
	cfg := realConfig(t)
	cfg.SegmentSize = 0 // each write begins a segment
	p := openReal(t, cfg)
	must(t, os.RemoveAll(cfg.Dir))
	p.until("no room", func() bool { p.fill(10); return !p.Room(0) && p.Blocked() != nil })
	p.drain(1 << 30)
	p.Close(context.Background(), p.next, nil)
}

func TestARealFullDiskLosesNothing(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs a tmpfs mount: Linux and root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	for _, keepFree := range []int64{0, 300 << 10} {
		t.Run(fmt.Sprint("KeepFree ", keepFree), func(t *testing.T) {
			cfg := Config{Dir: filepath.Join(dir, fmt.Sprint(keepFree)), MaxDisk: -1, KeepFree: keepFree, SegmentSize: 128 << 10}
			p := openReal(t, cfg)
			want := error(syscall.ENOSPC)
			if keepFree > 0 {
				want = errKeepFree
			}
			p.until("a full disk", func() bool { p.fill(1); return !p.Room(0) && p.Blocked() != nil })
			if err := p.Blocked(); !errors.Is(err, want) && !errors.Is(err, errKeepFree) {
				t.Errorf("Blocked: %v, want %v", err, want)
			}
			if avail, _, err := freeSpace(dir); err != nil || avail < keepFree {
				t.Errorf("%d bytes are free, want %d: %v", avail, keepFree, err)
			}
			for range 5 { // room comes back as items are delivered, and is used
				p.drain(300)
				p.until("room", func() bool { return p.Room(0) })
				p.fill(300)
			}
			p.drain(1 << 30)
			p.until("an empty directory", func() bool { _, n := p.Usage(); return n == 0 })
			p.close()
		})
	}
}

func TestNoFileOrGoroutineLeaks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	fds := func() int { return len(listDir(t, "/proc/self/fd")) }
	openReal(t, realConfig(t)).close() // what the runtime opens once
	files, goroutines := fds(), runtime.NumGoroutine()
	for i := range 20 {
		cfg := realConfig(t)
		cfg.Keep = i%2 == 0
		p := openReal(t, cfg)
		p.fill(1000)
		p.drain(300 * (i % 4))
		if !cfg.Keep {
			p.Close(context.Background(), p.next, nil)
			continue
		}
		p.close()
		p = openReal(t, cfg)
		p.drain(100)
		p.close()
	}
	if n := fds(); n > files {
		t.Errorf("%d files open, %d before", n, files)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		b := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", n, goroutines, strings.TrimSpace(string(b[:runtime.Stack(b, true)])))
	}
}

// TestAProducerAndAConsumerMeetNoRace moves items with both ends at work, so that the race detector
// sees the pump's goroutine, the writer and the reader on the same batches.
func TestAProducerAndAConsumerMeetNoRace(t *testing.T) {
	cfg := realConfig(t)
	cfg.Keep = true
	p := openReal(t, cfg)
	rounds := 60
	if soak() {
		rounds = 3000
	}
	for i := range rounds {
		p.fill(200 + i*37%1500)
		p.drain(100 + i*53%1600)
		if i%15 == 14 {
			p.close()
			p = openReal(t, cfg)
		}
	}
	p.drain(1 << 30)
	p.close()
}
