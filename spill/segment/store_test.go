package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// children are what this binary does instead of testing where the environment
// variable of that name is set, to whose value.
var children = map[string]func(value string) (exit int){}

func TestMain(m *testing.M) {
	for name, run := range children {
		if value := os.Getenv(name); value != "" {
			os.Exit(run(value))
		}
	}
	debug.SetGCPercent(400) // the stores of the tests are many and short-lived
	os.Exit(m.Run())
}

// soak reports whether there is time for long runs.
func soak() bool { return os.Getenv("HOPPER_SOAK") != "" }

// A bench is a store on a fake disk and what a test does with it.
type bench struct {
	t     *testing.T
	disk  *disk
	mount *mount
	cfg   Config
	label string
	store *Store
	found spill.Range // what Open has returned
	seq   uint64      // number of the next item
	log   *logBuffer
}

// newBench opens a store that keeps its items.
func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, disk: newDisk(), cfg: cfg, label: "test", log: &logBuffer{}}
	b.cfg.Dir = t.TempDir()
	b.cfg.Logger = slog.New(slog.NewTextHandler(b.log, nil))
	b.open()
	return b
}

// unlimited has small segments.
var unlimited = Config{MaxBytes: -1, SegmentSize: 4 << 10}

// tryOpen opens a store on the disk.
func (b *bench) tryOpen(keep bool) error {
	b.mount = b.disk.mount()
	b.store = newStore(b.cfg, b.mount)
	found, err := b.store.Open(b.t.Context(), b.label, keep)
	if err == nil {
		b.found, b.seq = found, found.End
	}
	return err
}

func (b *bench) open() {
	b.t.Helper()
	if err := b.tryOpen(true); err != nil {
		b.t.Fatal(err)
	}
}

// kill ends the process, as far as the store can tell, and opens another one.
func (b *bench) kill() {
	b.t.Helper()
	b.abort()
	b.open()
}

// abort ends the process.
func (b *bench) abort() {
	b.mount.kill()
	b.store.Close(context.Background(), true, 0, 0) // gives the lock back, and can't do more
}

func (b *bench) close(next uint64) {
	b.t.Helper()
	if err := b.store.Close(b.t.Context(), true, next, b.seq); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) reopen(next uint64) {
	b.t.Helper()
	b.close(next)
	b.open()
}

// put appends n items, size to a batch.
func (b *bench) put(n, size int) {
	b.t.Helper()
	for end := b.seq + uint64(n); b.seq < end; {
		if err := b.tryPut(min(size, int(end-b.seq))); err != nil {
			b.t.Fatal(err)
		}
	}
}

// tryPut appends a batch of n items.
func (b *bench) tryPut(n int) error {
	stored, err := b.store.Append(b.t.Context(), []*spill.Batch{b.batch(b.seq, n)})
	if stored == 1 && err == nil {
		b.seq += uint64(n)
	}
	if (stored == 1) != (err == nil) {
		b.t.Fatalf("Append: %d stored, %v", stored, err)
	}
	return err
}

func (b *bench) batch(first uint64, n int) *spill.Batch {
	items := make([][]byte, n)
	for i := range items {
		items[i] = testItem(first + uint64(i))
	}
	return spill.NewBatch(b.label, first, items...)
}

// pool is where items are cut from.
var pool = func() []byte {
	b := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	copy(b[1<<19:], bytes.Repeat([]byte("compressible "), 1<<19/13))
	return b
}()

// testItem returns the item of a number: a few hundred bytes, or none.
func testItem(seq uint64) []byte {
	at := seq * 7919 % uint64(len(pool)/2-1000)
	if seq%2 == 0 {
		at += uint64(len(pool) / 2)
	}
	return pool[at : at+seq*37%600]
}

func (b *bench) trim(acked uint64) {
	b.t.Helper()
	if err := b.store.Trim(b.t.Context(), acked); err != nil {
		b.t.Fatal(err)
	}
}

// mustAppend appends a batch of n items, without a bench.
func (s *Store) mustAppend(t *testing.T, first uint64, n int) {
	t.Helper()
	items := make([][]byte, n)
	for i := range items {
		items[i] = testItem(first + uint64(i))
	}
	batch := spill.NewBatch("test", first, items...)
	if stored, err := s.Append(t.Context(), []*spill.Batch{batch}); stored != 1 || err != nil {
		t.Fatal(stored, err)
	}
}

