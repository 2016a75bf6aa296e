package spill_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// A model drives a log the way a pump does, beside a plain list of what is to
// be delivered. It lives in a bubble.
type model struct {
	*testing.T
	rand *rand.Rand
	m    *storetest.Memory
	cfg  spill.Config
	log  *spill.Log
	wake chan struct{}

	truth  map[uint64][]byte // the items by their numbers
	seq    uint64            // the next number
	queue  []uint64          // not done, oldest first
	window int               // so many of them have been handed out, or never were in the log
	front  int               // so many of those never were in the log
	cursor *spill.Cursor     // nil, or with items behind the window

	mu      sync.Mutex // of what the store notes
	batches []span     // that it was given, in their order
	stored  []span     // that it has said are stored

	unsure  map[uint64]bool // may be missing without a word
	wounds  []int           // in batches: where there has been damage
	largest int
	resumes []func()
}

type span struct{ first, end uint64 }

// A recorder is a store that notes what it was given.
type recorder struct {
	spill.Store
	m *model
}

func (s *recorder) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	note := func(to *[]span, batches []*spill.Batch) {
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		for _, b := range batches {
			if sp := (span{b.First, b.End()}); !slices.Contains(*to, sp) {
				*to = append(*to, sp)
			}
		}
	}

	note(&s.m.batches, batches)
	n, err := s.Store.Append(ctx, batches)
	note(&s.m.stored, batches[:n])
	return n, err
}

// isStored reports whether the store has said that it has the item.
func (m *model) isStored(seq uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.stored, func(s span) bool { return s.first <= seq && seq < s.end })
}

// runModel interprets ops. It is used with random and with fuzzed ones.
func runModel(t *testing.T, keep bool, limit int64, ops []byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(10 * time.Second) })
		m := &model{
			T: t, rand: rand.New(rand.NewPCG(1, 2)), m: storetest.NewMemory(),
			wake: make(chan struct{}, 1), truth: map[uint64][]byte{}, unsure: map[uint64]bool{},
		}
		m.m.SetLimit(limit)
		m.cfg = spill.Config{Label: "model", Keep: keep, Wake: m.wake}
		m.open()
		t.Cleanup(func() { m.drop() })

		for ; len(ops) > 1; ops = ops[2:] {
			m.step(ops[0], ops[1])
			m.check()
		}
		m.heal(limit)
		m.finish()
	})
}

func (m *model) step(op, arg byte) {
	m.Helper()
	switch op % 20 {
	case 0, 1, 2:
		m.append(int(arg)%64, 500)
	case 3, 4, 5:
		m.append(int(arg)%16, 12_000)
	case 6:
		m.append(1, 60_000+3_000*int(arg))
	case 7, 8, 9, 10:
		m.take(int(arg) * 2)
	case 11:
		m.done(int(arg))
	case 12:
		if m.log.Rest(m.next()) {
			m.cursor = nil
		}
	case 13, 14:
		time.Sleep(time.Duration(arg) * 20 * time.Millisecond)
	case 15:
		m.fault(arg)
	case 16:
		m.damage(arg)
	case 17:
		m.heal(-1)
	case 18:
		m.reopen()
	case 19:
		if arg < 128 && m.cfg.Keep {
			m.crash()
		}
	}
}

// fault makes something of the store fail from here on, for some time.
func (m *model) fault(arg byte) {
	n := 1 + int(arg)/32
	switch arg % 8 {
	case 0:
		m.m.Fail(storetest.Append, n, errors.New("append fails"))
	case 1:
		m.m.Fail(storetest.Read, n, errors.New("read fails"))
	case 2:
		m.m.Fail(storetest.Trim, n, errors.New("trim fails"))
	case 3:
		m.m.LoseOutcome(n)
	case 4:
		m.m.SetLatency(time.Duration(arg) * time.Millisecond)
	case 5:
		m.m.SetLimit(m.used() + int64(arg)<<10)
	case 6:
		call := []storetest.Call{storetest.Append, storetest.Read, storetest.Trim}[n%3]
		m.resumes = append(m.resumes, m.m.Hang(call))
	case 7:
		m.m.Fail(storetest.Close, 1, errors.New("close fails"))
	}
}

// heal ends all faults.
func (m *model) heal(limit int64) {
	for _, resume := range m.resumes {
		resume()
	}
	m.resumes = nil
	for c := storetest.Open; c <= storetest.Close; c++ {
		m.m.Fail(c, 0, nil)
	}
	m.m.LoseOutcome(0)
	m.m.SetLatency(0)
	m.m.SetLimit(limit)
	time.Sleep(3 * time.Second)
}

func (m *model) used() int64 { return m.log.Usage().Bytes }

