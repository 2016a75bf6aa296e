package backlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// An item of the model test begins with its number and its kind.
const (
	plain       = iota
	unencodable // parked
	undecodable
	kinds
)

func newItem(n uint64, kind byte, size int) []byte {
	b := make([]byte, 9+size)
	binary.LittleEndian.PutUint64(b, n)
	b[8] = kind
	for i := 9; i < len(b); i++ {
		b[i] = byte(n) + byte(i)
	}
	return b
}

func numberOf(item []byte) uint64 { return binary.LittleEndian.Uint64(item) }

// capricious is a codec that refuses what the item's kind says.
type capricious struct{}

func (capricious) Append(dst, v []byte) ([]byte, error) {
	if v[8] == unencodable {
		return append(dst, "half of it"...), errors.New("unencodable")
	}
	return append(dst, v...), nil
}

func (capricious) Decode(src []byte) ([]byte, error) {
	if src[8] == undecodable {
		return nil, errors.New("undecodable")
	}
	return append([]byte{}, src...), nil
}

// A model drives a Backlog and holds it against a plain slice.
type model struct {
	t      *testing.T
	medium *storetest.Memory
	wake   chan struct{}
	modes
	memory int64

	b       *Backlog[[]byte]
	want    [][]byte        // what waits, oldest first
	unacked [][]byte        // what was delivered, or lost, and is not done, oldest first
	missed  map[uint64]bool // of these, the numbers of those that were lost
	n       uint64          // items ever made

	syncing, synced *moment // what the last Sync was to make durable, and the last that was done

	received, delivered, lost, resumed, acked uint64 // since the last open
}

type modes struct{ keep, skip, acks, journal bool }

func modesOf(bits byte) (m modes) {
	m.keep, m.skip = bits&1 != 0, bits&2 != 0
	m.journal = m.keep && bits&4 != 0
	m.acks = m.journal && bits&8 != 0
	return m
}

// A moment is what a store must give back after a crash.
type moment struct {
	open map[uint64]bool // numbers of the items that were not done
	done int64           // number of the last one that was, or -1
}

func newModel(t *testing.T, mode modes, memory int64) *model {
	m := &model{t: t, medium: storetest.NewMemory(), modes: mode, memory: memory}
	m.open()
	return m
}

func (m *model) open() {
	m.wake = make(chan struct{}, 1)
	log, found, err := spill.Open(context.Background(), spill.Config{
		Store: m.medium.Store(), Label: "model", Keep: m.keep, Wake: m.wake, Journal: m.acks,
	})
	if err != nil {
		m.t.Fatalf("Open: %v", err)
	}
	m.b = New(Config[[]byte]{
		Codec: capricious{}, Log: log, Found: found, MaxMemory: m.memory,
		Keep: m.keep, Skip: m.skip, Logger: slog.New(slog.DiscardHandler),
		Acks: m.acks, Journal: m.journal,
	})
	m.received, m.delivered, m.lost, m.resumed, m.acked = 0, 0, 0, found.Items, 0
	m.want, m.unacked = append(m.unacked, m.want...), nil
	m.syncing, m.synced, m.missed = nil, nil, make(map[uint64]bool)
}

// step does what one byte says, with another as its measure.
func (m *model) step(op, arg byte) {
	switch op % 20 {
	case 0, 1, 2:
		m.push(int(arg), 0, plain)
	case 3:
		m.push(int(arg)%8, int(arg)*300, plain)
	case 4:
		m.push(1, int(arg)*2000, plain)
	case 5:
		m.push(int(arg)%4, int(arg), unencodable)
	case 6:
		m.push(int(arg)%4, int(arg), undecodable)
	case 7, 8, 9:
		m.deliver(int(arg))
	case 10:
		m.b.Settle()
	case 11:
		time.Sleep(time.Duration(arg) * 10 * time.Millisecond)
		if m.b.RestDue() {
			m.b.Rest()
		}
	case 12:
		m.medium.Fail(storetest.Append, int(arg)%8, errors.New("full"))
	case 13:
		m.medium.Fail(storetest.Read, int(arg)%4, errors.New("busy"))
	case 14:
		m.medium.LoseOutcome(int(arg) % 3)
	case 15:
		m.reopen(arg)
	case 16, 17:
		m.ack(int(arg))
	case 18, 19:
		m.sync(arg)
	}
	m.check()
}

// ack acknowledges up to n of the oldest items.
func (m *model) ack(n int) {
	if !m.acks {
		return
	}
	for range min(n, m.undone()) {
		m.acked++
		for m.missed[numberOf(m.unacked[0])] {
			m.unacked = m.unacked[1:]
		}
		m.done(numberOf(m.unacked[0]))
		m.unacked = m.unacked[1:]
	}
	if m.undone() == 0 {
		m.unacked = nil
	}
	m.b.Ack(m.acked)
	m.b.Settle()
}

// undone returns how many deliveries are not acknowledged.
func (m *model) undone() (n int) {
	for _, item := range m.unacked {
		if !m.missed[numberOf(item)] {
			n++
		}
	}
	return n
}

