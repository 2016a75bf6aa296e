package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"example.com/hopper/spill"
)

// A model drives a store the way a log does, beside a plain list of what it
// must give back.
type model struct {
	t     *testing.T
	bench *bench
	rand  *rand.Rand

	acked  uint64          // items below are done
	stored []uint64        // not done and stored, in order
	may    map[uint64]bool // may be lost, if that is reported: something has happened to them
	gone   map[uint64]bool // were reported lost
	mayAll bool            // a read has failed, so that any item may be
	hit    bool            // something fails or is damaged, so that reports of no loss are right

	synced  map[uint64]bool // survive a power cut
	cursor  uint64          // the items below don't come back, as the last Sync says
	damaged bool            // a bit has been flipped, perhaps of a cursor
	suspect map[*inode]bool // an earlier process could not sync it
}

// An op is a step of a model.
type op struct {
	kind int
	n    int
}

const (
	put = iota
	read
	ack
	trim
	makeSafe
	stop
	kill
	crash
	breakDown
	heal
	damage
	kinds
)

func newModel(t *testing.T, cfg Config, seed byte) *model {
	t.Helper()
	m := &model{
		t: t, bench: newBench(t, cfg),
		rand: rand.New(rand.NewChaCha8([32]byte{seed})), may: map[uint64]bool{},
		gone: map[uint64]bool{}, synced: map[uint64]bool{}, suspect: map[*inode]bool{},
	}
	m.bench.log.b.Grow(1 << 10)
	return m
}

func (m *model) step(o op) {
	m.t.Helper()
	switch o.kind {
	case put:
		m.put(o.n)
	case read:
		m.read(o.n)
	case ack:
		m.ack(o.n)
	case trim:
		m.bench.store.Trim(m.t.Context(), m.acked)
	case makeSafe:
		m.sync()
	case stop:
		m.stop()
	case kill:
		m.bench.abort()
		m.restart()
	case crash:
		m.crash()
	case breakDown:
		m.breakDown(o.n)
	case heal:
		m.bench.disk.heal()
	case damage:
		m.damage(o.n)
	}
	m.check()
}

// put appends a batch, or two.
func (m *model) put(n int) {
	b := m.bench
	if m.rand.IntN(10) == 0 && len(m.stored) == 0 {
		b.seq += 3 // three items go past the store
		m.acked = b.seq
	}
	batches := []*spill.Batch{b.batch(b.seq, n%20+1)}
	if n%3 == 0 {
		batches = append(batches, b.batch(batches[0].End(), n%7+1))
	}
	stored, err := b.store.Append(m.t.Context(), batches)
	if (stored == len(batches)) != (err == nil) {
		m.t.Fatalf("Append: %d of %d stored, %v", stored, len(batches), err)
	}
	for _, batch := range batches[:stored] {
		for ; b.seq < batch.End(); b.seq++ {
			m.stored = append(m.stored, b.seq)
			delete(m.may, b.seq)
			delete(m.synced, b.seq) // a number may be used again that was lost
		}
	}
}

// sync makes everything survive a power cut.
func (m *model) sync() {
	m.t.Helper()
	b := m.bench
	err := b.store.Sync(m.t.Context(), m.acked)
	if err != nil {
		if !m.hit {
			m.t.Fatal(err)
		}
		return
	}

	m.cursor = m.acked
	for _, s := range m.stored {
		m.synced[s] = !m.may[s]
	}
	for _, seg := range b.store.index.all() {
		if b.disk.files[seg.path] != nil && m.suspect[b.disk.files[seg.path]] {
			for s := seg.first; s < seg.end; s++ {
				delete(m.synced, s)
			}
		}
	}
}

// noteSuspects notes the files whose sync has failed: to a process that opens
// them later, they sync.
func (m *model) noteSuspects() {
	for _, f := range m.bench.disk.files {
		m.suspect[f] = m.suspect[f] || f.lossy
	}
}

// hurt makes something fail from here on.
func (m *model) hurt(f fault) {
	m.hit = true
	m.bench.disk.fail(f)
	if f.kind == "" || f.kind == "read" || f.kind == "open" {
		m.mayAll = true
	}
}

func (m *model) breakDown(n int) {
	names := []string{"create", "open", "remove", "syncdir", "write", "sync", "truncate", "read"}
	errs := []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE, syscall.EFBIG}
	m.hurt(fault{
		kind: names[n%8], skip: n / 32 % 2, times: 1 + n/64*2, err: errs[n/8%4], short: n&16 != 0,
	})
}