// open opens the log, and returns what the store says it holds.
func (m *model) open() spill.Range {
	m.Helper()
	cfg := m.cfg
	cfg.Store = &recorder{m.m.Store(), m}
	log, found, err := spill.Open(m.Context(), cfg)
	if err != nil {
		m.Fatalf("Open: %v", err)
	}
	m.log, m.cursor = log, nil
	m.window, m.front = 0, 0
	return found
}

// drop ends a log of which nothing more is expected.
func (m *model) drop() {
	if m.log == nil {
		return
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	m.log.Close(ended, m.head())
}

// append appends up to n items.
func (m *model) append(n, size int) {
	for range n {
		if !m.log.Room(0) {
			return
		}
		if len(m.queue) == 0 && m.rand.IntN(4) == 0 {
			m.pass()
		}

		v := append(fmt.Appendf(nil, "%d ", m.seq), noise[:m.rand.IntN(size)]...)
		b := m.log.Begin(m.seq)
		if m.rand.IntN(20) == 0 {
			v = nil
			m.log.Park()
		} else {
			if m.rand.IntN(20) == 0 {
				v = v[:0]
			}
			m.log.Commit(append(b, v...))
		}
		m.add(v)
	}
}

// pass has some items pass by the log, and as many wait in front of it.
func (m *model) pass() {
	m.seq += uint64(m.rand.IntN(4))
	for range m.rand.IntN(4) {
		m.add(fmt.Appendf(nil, "%d in front", m.seq))
		m.window++
		m.front++
	}
}

func (m *model) add(v []byte) {
	m.truth[m.seq] = v
	m.largest = max(m.largest, len(v))
	delete(m.unsure, m.seq)
	m.queue = append(m.queue, m.seq)
	m.seq++
}

// head returns the number of the oldest item that is not done.
func (m *model) head() uint64 {
	if len(m.queue) > 0 {
		return m.queue[0]
	}
	return m.seq
}

// take moves up to n items from the log to the window. It asks for more only
// when it has been woken.
func (m *model) take(n int) {
	m.Helper()
	for n > 0 {
		if m.cursor != nil && m.cursor.Left > 0 {
			m.takeOne()
			n--
			continue
		}

		// What has been handed out is done before there is more, as with a
		// pump.
		m.done(m.window)
		c, lost := m.log.Next(m.head(), m.head())
		m.cursor = c
		if lost != nil {
			m.lose(lost)
		}
		if c == nil && lost == nil {
			synctest.Wait()
			select {
			case <-m.wake:
			default:
				return
			}
		}
	}
}

func (m *model) takeOne() {
	m.Helper()
	seq := m.cursor.Seq
	m.missed(seq)
	if m.window >= len(m.queue) || m.queue[m.window] != seq {
		m.Fatalf("item %d comes where %v… are to come", seq, m.rest(5))
	}

	got, parked := m.cursor.Item()
	if want := m.truth[seq]; parked != (want == nil) || string(got) != string(want) {
		m.Fatalf("item %d: parked %v, %.40q, want %.40q", seq, parked, got, want)
	}
	m.cursor.Advance()
	m.window++
}

// rest returns the next n items that are to come from the log.
func (m *model) rest(n int) []uint64 {
	return m.queue[m.window:min(m.window+n, len(m.queue))]
}

// next returns the number of the next item that is to come from the log.
func (m *model) next() uint64 {
	if r := m.rest(1); len(r) > 0 {
		return r[0]
	}
	return m.seq
}

// missed takes items below seq for missing that may be.
func (m *model) missed(seq uint64) {
	for m.window < len(m.queue) && m.queue[m.window] < seq && m.unsure[m.queue[m.window]] {
		m.queue = slices.Delete(m.queue, m.window, m.window+1)
	}
}

// lose notes a report of loss, which is to be about just the next items.
func (m *model) lose(e *spill.CorruptError) {
	m.Helper()
	if !errors.Is(e, spill.ErrCorrupt) || e.Path == "" && e.Items == 0 {
		m.Fatalf("reported: %v", e)
	}
	for seq := e.First; seq < e.First+e.Items; seq++ {
		if m.truth[seq] == nil && len(m.rest(1)) > 0 && m.rest(1)[0] > seq {
			continue // its number was skipped
		}
		m.missed(seq)
		if r := m.rest(1); len(r) == 0 || r[0] != seq {
			if m.unsure[seq] || m.skipped(seq) {
				continue
			}
			m.Fatalf("%v: the next items are %v…", e, m.rest(5))
		}
		if !m.mayLose(seq) && !m.unsure[seq] {
			m.Fatalf("%v: nothing has happened to item %d", e, seq)
		}
		m.queue = slices.Delete(m.queue, m.window, m.window+1)
	}
}

// skipped reports whether there never was an item of that number.
func (m *model) skipped(seq uint64) bool {
	_, ok := m.truth[seq]
	return !ok
}

// parked reports whether the item stayed with its owner, who has to look after
// it if the log could not store its placeholder.
func (m *model) parked(seq uint64) bool { return m.truth[seq] == nil }

// done says that the n oldest items are.
func (m *model) done(n int) {
	n = min(n, m.window)
	m.queue = m.queue[n:]
	m.window -= n
	m.front = max(m.front-n, 0)
	m.log.Ack(m.head())
}

// check checks what holds at any time.
func (m *model) check() {
	m.Helper()
	synctest.Wait()
	h, err := m.log.Held()
	if err != nil {
		m.Fatal(err)
	}

	// Runs may be half full, and one more than full.
	most := (2*spill.MemLimit/spill.MaxBuf+2)*spill.BufSize + 4*(m.largest+spill.BufSize)
	if h.Runs > most || h.Chunks > spill.MaxPacked*spill.BufSize {
		m.Fatalf("in memory: %+v, want less than %d", h, most)
	}
	if most := spill.ReadyLimit/65536*spill.BufSize + 2*m.largest; h.Ahead > most {
		m.Fatalf("read ahead: %+v, want less than %d", h, most)
	}
	if r := m.log.Refusal(0); r == nil && m.hung() == 0 && len(m.queue) == 0 && !m.log.Room(0) {
		m.Fatal("an empty log has no room, and no reason")
	}
}

func (m *model) hung() int { return len(m.resumes) }

// damage damages what the store holds.
func (m *model) damage(arg byte) {
	var there []uint64
	for _, seq := range m.queue[m.window:] {
		if m.isStored(seq) && !m.mayLose(seq) && !m.unsure[seq] {
			there = append(there, seq)
		}
	}
	if len(there) == 0 {
		return
	}

	seq := there[int(arg)%len(there)]
	m.mu.Lock()
	for i, b := range m.batches {
		if b.first <= seq && seq < b.end {
			m.wounds = append(m.wounds, i)
		}
	}
	m.mu.Unlock()

	switch arg % 3 {
	case 0:
		m.m.Corrupt(seq)
	case 1:
		m.m.CorruptHeader(seq)
	case 2:
		m.m.Lose(seq)
	}
}

// mayLose reports whether damage may have cost the item: to its batch, or to
// one of those around it, also if that has come later.
func (m *model) mayLose(seq uint64) bool {
	const around = 5
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.wounds, func(at int) bool {
		near := m.batches[max(at-around, 0):min(at+around+1, len(m.batches))]
		return slices.ContainsFunc(near, func(b span) bool { return b.first <= seq && seq < b.end })
	})
}

