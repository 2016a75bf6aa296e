package spill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A model drives a Log the way the pump does, beside a plain list of what it must deliver. It runs
// in a synctest bubble: after each step the log's goroutines have come to rest.
type model struct {
	t    testing.TB
	rand *rand.Rand
	disk *disk
	mnt  *mount
	cfg  Config
	log  *Log
	wake chan struct{}

	made   uint64            // items ever made, so that no two are alike
	truth  map[uint64][]byte // by sequence number
	seq    uint64            // of the next item
	queue  []uint64          // not delivered, oldest first
	window []uint64          // of these, those taken out of the log
	batch  *Batch            // being taken out
	left   int

	cap     int64 // MaxDisk, but for what Close may have kept beyond
	largest int64 // item

	mayLose   map[uint64]bool // items that damage may have cost
	mayAll    bool            // a read has failed: any item may be lost, if it is reported
	corrupted bool            // so reports that cost nothing are right
	retained  bool            // so a file may stay
	lost      int
	losses    []*CorruptError
}

var pool = func() []byte {
	b := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	copy(b[1<<19:], bytes.Repeat([]byte("compressible "), 1<<19/13))
	return b
}()

// runModel interprets ops. It is used with random, recorded and fuzzed ones.
func runModel(t *testing.T, cfg Config, d *disk, ops []byte) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, cfg, d, dir)
		for len(ops) > 1 {
			m.step(ops[0], ops[1])
			ops = ops[2:]
		}
		m.finish()
	})
}

func newModel(t testing.TB, cfg Config, d *disk, dir string) *model {
	seed := [32]byte{}
	m := &model{t: t, rand: rand.New(rand.NewChaCha8(seed)), disk: d, cfg: cfg, truth: map[uint64][]byte{}, mayLose: map[uint64]bool{}, wake: make(chan struct{}, 1)}
	m.cfg.Dir, m.cfg.Wake, m.cap = dir, m.wake, cfg.MaxDisk
	if testing.Verbose() && os.Getenv("HOPPER_LOG") != "" {
		m.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	m.open(nil)
	t.Cleanup(func() { // ends the goroutines of a test that has failed
		m.disk.heal()
		m.log.Close(context.Background(), m.head(), nil)
	})
	return m
}

func (m *model) step(op, arg byte) {
	m.t.Helper()
	switch op % 16 {
	case 0, 1, 2, 3:
		m.append(int(arg)%64, 400)
	case 4, 5:
		m.append(int(arg)%16, 9000)
	case 6:
		m.append(1, 60_000+2_000*int(arg))
	case 7, 8, 9:
		m.take(int(arg) * 2)
	case 10:
		m.deliver(int(arg))
	case 11:
		m.breakDown(arg)
	case 12:
		m.disk.heal()
		time.Sleep(3 * time.Second)
	case 13:
		m.damage(int(arg))
	case 14:
		switch {
		case !m.cfg.Keep:
		case arg < 128:
			m.reopen()
		case arg < 192:
			m.kill()
		default:
			m.crash()
		}
	case 15:
		time.Sleep(time.Duration(arg) * 20 * time.Millisecond)
	}
	m.check()
}

// breakDown makes something of the disk fail from here on, for some time.
func (m *model) breakDown(arg byte) {
	kinds := []string{"create", "open", "remove", "syncdir", "write", "sync", "truncate", "read"}
	errs := []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE, syscall.EDQUOT}
	kind := kinds[arg%8]
	if arg == 255 {
		m.disk.mu.Lock()
		m.disk.capacity = max(m.disk.used(), 1)
		m.disk.mu.Unlock()
		return
	}
	err := errs[arg/8%4]
	if kind == "read" {
		err, m.mayAll = syscall.EIO, true
	}
	m.corrupted = m.corrupted || kind == "truncate" // a torn write that could not be cut back looks like damage
	if kind == "open" && !scarce(err) {
		m.mayAll = true
	}
	m.disk.fail(fault{kind: kind, skip: int(arg / 32 % 2), times: 1 + int(arg/64)*2, err: err, short: arg&32 != 0})
}

func (m *model) item(size int) []byte {
	m.made++
	at := m.rand.IntN(len(pool) - size)
	return append(binary.AppendUvarint(nil, m.made), pool[at:at+size]...)
}