// sync begins a sync, and mostly waits until it is done, if it can be.
func (m *model) sync(arg byte) {
	if !m.journal || m.b.Err() != nil {
		return
	}
	m.b.Settle() // as the pump does before it looks
	m.syncing = m.moment()
	if m.b.Unsynced() {
		m.b.Sync()
	}
	if arg%4 != 0 {
		time.Sleep(10 * time.Second)
		synctest.Wait()
	}
	m.noteSync()
}

// noteSync notes whether the sync is done.
func (m *model) noteSync() {
	synctest.Wait()
	if m.syncing != nil && m.b.Synced() {
		m.synced, m.syncing = m.syncing, nil
	}
}

// moment returns what would have to come back if the store were synced now.
func (m *model) moment() *moment {
	s := &moment{open: make(map[uint64]bool), done: int64(m.n) - 1}
	for _, item := range slices.Concat(m.unacked, m.want) {
		if s.done >= int64(numberOf(item)) {
			s.done = int64(numberOf(item)) - 1
		}
		if item[8] == plain {
			s.open[numberOf(item)] = true
		}
	}
	return s
}

// done says that an item needs not come back any more.
func (m *model) done(n uint64) {
	for _, s := range []*moment{m.syncing, m.synced} {
		if s != nil {
			delete(s.open, n)
		}
	}
}

func (m *model) push(n, size int, kind byte) {
	for range n {
		if !m.b.Room() {
			return
		}
		item := newItem(m.n, kind, size)
		m.n++
		m.received++
		if m.b.Empty() && size%2 == 1 && (!m.acks || m.b.Journal(item)) {
			m.b.Passed(1)
			m.took(item)
			continue
		}
		m.b.Push(item)
		m.want = append(m.want, item)
	}
}

// head waits for the oldest item. It returns nil where none will come.
func (m *model) head() []byte {
	for {
		if h := m.b.Head(); h != nil {
			return *h
		}
		if m.b.Empty() || m.b.Err() != nil {
			return nil
		}
		select {
		case <-m.wake:
		case <-time.After(time.Hour):
			m.t.Fatalf("nothing comes of %v", m.b)
		}
	}
}

// deliver delivers up to n items, as many at a time as there are in a row, or
// fewer.
func (m *model) deliver(n int) {
	for n > 0 && m.head() != nil {
		heads := m.b.Heads(n)
		heads = heads[:min(len(heads), int(1+m.n%5))]
		for _, got := range heads {
			m.passOver(got)
			if !bytes.Equal(m.want[0], got) {
				if a, b := numberOf(m.want[0]), numberOf(got); a != b {
					m.t.Fatalf("item %d comes, want %d", b, a)
				}
				d := cmp.Diff(m.want[0], got) // takes its time over each byte
				m.t.Fatalf("the oldest item (-want +got):\n%s", d)
			}
			m.took(m.want[0])
			m.want = m.want[1:]
		}
		m.b.Pop(len(heads))
		n -= len(heads)
	}
	if m.b.Empty() {
		m.passOver(nil)
	}
}

// took notes that an item was delivered.
func (m *model) took(item []byte) {
	m.delivered++
	if m.acks {
		m.unacked = append(m.unacked, item)
	} else {
		m.done(numberOf(item))
	}
}

// passOver drops items that can't be decoded in front of the one that has come,
// or all of them if none will.
func (m *model) passOver(got []byte) {
	for len(m.want) > 0 && m.want[0][8] != plain && (got == nil || numberOf(m.want[0]) < numberOf(got)) {
		if m.want[0][8] == unencodable && m.resumed == 0 {
			m.t.Fatalf("parked item %d is gone", numberOf(m.want[0]))
		}
		m.lost++
		m.done(numberOf(m.want[0]))
		m.lostBehind(m.want[0])
		m.want = m.want[1:]
	}
}

// lostBehind notes an item that is lost: it is not done before those in front
// of it are.
func (m *model) lostBehind(item []byte) {
	if m.acks && m.undone() > 0 {
		m.unacked = append(m.unacked, item)
		m.missed[numberOf(item)] = true
	}
}

func (m *model) check() {
	m.t.Helper()
	m.noteSync()
	got := m.b.Tally()
	if got.Unacked != uint64(m.undone()) {
		m.t.Fatalf("%d items are not acknowledged, want %d", got.Unacked, m.undone())
	}
	if got.Received+got.Resumed != got.Delivered+got.InMemory+got.OnDisk+got.Lost {
		m.t.Fatalf("the equation does not hold: %+v", got)
	}
	if got.Received != m.received || got.Delivered != m.delivered {
		m.t.Fatalf("%+v, want %d received, %d delivered", got, m.received, m.delivered)
	}
	if m.b.Len()+got.Lost-m.lost != uint64(len(m.want)) {
		m.t.Fatalf("%d items wait and %d are lost, want %d and %d", m.b.Len(), got.Lost, len(m.want), m.lost)
	}
	if limit := m.memory + 600_000; got.MemoryBytes > limit { // the largest item, when none else waits
		m.t.Fatalf("%d bytes in memory, want at most %d", got.MemoryBytes, limit)
	}
}