// gather appends what never was in the log and waits in front of it.
func (m *model) gather() {
	for _, seq := range m.queue[:m.front] {
		m.log.Commit(append(m.log.Begin(seq), m.truth[seq]...))
	}
}

// reopen closes the log and opens it again. If it is kept, everything comes
// back but what Close says was unsaved.
func (m *model) reopen() {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 3*time.Second)
	defer cancel()
	if m.cfg.Keep {
		m.log.Finish(ctx)
		m.gather()
	}
	left := m.log.Close(ctx, m.head())
	m.log = nil
	if left.Unsaved > uint64(len(m.queue)) {
		m.Fatalf("Close: %d of %d items unsaved", left.Unsaved, len(m.queue))
	}
	if left.Unsaved > 0 && left.Err == nil {
		m.Fatalf("Close: %d items unsaved, and no reason", left.Unsaved)
	}
	if left.Err != nil && m.hung() > 0 {
		m.heal(-1)
	}
	time.Sleep(5 * time.Second)

	queue := m.queue
	found := m.open()
	if !m.cfg.Keep {
		if found.Items > 0 || m.used() > 0 && left.Err == nil {
			m.Fatalf("Open of a log that is not kept found %+v, %d bytes", found, m.used())
		}
		m.forget(found.End)
		return
	}
	if left.Err == nil {
		m.comesBack(found, queue)
	}
	m.adopt(found, queue, left.Unsaved)
}

// forget begins with an empty log.
func (m *model) forget(end uint64) {
	m.queue, m.batches, m.stored, m.wounds = nil, nil, nil, nil
	m.unsure = map[uint64]bool{}
	m.seq = max(m.seq, end)
}

// comesBack checks what is found after a clean Close.
func (m *model) comesBack(found spill.Range, queue []uint64) {
	m.Helper()
	hurt := len(m.wounds) > 0
	n, sure := uint64(len(queue)), uint64(0)
	for _, seq := range queue {
		if !m.unsure[seq] {
			sure++
		}
	}
	if found.Crashed || !hurt && (found.Items < sure || found.Items > n) ||
		n > 0 && sure == n && !hurt && (found.Next != queue[0] || found.End < queue[n-1]+1) {
		m.Fatalf("Open found %+v, want %d items from %v…", found, n, queue[:min(n, 5)])
	}
}