func (m *model) windowBytes() (n int64) {
	for _, seq := range m.window {
		n += int64(len(m.truth[seq])) + 3
	}
	if m.batch != nil {
		n += m.batch.Unsaved()
	}
	return n
}

func (m *model) append(n, size int) {
	for range n {
		if !m.log.Room(m.windowBytes()) {
			return
		}
		v := m.item(m.rand.IntN(size))
		if m.rand.IntN(20) == 0 {
			v = nil
		}
		if len(m.queue) == 0 && m.rand.IntN(8) == 0 {
			m.seq += 3 // three items go past the log
		}
		if m.rand.IntN(30) == 0 {
			m.log.Begin(m.seq) // an item that can't be encoded
		}
		m.log.Commit(append(m.log.Begin(m.seq), v...))
		m.truth[m.seq] = v
		m.largest = max(m.largest, int64(len(v)))
		delete(m.mayLose, m.seq)
		m.queue = append(m.queue, m.seq)
		m.seq++
		if diff := cmp.Diff(m.seq, m.log.End()); diff != "" {
			m.t.Fatalf("End (-want +got):\n%s", diff)
		}
	}
	synctest.Wait()
}

// take moves up to n items from the log to the window. It returns how many.
func (m *model) take(n int) (taken int) {
	m.t.Helper()
	for taken < n {
		if m.batch == nil {
			if len(m.window) > 0 { // the pump delivers it first, and so the items in it are consecutive
				return taken
			}
			synctest.Wait()
			if m.batch = m.log.Next(); m.batch == nil {
				return taken
			}
			if m.batch.Err != nil {
				m.lose(m.batch)
				m.log.Release(m.batch)
				m.batch = nil
				taken++
				continue
			}
			m.left = m.batch.Items
			m.skipTo(m.batch.First)
		}
		for ; m.left > 0 && taken < n; taken++ {
			seq := m.batch.end() - uint64(m.left)
			m.left--
			if got := m.batch.Next(); !bytes.Equal(got, m.truth[seq]) {
				m.t.Fatalf("item %d: got %d bytes %.40q, want %d bytes %.40q", seq, len(got), got, len(m.truth[seq]), m.truth[seq])
			}
			i := len(m.window)
			if i >= len(m.queue) || m.queue[i] != seq {
				m.t.Fatalf("got item %d, out of order: %d in the window, then expect %v…", seq, i, m.queue[i:min(len(m.queue), i+5)])
			}
			m.window = append(m.window, seq)
		}
		if m.left == 0 {
			m.log.Release(m.batch)
			m.batch = nil
		}
	}
	return taken
}

// skipTo checks that the log's next item is the one that it must be.
func (m *model) skipTo(seq uint64) {
	m.t.Helper()
	if i := len(m.window); i >= len(m.queue) || m.queue[i] != seq {
		m.t.Fatalf("the log goes on with item %d, want %v…", seq, m.queue[min(i, len(m.queue)):min(len(m.queue), i+5)])
	}
}

// lose notes a report of loss, which must be about the very items that come next.
func (m *model) lose(b *Batch) {
	m.t.Helper()
	e := b.Err
	if e.First != b.First || e.Items != uint64(b.Items) || !errors.Is(e, ErrCorrupt) || e.Path == "" {
		m.t.Fatalf("the batch is of %d items from %d, its error of %d from %d: %v", b.Items, b.First, e.Items, e.First, e)
	}
	m.losses = append(m.losses, e)
	m.mayAll = m.mayAll || m.disk.hit("read") || m.disk.hit("open")
	var pathErr *os.PathError
	m.retained = m.retained || errors.As(e, &pathErr)
	if b.Items == 0 {
		if !m.corrupted && !m.mayAll && !m.disk.hit("truncate") {
			m.t.Fatalf("damage reported where there is none: %v", e)
		}
		return
	}
	i := len(m.window)
	for n := range uint64(b.Items) {
		if i >= len(m.queue) || m.queue[i] != b.First+n {
			m.t.Fatalf("%v: item %d was not the next", e, b.First+n)
		}
		if !m.mayLose[b.First+n] && !m.mayAll {
			m.t.Fatalf("%v: nothing has happened to item %d", e, b.First+n)
		}
		m.queue = slices.Delete(m.queue, i, i+1)
		m.lost++
	}
}