// A drain is what a store gives back.
type drain struct {
	read [][2]uint64 // ranges of items
	lost []*spill.CorruptError
}

// drainFrom reads the store from an item to its end, and checks each item.
func (b *bench) drainFrom(next uint64) drain {
	b.t.Helper()
	return b.drain(spill.Range{Next: next, End: b.seq}, testItem)
}

func (b *bench) drain(r spill.Range, item func(uint64) []byte) (d drain) {
	b.t.Helper()
	for got, err := range spill.Items(b.t.Context(), b.store, b.label, r) {
		var corrupt *spill.CorruptError
		switch {
		case errors.As(err, &corrupt):
			d.lost = append(d.lost, corrupt)
		case err != nil:
			b.t.Fatalf("reading from %d to %d: %v", r.Next, r.End, err)
		case !bytes.Equal(got.Bytes, item(got.Seq)):
			b.t.Fatalf("item %d: got %d bytes %.40q, want %d", got.Seq, len(got.Bytes),
				got.Bytes, len(item(got.Seq)))
		default:
			d.add(b.t, got.Seq)
		}
	}
	return d
}

func (d *drain) add(t *testing.T, seq uint64) {
	t.Helper()
	n := len(d.read)
	switch {
	case n > 0 && d.read[n-1][1] == seq:
		d.read[n-1][1]++
	case n > 0 && d.read[n-1][1] > seq:
		t.Fatalf("item %d comes behind item %d", seq, d.read[n-1][1]-1)
	default:
		d.read = append(d.read, [2]uint64{seq, seq + 1})
	}
}

// items returns how many were read, and losses how many were lost.
func (d drain) items() (n uint64) {
	for _, r := range d.read {
		n += r[1] - r[0]
	}
	return n
}

func (d drain) losses() (n uint64) {
	for _, e := range d.lost {
		n += e.Items
	}
	return n
}

// wants checks that exactly these ranges of items come back from next on, and
// that nothing is reported lost.
func (b *bench) wants(next uint64, ranges ...[2]uint64) {
	b.t.Helper()
	d := b.drainFrom(next)
	if diff := cmp.Diff(ranges, d.read); diff != "" || len(d.lost) > 0 {
		b.t.Errorf("items (-want +got):\n%s\nlost: %v", diff, d.lost)
	}
}

// paths returns the segments, in their order.
func (b *bench) paths() (paths []string) {
	for _, name := range b.disk.names() {
		if isSegment(name) {
			paths = append(paths, filepath.Join(b.cfg.Dir, name))
		}
	}
	return paths
}

func isSegment(name string) bool {
	ext, _, err := parseName(name)
	return ext == segmentExt && err == nil
}

// firstOf returns the number in the name of a segment.
func firstOf(path string) uint64 {
	_, n, _ := parseName(filepath.Base(path))
	return n.next
}

func (b *bench) hasReceipt() bool {
	return slices.ContainsFunc(b.disk.names(),
		func(name string) bool { return strings.HasSuffix(name, receiptExt) })
}

func (b *bench) data(path string) []byte { return b.disk.files[path].data }

// logBuffer is what a logger has written.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func TestStoreConforms(t *testing.T) {
	storetest.Test(t, func(t *testing.T) storetest.Medium {
		dir := filepath.Join(t.TempDir(), "log")
		fake := &refusing{}
		m := &medium{t: t, dir: dir, fs: fake}
		return storetest.Medium{
			Store:     func() spill.Store { return m.store(-1) },
			Limited:   func(limit int64) spill.Store { return m.store(limit) },
			Crash:     m.crash,
			Refuse:    fake.refuse,
			Corrupt:   m.corrupt,
			Lose:      m.lose,
			MakeNewer: m.makeNewer,
		}
	})
}

// A medium is a directory for the conformance suite.
type medium struct {
	t   *testing.T
	dir string
	fs  fsys
}

func (m *medium) store(limit int64) spill.Store {
	return newStore(Config{Dir: m.dir, SegmentSize: 16 << 10, MaxBytes: limit}, m.fs)
}

// crash goes on in a copy, since the lock is held.
func (m *medium) crash(spill.Store) { m.dir = copyDir(m.t, m.dir) }

func (m *medium) segments() (paths []string) {
	for _, name := range listDir(m.t, m.dir) {
		if isSegment(name) {
			paths = append(paths, filepath.Join(m.dir, name))
		}
	}
	return paths
}