// adopt makes what the store holds the queue: of the one before nothing may be
// missing but for some, and others may come again.
func (m *model) adopt(found spill.Range, before []uint64, missing uint64) {
	m.Helper()
	gone := uint64(0)
	for _, seq := range before {
		there := found.Next <= seq && seq < found.End && m.isStored(seq)
		if !there && !m.mayLose(seq) && !m.unsure[seq] && !m.parked(seq) {
			gone++
		}
		if !m.isStored(seq) {
			m.unsure[seq] = true
		}
	}
	if gone > missing {
		m.Fatalf("%d items are gone, %d were unsaved; Open found %+v", gone, missing, found)
	}

	m.queue = nil
	for _, b := range m.batches {
		for seq := max(b.first, found.Next); seq < min(b.end, found.End); seq++ {
			m.queue = append(m.queue, seq)
			if !slices.Contains(before, seq) {
				m.unsure[seq] = true // it was done, and may have been deleted
			}
		}
	}
	slices.Sort(m.queue)
	m.queue = slices.Compact(m.queue)
	m.seq = found.End
}

// crash ends the log as the end of its process would.
func (m *model) crash() {
	m.Helper()
	m.m.Crash()
	m.drop()
	time.Sleep(5 * time.Second)
	if m.hung() > 0 {
		m.heal(-1)
	}

	var lost uint64
	for _, seq := range m.queue {
		if !m.isStored(seq) && !m.parked(seq) {
			lost++ // it was in memory only
		}
	}
	queue := m.queue
	found := m.open()
	if !found.Crashed {
		m.Fatalf("Open after a crash found %+v", found)
	}
	m.adopt(found, queue, lost)
}

// finish takes everything, and checks that nothing stays behind.
func (m *model) finish() {
	m.Helper()
	for range 5 {
		m.take(1 << 20)
		time.Sleep(3 * time.Second)
		synctest.Wait()
	}
	for len(m.queue) > m.window && m.unsure[m.queue[m.window]] {
		m.queue = slices.Delete(m.queue, m.window, m.window+1)
	}
	m.done(m.window)
	if len(m.queue) > 0 {
		m.Fatalf("%d items never come, from %d on", len(m.queue), m.queue[0])
	}

	m.log.Ack(m.seq)
	time.Sleep(3 * time.Second)
	synctest.Wait()
	if u := m.log.Usage(); u.Bytes != 0 || u.Segments != 0 {
		m.Fatalf("with everything done the store takes %+v", u)
	}
	if !m.log.Rest(m.next()) {
		m.Fatal("the store is read, though there is nothing to read")
	}
	if h, err := m.log.Held(); err != nil || h != (spill.Held{}) {
		m.Fatalf("in memory with everything done: %+v, %v", h, err)
	}
	left := m.log.Close(m.Context(), m.seq)
	m.log = nil
	if left != (spill.Left{}) {
		m.Fatalf("Close: %+v", left)
	}
}

// soak reports whether there is time for long runs.
func soak() bool { return os.Getenv("HOPPER_SOAK") != "" }

func TestLogMatchesTheModel(t *testing.T) {
	runs := 150
	if testing.Short() {
		runs = 20
	}
	if soak() {
		runs = 5000
	}
	for seed := range runs {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			ops := make([]byte, 2*150)
			_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(ops)
			keep, limit := modelConfig(seed)
			runModel(t, keep, limit, ops)
		})
	}
}

func modelConfig(seed int) (keep bool, limit int64) {
	limit = -1
	if seed%5 == 0 {
		limit = 900 << 10
	}
	return seed%3 != 0, limit
}

func FuzzLog(f *testing.F) {
	f.Add(byte(1),
		[]byte("\x00\x3f\x03\x0f\x03\x0f\x03\x0f\x03\x0f\x06\x20\x07\x20\x0c\x00\x07\x20\x12\x00\x07\xff\x0b\xff"))
	f.Add(byte(5),
		[]byte("\x03\x0f\x03\x0f\x03\x0f\x03\x0f\x0f\x06\x03\x0f\x0d\xff\x07\x20\x11\x00\x13\x00\x07\xff"))
	f.Add(byte(2),
		[]byte("\x06\xff\x06\xff\x06\xff\x10\x00\x07\x01\x10\x01\x07\x01\x10\x02\x12\x00\x07\xff"))
	f.Fuzz(func(t *testing.T, seed byte, ops []byte) {
		if len(ops) > 300 {
			return
		}
		keep, limit := modelConfig(int(seed))
		runModel(t, keep, limit, ops)
	})
}