// reopen stops the backlog and opens another on what it has left.
func (m *model) reopen(arg byte) {
	switch arg % 8 {
	case 0, 1:
		old, synced := m.b, m.synced
		if arg%8 == 0 {
			m.medium.Crash()
		} else {
			m.medium.CutPower()
		}
		defer old.Close(context.Background()) // its goroutines end
		m.open()
		m.drainAnything(synced)
	case 2: // with whatever fails
		m.stop(false)
		m.open()
		m.drainAnything(nil)
	case 3:
		m.stop(false)
		m.damage(arg)
		m.open()
		m.drainAnything(nil)
	default:
		m.medium.Fail(storetest.Append, 0, nil)
		m.medium.LoseOutcome(0)
		kept := m.stop(true)
		m.open()
		if m.resumed < kept {
			m.t.Fatalf("%d items were kept, %d are found", kept, m.resumed)
		}
	}
}

// damage changes a bit of what one of the items is stored in, if any is.
func (m *model) damage(arg byte) {
	defer func() { recover() }() // it is not there
	m.medium.Corrupt(m.b.head + uint64(arg)*5)
}

// stop closes the backlog. Where no write fails nothing is lost but parked
// items.
func (m *model) stop(sound bool) (kept uint64) {
	for range m.b.Tally().Lost - m.lost { // that were lost and not asked for since
		m.lostBehind(m.want[0])
		m.want = m.want[1:]
	}
	all := Undelivered{m.b.Len(), m.b.Unacked()}
	broken := m.b.Err() != nil
	end := m.b.Close(context.Background())
	if all != (Undelivered{end.Kept.Waiting + end.Lost.Waiting, end.Kept.Unacked + end.Lost.Unacked}) {
		m.t.Fatalf("%+v at the end, %+v are kept and %+v lost: %v", all, end.Kept, end.Lost, end.Err)
	}

	parked := uint64(0)
	for _, item := range slices.Concat(m.unacked, m.want) {
		if item[8] == unencodable {
			parked++
		}
	}
	if lost := end.Lost.Waiting + end.Lost.Unacked; m.keep && sound && lost > parked {
		m.t.Fatalf("%d items are lost at the stop, %d were parked: %v", lost, parked, end.Err)
	}

	m.skip = m.skip || broken
	if !m.keep {
		m.want = nil
	}
	return end.Kept.Waiting + end.Kept.Unacked
}

// drainAnything drains a backlog that may lack items: what comes is in order,
// and what was synced is there, if anything was.
func (m *model) drainAnything(synced *moment) {
	m.want, m.lost = nil, 0
	last := int64(-1)
	if synced != nil {
		last = synced.done
	}
	for got := m.head(); got != nil; got = m.head() {
		n := int64(numberOf(got))
		if n <= last || n >= int64(m.n) {
			m.t.Fatalf("item %d comes after item %d of %d", n, last, m.n)
		}
		last = n
		m.b.Pop(1)
		m.delivered++
		if synced != nil {
			delete(synced.open, uint64(n))
		}
	}
	if m.acks {
		m.acked = m.delivered
		m.b.Ack(m.acked)
	}

	if synced != nil && m.b.Err() == nil && len(synced.open) > 0 {
		m.t.Fatalf("%d items were synced and are gone", len(synced.open))
	}
	m.lost = m.b.Tally().Lost
	if m.b.Err() == nil && m.delivered+m.lost != m.resumed {
		m.t.Fatalf("%d items were found, of which %d came and %d are lost", m.resumed, m.delivered, m.lost)
	}
	if m.b.Err() != nil { // begin anew
		m.b.Close(context.Background())
		m.skip, m.medium = true, storetest.NewMemory()
		m.open()
	}
}

func run(t *testing.T, seed byte, ops []byte) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, modesOf(seed), int64(seed>>4)*800)
		for i := 0; i+1 < len(ops); i += 2 {
			m.step(ops[i], ops[i+1])
		}
		m.b.Close(context.Background())
	})
}

// runs is how many random sequences are tried.
func runs() int {
	switch {
	case testing.Short():
		return 20
	case os.Getenv("HOPPER_SOAK") != "":
		return 100_000
	}
	return 150
}

func TestABacklogIsAsGoodAsASlice(t *testing.T) {
	for seed := range runs() {
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		ops := make([]byte, 2*r.IntN(400))
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { run(t, byte(r.Uint32()), ops) })
	}
}

func FuzzBacklog(f *testing.F) {
	f.Add(byte(5), []byte("\x00\xff\x05\x03\x07\x80\x0f\x01\x07\xff"))
	f.Fuzz(func(t *testing.T, seed byte, ops []byte) {
		if len(ops) > 400 {
			return
		}
		run(t, seed, ops)
	})
}