// read reads up to n items from the oldest one on, and checks them.
func (m *model) read(n int) {
	m.t.Helper()
	b := m.bench
	if len(m.stored) == 0 || b.seq <= m.acked {
		return
	}
	i := 0
	for got, err := range spill.Items(m.t.Context(), b.store, b.label, spill.Range{Next: m.acked,
		End: b.seq}) {
		var corrupt *spill.CorruptError
		switch {
		case errors.As(err, &corrupt):
			m.lose(corrupt, i)
		case err != nil:
			if !m.hit {
				m.t.Fatal(err)
			}
			return // not now
		case m.gone[got.Seq] && m.mayAll && (i >= len(m.stored) || m.stored[i] != got.Seq):
			// It could not be read, and now it can be.
		case i >= len(m.stored) || m.stored[i] != got.Seq:
			m.t.Fatalf("got item %d, want %v…", got.Seq, m.stored[min(i, len(m.stored)):min(i+5,
				len(m.stored))])
		case string(got.Bytes) != string(testItem(got.Seq)):
			m.t.Fatalf("item %d: %.40q", got.Seq, got.Bytes)
		default:
			i++
		}
		if n--; n == 0 {
			return
		}
	}
	if i < len(m.stored) {
		m.t.Fatalf("items from %d on are not there, and not reported lost", m.stored[i])
	}
}

// lose takes out the items that a report says are lost, the next of which is
// the ith.
func (m *model) lose(e *spill.CorruptError, i int) {
	m.t.Helper()
	if !errors.Is(e, spill.ErrCorrupt) || e.Path == "" || !m.hit {
		m.t.Fatalf("damage reported where there is none: %v", e)
	}
	for n := range e.Items {
		seq := e.First + n
		if i < len(m.stored) && m.stored[i] == seq {
			if !m.may[seq] && !m.mayAll {
				m.t.Fatalf("nothing has happened to item %d: %v", seq, e)
			}
			m.stored = slices.Delete(m.stored, i, i+1)
			m.gone[seq] = true
			if i == 0 {
				m.acked = seq + 1 // whoever is told is done with it
			}
		} else if i < len(m.stored) && m.stored[i] < seq {
			m.t.Fatalf("item %d is skipped: %v", m.stored[i], e)
		}
	}
}

// ack says that the n oldest items are done.
func (m *model) ack(n int) {
	n = min(n, len(m.stored))
	m.stored = m.stored[n:]
	m.acked = m.bench.seq
	if len(m.stored) > 0 {
		m.acked = m.stored[0]
	}
	m.bench.store.Trim(m.t.Context(), m.acked)
}

// stop closes the store and opens it again: exactly what was left comes back.
func (m *model) stop() {
	m.t.Helper()
	b := m.bench
	err := b.store.Close(m.t.Context(), true, m.acked, b.seq)
	if err != nil && !m.hit {
		m.t.Fatal(err)
	}
	low, high := m.acked, b.seq
	if len(m.stored) > 0 {
		high = m.stored[0] // numbers in between were skipped
	}
	m.restart()
	if r := b.found; err == nil && r.Items > 0 && (r.Next < low || r.Next > high) {
		m.t.Fatalf("Open after Close: %+v, want items from %d on", b.found, high)
	}
	if err == nil && b.found.Crashed && !m.hit {
		m.t.Fatalf("Open after Close: %+v", b.found)
	}
}

// restart opens the store. Items that were done may come back, if they are of
// one segment with others.
func (m *model) restart() {
	m.t.Helper()
	b := m.bench
	seq := b.seq
	m.noteSuspects()
	for tries := 0; ; tries++ {
		err := b.tryOpen(true)
		if err == nil {
			break
		}
		if !m.hit || tries > 100 {
			m.t.Fatal(err)
		}
	}

	if r := b.found; r.Items > 0 && r.Next < m.cursor && !m.damaged {
		m.t.Fatalf("Open: %+v, though the items below %d were done at a Sync", r, m.cursor)
	}
	if b.found.Next > m.acked {
		for _, s := range m.stored {
			if s < b.found.Next && !m.may[s] {
				m.t.Fatalf("Open: %+v, but item %d is not done", b.found, s)
			}
		}
		m.stored = slices.DeleteFunc(m.stored, func(s uint64) bool { return s < b.found.Next })
	}
	var again []uint64
	for s := b.found.Next; s < min(m.acked, b.found.End); s++ {
		if _, ok := slices.BinarySearch(m.stored, s); !ok {
			again = append(again, s)
			m.may[s] = true // some were removed, or never there
		}
	}
	m.stored = append(again, m.stored...)
	if len(again) > 0 {
		m.prune()
	}
	m.acked = b.found.Next
	for i, s := range m.stored {
		if s >= b.found.End {
			m.forgetFrom(i)
			break
		}
	}
	b.seq = max(seq, b.found.End)
	if len(m.stored) == 0 {
		m.acked = b.seq
	}
}

// forgetFrom gives up the items from the ith on, which must be such as may be
// lost.
func (m *model) forgetFrom(i int) {
	m.t.Helper()
	for _, s := range m.stored[i:] {
		if !m.may[s] && !m.mayAll {
			m.t.Fatalf("item %d is gone without a word: %+v", s, m.bench.found)
		}
	}
	m.stored = m.stored[:i]
}