func (m *model) deliver(n int) {
	n = min(n, len(m.window))
	m.window, m.queue = m.window[n:], m.queue[n:]
	m.log.Ack(m.head())
	synctest.Wait()
}

// head returns the sequence number of the oldest item that was not delivered.
func (m *model) head() uint64 {
	if len(m.queue) > 0 {
		return m.queue[0]
	}
	return m.seq
}

func (m *model) check() {
	m.t.Helper()
	synctest.Wait()
	onDisk := m.onDisk()
	bytes, _ := m.log.Usage()
	if onDisk != bytes && !m.retained {
		m.t.Fatalf("Usage says %d bytes, the segment files have %d: %v", bytes, onDisk, m.disk.names())
	}
	m.checkCap()
}

// onDisk returns the size of the segment files but for those that the log leaves alone.
func (m *model) onDisk() (n int64) {
	names := m.disk.names()
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	for _, name := range names {
		first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		path := filepath.Join(m.cfg.Dir, name)
		f := m.disk.files[path]
		if m.corrupted && first < m.log.store.(*dirStore).above {
			d := newDisk()
			d.files[path] = f
			if s, _, err := loadSegment(d.mount(), m.cfg.Dir, name, m.cfg.Label); err == nil && s.obscure() {
				m.retained = true
				continue
			}
		}
		if !slices.Contains(names, retainedName(name)) {
			n += int64(len(f.data))
		}
	}
	return n
}

func (m *model) checkCap() {
	m.t.Helper()
	n := m.onDisk()
	if m.cfg.MaxDisk >= 0 && n > m.cap {
		m.t.Fatalf("%d bytes on disk, MaxDisk is %d", n, m.cfg.MaxDisk)
	}
	m.cap = max(min(n, m.cap), m.cfg.MaxDisk)
}

// open opens the log. want is what it must hold, nil if that is not known.
func (m *model) open(want []uint64) {
	m.t.Helper()
	for try := 0; ; try++ {
		m.mnt = m.disk.mount()
		m.cfg.fs = m.mnt
		log, next, items, err := Open(m.cfg)
		if err != nil {
			if try > 0 {
				m.t.Fatalf("Open: %v", err)
			}
			m.disk.mu.Lock()
			m.disk.faults = nil
			m.disk.mu.Unlock()
			continue
		}
		m.log, m.seq = log, log.End()
		m.queue = m.queue[:0]
		log.store.(*dirStore).mu.Lock()
		for _, seg := range log.store.(*dirStore).segments {
			for seq := max(seg.first, next); seq < seg.end; seq++ {
				if n := len(m.queue); n == 0 || m.queue[n-1] < seq {
					m.queue = append(m.queue, seq)
				}
			}
		}
		log.store.(*dirStore).mu.Unlock()
		if uint64(len(m.queue)) != items {
			m.t.Fatalf("Open says %d items from %d, the segments hold %d", items, next, len(m.queue))
		}
		if diff := cmp.Diff(want, m.queue, cmpopts.EquateEmpty()); want != nil && diff != "" {
			m.t.Fatalf("what came back (-want +got):\n%s", diff)
		}
		return
	}
}

// gather does what the pump does when it stops.
func (m *model) gather() *Keep {
	keep := NewKeep()
	for _, seq := range m.window {
		if !m.log.Stored(seq) {
			keep.Commit(append(keep.Begin(seq), m.truth[seq]...))
		}
	}
	if m.batch != nil {
		if seq := m.batch.end() - uint64(m.left); !m.log.Stored(seq) {
			keep.AddRest(m.batch, seq)
		}
	}
	return keep
}

func (m *model) forget() {
	m.window, m.batch, m.left = nil, nil, 0
}

func (m *model) close() (unsaved uint64, err error) {
	m.t.Helper()
	unsaved, err = m.log.Close(context.Background(), m.head(), m.gather())
	if err != nil && m.disk.faultless() && !m.disk.lossy() {
		m.t.Fatalf("Close: %v", err)
	}
	if unsaved > 0 && err == nil {
		m.t.Fatalf("Close says that %d items are not saved, but no error", unsaved)
	}
	if m.disk.handles != 0 {
		m.t.Fatalf("%d files open after Close", m.disk.handles)
	}
	return unsaved, err
}

