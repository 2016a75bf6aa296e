package segment

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/hopper/spill"
)

// A plant is a file system of its own, ext4 on a loop device, that can lose
// power: what the kernel has not handed to the device is gone then.
type plant struct {
	t          *testing.T
	image, dir string
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	p := &plant{t: t, image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	if os.Getuid() != 0 {
		p.unable("not root")
	}
	must(t, os.WriteFile(p.image, nil, 0o600))
	must(t, os.Truncate(p.image, 64<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", p.image).CombinedOutput(); err != nil {
		p.unable("mkfs.ext4: " + err.Error() + " " + string(out))
	}
	p.mount()
	t.Cleanup(func() { _ = exec.Command("umount", "-l", p.dir).Run() })
	return p
}

// unable skips a test that can't be run here, and says so.
func (p *plant) unable(why string) {
	p.t.Helper()
	p.t.Log("NO REAL POWER CUT HERE: the tests on the fake disk have to do")
	p.t.Skip(why)
}

func (p *plant) mount() {
	p.t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", p.image, p.dir).CombinedOutput(); err != nil {
		p.unable("mount: " + err.Error() + " " + string(out))
	}
}

// cut cuts the power. What is under way fails.
func (p *plant) cut(how int) {
	p.t.Helper()
	const ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	d, err := os.Open(p.dir)
	must(p.t, err)
	defer d.Close()
	must(p.t, unix.IoctlSetPointerInt(int(d.Fd()), ext4Shutdown, how))
}

// The ways to end a file system: with what is in the journal's memory, or
// without.
const (
	cutLogFlushed = 1
	cutNoLogFlush = 2
)

// remount starts the machine again.
func (p *plant) remount() {
	p.t.Helper()
	var out []byte
	err := error(unix.EBUSY)
	for i := 0; err != nil && i < 500; i++ { // a call may be under way yet
		if out, err = exec.Command("umount", p.dir).CombinedOutput(); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if err != nil {
		p.t.Fatalf("umount: %v %s", err, out)
	}
	p.mount()
}

// A survivor uses a log on a plant and remembers what it was promised.
type survivor struct {
	t    *testing.T
	p    *plant
	rand *rand.Rand
	wake chan struct{}
	log  *spill.Log

	acked, from, sent uint64
	end, done         uint64 // were synced: the items below, and that those below are done
}

func (s *survivor) open() {
	s.t.Helper()
	s.wake = make(chan struct{}, 1)
	store := New(Config{Dir: filepath.Join(s.p.dir, "log"), SegmentSize: 64 << 10, MaxBytes: -1})
	log, r, err := spill.Open(s.t.Context(), spill.Config{
		Store: store, Label: "test", Keep: true, Journal: true, Wake: s.wake,
	})
	must(s.t, err)
	s.log = log

	if r.Items > 0 && (r.Next < s.done || r.Next > s.acked) {
		s.t.Fatalf("found %+v; the items below %d were done at a sync, those below %d in the end",
			r, s.done, s.acked)
	}
	if first := max(r.Next, s.acked); first < s.end {
		if r.End < s.end {
			s.t.Fatalf("found %+v, though items %d to %d were synced", r, s.acked, s.end)
		}
		s.reads(first, s.end)
	}
	s.acked, s.from, s.sent = r.Next, r.End, r.End
	s.end, s.done = 0, 0
}

// reads checks that all items are there.
func (s *survivor) reads(first, end uint64) {
	s.t.Helper()
	for next := first; next < end; {
		c, lost := s.log.Next(next, 0)
		switch {
		case lost != nil:
			s.t.Fatalf("items %d to %d were synced: %v", first, end, lost)
		case c == nil:
			s.wait()
			continue
		case c.Seq != next:
			s.t.Fatalf("item %d comes where %d is to come, which was synced", c.Seq, next)
		}

		for ; c.Left > 0; c.Advance() {
			if b, _ := c.Item(); string(b) != string(testItem(c.Seq)) {
				s.t.Fatalf("item %d: %.40q", c.Seq, b)
			}
			next = c.Seq + 1
		}
	}
}

func (s *survivor) wait() {
	s.t.Helper()
	select {
	case <-s.wake:
	case <-time.After(time.Minute):
		s.t.Fatal("the log does not wake its user")
	}
}

// work appends, acknowledges and syncs, until so many syncs have finished.
func (s *survivor) work(syncs int) {
	s.t.Helper()
	for syncs > 0 {
		for range s.rand.IntN(300) {
			if s.log.Room(0) {
				s.log.Commit(append(s.log.Begin(s.sent), testItem(s.sent)...))
				s.sent++
			}
		}
		if behind := s.sent - s.acked; behind > 0 {
			s.acked += s.rand.Uint64N(min(behind, 400) + 1)
			if behind > 20_000 {
				s.acked = s.sent
			}
		}
		if s.rand.IntN(3) > 0 {
			s.log.Ack(s.acked)
		}

		s.log.SyncLater(s.acked)
		if s.rand.IntN(4) > 0 {
			s.wait()
		}
		if end, done := s.log.Synced(); end != s.end || done != s.done {
			s.end, s.done = end, done
			syncs--
		}
	}
}

// crash ends the machine while the log is at work.
func (s *survivor) crash() {
	s.t.Helper()
	if s.rand.IntN(2) == 0 {
		s.log.SyncLater(s.acked)
	}
	s.end, s.done = s.log.Synced()
	s.p.cut([]int{cutLogFlushed, cutNoLogFlush}[s.rand.IntN(2)])

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	s.log.Close(ended, s.acked)
	s.p.remount()
}

func TestWhatWasSyncedSurvivesARealPowerCut(t *testing.T) {
	cycles := 6
	if soak() {
		cycles = 1000
	}
	s := &survivor{t: t, p: newPlant(t), rand: rand.New(rand.NewPCG(1, 2))}
	s.open()
	synced := uint64(0)
	for range cycles {
		s.work(1 + s.rand.IntN(5))
		s.crash()
		synced += s.end - min(s.end, s.acked)
		s.open()
	}

	t.Logf("%d power cuts; %d items were synced and not done at one", cycles, synced)
	if left := s.log.Close(t.Context(), s.sent); left != (spill.Left{}) {
		t.Errorf("Close: %+v", left)
	}
	if names := listDir(t, filepath.Join(s.p.dir, "log")); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}