// prune takes out items that are not there again after all: done before, and in
// no segment.
func (m *model) prune() {
	x := &m.bench.store.index
	m.stored = slices.DeleteFunc(m.stored, func(s uint64) bool {
		if !m.may[s] {
			return false
		}
		p, ok := x.find(s)
		return !ok || p.seg != nil && p.seg.first > s
	})
}

// crash cuts the power: what was synced comes back.
func (m *model) crash() {
	m.t.Helper()
	b := m.bench
	safe := m.durable()
	m.hit = true // what a power cut leaves looks like damage
	for s := range b.seq {
		if !safe[s] && !m.synced[s] {
			m.may[s] = true
		}
	}
	b.mount.crash(m.rand)
	b.abort()
	m.restart()
	m.prune()
}

// durable returns the items that a power cut can't cost.
func (m *model) durable() map[uint64]bool {
	b := m.bench
	safe := map[uint64]bool{}
	for _, s := range b.store.index.all() {
		f := b.disk.durable[s.path]
		if f == nil || f.synced != len(f.data) || f != b.disk.files[s.path] {
			continue
		}
		for seq := s.first; seq < s.end; seq++ {
			safe[seq] = !m.may[seq]
		}
	}
	return safe
}

// damage flips a bit of a segment.
func (m *model) damage(n int) {
	b := m.bench
	paths := b.paths()
	if len(paths) == 0 || len(b.data(paths[n%len(paths)])) == 0 {
		return
	}
	data := b.data(paths[n%len(paths)])
	bit := m.rand.IntN(len(data) * 8)
	m.hit, m.damaged = true, true
	for seq := range affected(data, bit/8) {
		m.may[seq] = true
	}
	if affected(data, bit/8) == nil || m.damagedBefore(paths[n%len(paths)]) {
		m.mayAll = true // too hard to tell
	}
	data[bit/8] ^= 1 << (bit % 8)
}

func (m *model) damagedBefore(path string) bool {
	c, err := loadSegment(m.bench.disk.mount(), path, 0, m.bench.label, true)
	if err != nil || c.damage != nil {
		return true
	}
	for _, seq := range []uint64{c.seg.first, c.seg.end - 1} {
		if m.may[seq] {
			return true
		}
	}
	return false
}

// check compares the store's account with the files.
func (m *model) check() {
	m.t.Helper()
	b := m.bench
	var bytes int64
	names := b.disk.names()
	for _, path := range b.paths() {
		if !m.isNobodys(path) {
			bytes += int64(len(b.data(path)))
		}
	}
	if u := b.store.Usage(); u.Bytes != bytes {
		m.t.Fatalf("Usage says %d bytes, the segments have %d: %v", u.Bytes, bytes, names)
	}
}

// isNobodys reports whether the store has nothing to do with a file.
func (m *model) isNobodys(path string) bool {
	s := m.bench.store
	is := func(seg *segment) bool { return seg.path == path }
	return !slices.ContainsFunc(s.index.all(), is) && !slices.ContainsFunc(s.trash.doomed, is)
}

// finish heals the disk and reads all there is: everything must come out, and
// the disk be empty.
func (m *model) finish() {
	m.t.Helper()
	b := m.bench
	b.disk.heal()
	m.read(1 << 30)
	m.ack(1 << 30)
	m.check()
	if u := b.store.Usage(); u.Bytes != 0 || u.Segments != 0 {
		m.t.Fatalf("%+v with everything done: %v", u, b.disk.names())
	}
	if err := b.store.Close(m.t.Context(), true, b.seq, b.seq); err != nil && !m.hit {
		m.t.Fatal(err)
	}
	if names := b.disk.names(); len(names) > 0 && !m.hit {
		m.t.Fatalf("left: %v", names)
	}
	if n := b.disk.open(); n > 0 {
		m.t.Fatalf("%d files are open", n)
	}
}

func TestStoreMatchesTheModel(t *testing.T) {
	runs := 150
	if testing.Short() || raceEnabled {
		runs = 40
	}
	if soak() {
		runs = 5_000
	}
	for seed := range runs {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			ops := make([]byte, 2*120)
			rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(ops)
			runModel(t, byte(seed), ops)
		})
	}
}

// runModel interprets ops. It is used with random and with fuzzed ones.
func runModel(t *testing.T, seed byte, ops []byte) {
	t.Helper()
	size := []int64{1, 2 << 10, 8 << 10, 1 << 20}[seed%4]
	m := newModel(t, Config{MaxBytes: -1, SegmentSize: size}, seed)
	calm := seed%3 == 0 // nothing fails: then nothing may be lost
	for ; len(ops) > 1; ops = ops[2:] {
		kind := int(ops[0]) % (kinds + 8)
		if kind >= kinds {
			kind %= 3
		}
		if calm && kind >= crash {
			kind = put
		}
		m.step(op{kind, int(ops[1])})
	}
	m.finish()
}