func (d *disk) lossy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		if f.lossy {
			return true
		}
	}
	return false
}

func (d *disk) faultless() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.faults) == 0 && d.capacity == 0
}

// reopen closes the log with Keep and opens it again: everything must come back, but what Close said was not saved.
func (m *model) reopen() {
	m.t.Helper()
	damaged := m.corrupted || m.mayAll || m.disk.hit("truncate")
	want := slices.Clone(m.queue)
	if want == nil {
		want = []uint64{}
	}
	clean := m.disk.faultless()
	unsaved, err := m.close()
	m.cap = max(m.cap, min(m.onDisk(), m.cap+m.largest)) // Close keeps the last item too
	m.checkCap()
	m.forget()
	if err == nil && m.rand.IntN(2) == 0 { // a power cut must not matter now, but for what Close has said before
		durable := m.durable()
		if !m.disk.lossy() && !damaged && len(durable) < len(want) {
			m.t.Fatalf("%d of %d items are durable after Close", len(durable), len(want))
		}
		m.mnt.crash(m.rand)
		m.mayLoseBut(durable)
		if len(durable) < len(want) {
			damaged, m.corrupted = true, true
		}
	}
	switch {
	case unsaved == 0 && !damaged && err == nil: // else some may come twice
		m.open(want)
	default:
		m.open(nil)
		if unsaved == 0 && clean && !damaged && len(m.queue) < len(want) {
			m.t.Fatalf("%d of %d items came back, %d were not saved", len(m.queue), len(want), unsaved)
		}
		m.mustHave(want, int(unsaved))
		for _, seq := range want[:len(want)*min(1, int(unsaved))] {
			m.mayLose[seq] = true // Close has said so, and what comes back tells it again
		}
	}
}

// mustHave checks that of the items want all are in the queue, but for some and what damage may have cost.
func (m *model) mustHave(want []uint64, but int) {
	m.t.Helper()
	have := map[uint64]bool{}
	for _, seq := range m.queue {
		have[seq] = true
	}
	var gone []uint64
	for _, seq := range want {
		if !have[seq] && !m.mayLose[seq] {
			gone = append(gone, seq)
		}
	}
	if len(gone) > but {
		m.t.Fatalf("%d items are gone without a word, %d may be: %v; have %v", len(gone), but, gone, m.queue)
	}
}

// kill ends the process without a Close: what was written comes back.
func (m *model) kill() {
	m.t.Helper()
	var want []uint64
	for _, seq := range m.queue {
		if m.log.Stored(seq) {
			want = append(want, seq)
		}
	}
	if m.corrupted {
		m.mayLoseBut(want)
	}
	m.mnt.kill()
	m.restart(want)
}

// crash cuts the power: what was made durable comes back.
func (m *model) crash() {
	m.t.Helper()
	want := m.durable()
	m.corrupted = true // what a power cut leaves looks like it
	m.mayLoseBut(want)
	m.mnt.crash(m.rand)
	m.restart(want)
}

// mayLoseBut notes that all items may get lost but those in safe, which are in order.
func (m *model) mayLoseBut(safe []uint64) {
	for seq := range m.seq + 1 {
		if _, ok := slices.BinarySearch(safe, seq); !ok {
			m.mayLose[seq] = true
		}
	}
}