func (m *medium) corrupt(seq uint64) {
	for _, path := range m.segments() {
		b, err := os.ReadFile(path)
		must(m.t, err)
		_, start, err := parseHeader(b)
		must(m.t, err)
		if storetest.FlipBit(b[start:], seq) {
			must(m.t, os.WriteFile(path, b, 0o600))
			return
		}
	}
	m.t.Fatalf("no item %d", seq)
}

func (m *medium) lose(seq uint64) {
	for _, path := range m.segments() {
		c, err := loadSegment(osFS{}, path, 0, "", true)
		must(m.t, err)
		if c.seg.first <= seq && seq < c.seg.end {
			must(m.t, os.Remove(path))
		}
	}
}

func (m *medium) makeNewer() {
	for _, path := range m.segments() {
		must(m.t, os.WriteFile(path, futureHeader(), 0o600))
	}
}

// futureHeader is the header of another version.
func futureHeader() []byte {
	b := append([]byte(streamID), typeHeader, 0, 0, 0)
	return finishSkippable(append(b, "hopper\x03 of the future"...), len(streamID))
}

// A refusing file system can be full.
type refusing struct {
	osFS
	full atomic.Bool
}

func (r *refusing) refuse(on bool) { r.full.Store(on) }

func (r *refusing) Create(path string) (file, error) {
	if r.full.Load() {
		return nil, syscall.ENOSPC
	}
	f, err := r.osFS.Create(path)
	return &refusingFile{f, r}, err
}

type refusingFile struct {
	file
	fs *refusing
}

func (f *refusingFile) Write(b []byte) (int, error) {
	if f.fs.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.file.Write(b)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAStoreIsOpenedOnce(t *testing.T) { // R37
	cfg := Config{Dir: filepath.Join(t.TempDir(), "log"), MaxBytes: -1}
	s := New(cfg)
	_, err := s.Open(t.Context(), "test", true)
	must(t, err)
	s.mustAppend(t, 0, 5)
	before := listDir(t, cfg.Dir)

	for _, keep := range []bool{true, false} {
		if r, err := s.Open(t.Context(), "other", keep); !errors.Is(err, spill.ErrLocked) ||
			r != (spill.Range{}) {
			t.Errorf("second Open: %+v, %v", r, err)
		}
	}
	if _, err := New(cfg).Open(t.Context(), "test", true); !errors.Is(err, spill.ErrLocked) {
		t.Errorf("the lock is gone: %v", err)
	}
	if diff := cmp.Diff(before, listDir(t, cfg.Dir)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	s.mustAppend(t, 5, 5)
	must(t, s.Close(t.Context(), true, 0, 10))
	if _, err := s.Open(t.Context(), "test", true); !errors.Is(err, spill.ErrLocked) {
		t.Errorf("Open after Close: %v", err)
	}
	s = New(cfg)
	r, err := s.Open(t.Context(), "test", true)
	if err != nil || r.Items != 10 || r.Crashed {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, s.Close(t.Context(), true, 10, 10))
}

func TestAFailedOpenCanBeRepeated(t *testing.T) { // R37
	cfg := Config{Dir: filepath.Join(t.TempDir(), "a", "log"), MaxBytes: -1}
	first, second := New(cfg), New(cfg)
	_, err := first.Open(t.Context(), "test", true)
	must(t, err)
	if _, err := second.Open(t.Context(), "test", true); !errors.Is(err, spill.ErrLocked) {
		t.Error(err)
	}
	must(t, first.Close(t.Context(), true, 0, 0))
	must(t, os.RemoveAll(filepath.Dir(cfg.Dir)))
	_, err = second.Open(t.Context(), "test", true)
	must(t, err)
	second.mustAppend(t, 0, 5)
	must(t, second.Close(t.Context(), true, 0, 5))
}

func TestAFailedOpenLeavesNoDirectories(t *testing.T) {
	parent := t.TempDir()
	for _, what := range []fault{
		{kind: "create", times: 1, err: syscall.EIO},
		{kind: "list", times: 1, err: syscall.EIO},
	} {
		d := newDisk()
		d.fail(what)
		s := newStore(Config{Dir: filepath.Join(parent, "a", "b", "c"), MaxBytes: -1}, d.mount())
		if _, err := s.Open(t.Context(), "test", true); !errors.Is(err, syscall.EIO) {
			t.Errorf("Open: %v", err)
		}
		if diff := cmp.Diff([]string{}, listDir(t, parent)); diff != "" {
			t.Errorf("%s: left: %s", what.kind, diff)
		}
	}

	must(t, os.Mkdir(filepath.Join(parent, "a"), 0o700))
	d := newDisk()
	d.fail(fault{kind: "list", times: 1, err: syscall.EIO})
	s := newStore(Config{Dir: filepath.Join(parent, "a", "b"), MaxBytes: -1}, d.mount())
	if _, err := s.Open(t.Context(), "test", true); err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff([]string{"a"}, listDir(t, parent)); diff != "" {
		t.Errorf("what was there before (-want +got): %s", diff)
	}
}

func TestCallsBeforeOpenAndAfterCloseAreRefused(t *testing.T) { // R37
	check := func(when string, s *Store) {
		t.Helper()
		batch := spill.NewBatch("test", 0, []byte("x"))
		if n, err := s.Append(t.Context(), []*spill.Batch{batch}); n != 0 || err != errNotOpen {
			t.Errorf("%s: Append: %d, %v", when, n, err)
		}
		if _, err := s.Read(t.Context(), 0, spill.Position{}, readBuf()); err != errNotOpen {
			t.Errorf("%s: Read: %v", when, err)
		}
		if err := s.Trim(t.Context(), 5); err != errNotOpen {
			t.Errorf("%s: Trim: %v", when, err)
		}
		if err := s.Close(t.Context(), true, 0, 5); err != errNotOpen {
			t.Errorf("%s: Close: %v", when, err)
		}
		s.Lift()
		if u := s.Usage(); u.Segments > 1 {
			t.Errorf("%s: %+v", when, u)
		}
	}

	t.Setenv("TMPDIR", t.TempDir())
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "log")} {
		s := New(Config{Dir: dir, MaxBytes: -1})
		check("before Open", s)
		_, err := s.Open(t.Context(), "test", dir != "")
		must(t, err)
		s.mustAppend(t, 0, 5)
		must(t, s.Close(t.Context(), dir != "", 0, 5))
		check("after Close", s)
	}
}