// durable returns the items of the queue that a power cut can't cost.
func (m *model) durable() (seqs []uint64) {
	s := m.log.store.(*dirStore)
	s.mu.Lock()
	defer s.mu.Unlock()
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	for _, seq := range m.queue {
		if slices.ContainsFunc(s.segments, func(seg *segment) bool {
			f := m.disk.durable[seg.path]
			return f != nil && f.synced == len(f.data) && seg.first <= seq && seq < seg.end && seg.missing == nil
		}) {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

func (m *model) restart(want []uint64) {
	m.t.Helper()
	m.log.Close(context.Background(), 0, nil) // ends the dead log's goroutines
	m.forget()
	m.open(nil)
	if !m.mayAll {
		m.mustHave(want, 0)
	}
	for seq := range m.truth {
		if seq >= m.seq {
			delete(m.truth, seq)
		}
	}
}

// damage flips a bit of a segment.
func (m *model) damage(arg int) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	var paths []string
	for path, f := range m.disk.files {
		if strings.HasSuffix(path, segmentExt) && len(f.data) > 0 {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return
	}
	slices.Sort(paths)
	path := paths[arg%len(paths)]
	data := m.disk.files[path].data
	bit := m.rand.IntN(len(data) * 8)
	m.corrupted = true
	for seq := range affected(path, data, m.log.cfg.Label, bit/8) {
		m.mayLose[seq] = true
	}
	data[bit/8] ^= 1 << (bit % 8)
}

// affected returns the items that damage to the byte at an offset may cost.
func affected(path string, data []byte, label string, at int) map[uint64]bool {
	seqs := map[uint64]bool{}
	d := newDisk()
	d.files[path] = &inode{data: data}
	s, _, err := loadSegment(d.mount(), filepath.Dir(path), filepath.Base(path), label)
	if err == nil && !s.sealed && int64(at) >= s.size {
		seqs[s.end] = true // the rest of a torn write may look like an item now
	}
	if err != nil || int64(at) < s.start || int64(at) >= s.size {
		return seqs
	}
	f, _ := d.mount().Open(path)
	var r chunkReader
	r.reset(f, s.start, s.size)
	buf := make([]byte, maxPayload)
	toEnd := false
	for {
		p, off, err := r.next(buf)
		if err == io.EOF {
			return seqs
		}
		if err != nil { // damaged before: too hard to tell
			p, off, toEnd = payload{first: s.first, count: uint32(s.end - s.first)}, int64(at), true
		}
		hit := off <= int64(at) && int64(at) < r.off
		toEnd = toEnd || hit && int64(at) < off+chunkHeaderLen
		if hit || toEnd {
			for seq := p.first; seq < max(p.end(), p.first+1); seq++ {
				seqs[seq] = true
			}
		}
		if toEnd {
			for seq := p.first; seq < s.end; seq++ {
				seqs[seq] = true
			}
		}
	}
}

// finish heals the disk and drains the log: everything must come out, and the disk be as it was.
func (m *model) finish() {
	m.t.Helper()
	m.disk.heal()
	time.Sleep(5 * time.Second)
	for quiet := 0; quiet < 3; {
		if m.take(1000) == 0 {
			quiet++
			time.Sleep(5 * time.Second)
		}
		m.deliver(len(m.window))
		m.check()
	}
	if len(m.queue) > 0 {
		m.t.Fatalf("%d items never came out, from %d on", len(m.queue), m.queue[0])
	}
	m.deliver(0)
	time.Sleep(5 * time.Second)
	if bytes, files := m.log.Usage(); !m.retained && (bytes != 0 || files != 0) {
		m.t.Fatalf("%d bytes in %d files with everything delivered: %v", bytes, files, m.disk.names())
	}
	if unsaved, err := m.close(); unsaved != 0 || err != nil {
		m.t.Fatalf("Close: %d unsaved, %v", unsaved, err)
	}
	if names := m.disk.names(); len(names) > 0 && !m.retained {
		m.t.Fatalf("left on disk: %v", names)
	}
}

func modelConfig(seed int) Config {
	cfg := Config{MaxDisk: -1, KeepFree: 0, SegmentSize: []int64{300 << 10, 0, 64 << 10, 1 << 20}[seed%4], Keep: seed%3 != 0, Label: "model"}
	if seed%5 == 0 {
		cfg.MaxDisk = 900 << 10
	}
	return cfg
}

// soak reports whether there is time for long runs.
func soak() bool { return os.Getenv("HOPPER_SOAK") != "" }

func TestLogMatchesTheModel(t *testing.T) {
	runs := 120
	if testing.Short() || raceEnabled { // the detector takes ten times as long
		runs = 30
	}
	if soak() {
		runs = 3_000
	}
	for seed := range runs {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
			ops := make([]byte, 2*200)
			r.Read(ops)
			runModel(t, modelConfig(seed), newDisk(), ops)
		})
	}
}

// children are what this binary does instead of testing where the environment variable of that name is
// set, to whose value.
var children = map[string]func(value string) (exit int){}

func TestMain(m *testing.M) {
	for name, run := range children {
		if value := os.Getenv(name); value != "" {
			os.Exit(run(value))
		}
	}
	debug.SetGCPercent(400) // the logs of the tests are many and short-lived
	os.Exit(m.Run())
}