func TestALabelIsNeverCut(t *testing.T) {
	b := newBench(t, unlimited)
	b.close(0)
	b.label = strings.Repeat("l", maxLabel+1)
	if err := b.tryOpen(true); err == nil || !strings.Contains(err.Error(), "16384") {
		t.Errorf("Open: %v", err)
	}

	// What version 1 wrote with such a label carries the beginning of it.
	b.label = b.label[:maxLabel]
	b.open()
	b.put(10, 10)
	b.reopen(0)
	b.wants(0, [2]uint64{0, 10})
	path, f := b.disk.only(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), f.data, 0o600))
	for item, err := range Items(dir) {
		if err != nil || !bytes.Equal(item.Bytes, testItem(item.Seq)) {
			t.Fatal(item.Seq, err)
		}
	}
}

func TestAShortageIsNoObstacleToOpen(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENOMEM} {
		b := newBench(t, unlimited)
		b.put(5, 5)
		b.close(0)
		b.disk.fail(fault{kind: "create", times: 2, err: err}) // of the probe and the mark
		b.open()
		b.wants(0, [2]uint64{0, 5})
	}
}

// On a disk that can lose power the same holds.
func TestStoreConformsOnADiskThatLosesPower(t *testing.T) {
	for seed := range byte(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) storetest.Medium {
				p := &powered{disk: newDisk(), dir: t.TempDir()}
				p.rand = rand.New(rand.NewChaCha8([32]byte{seed}))
				return storetest.Medium{
					Store:    p.store,
					Crash:    func(s spill.Store) { p.end(s, (*mount).kill) },
					CutPower: func(s spill.Store) { p.end(s, func(m *mount) { m.crash(p.rand) }) },
					Refuse:   p.refuse,
				}
			})
		})
	}
}

// powered is a fake disk for the conformance suite.
type powered struct {
	disk  *disk
	dir   string
	rand  *rand.Rand
	mount *mount
}

func (p *powered) store() spill.Store {
	p.mount = p.disk.mount()
	return newStore(Config{Dir: p.dir, SegmentSize: 4 << 10, MaxBytes: -1}, p.mount)
}

func (p *powered) end(s spill.Store, how func(*mount)) {
	how(p.mount)
	_ = s.Close(context.Background(), true, 0, 0) // gives the lock back
}

func (p *powered) refuse(on bool) {
	if on {
		p.disk.fill(1)
	} else {
		p.disk.fill(0)
	}
}
