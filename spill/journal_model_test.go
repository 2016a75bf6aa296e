package spill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// A journalist is the user of a log who goes on in front of what is done:
// items are appended, handed out, acknowledged and synced in any order, the log
// is put to rest and goes back, and its process or machine ends at any time.
type journalist struct {
	testing.TB
	m      *storetest.Memory
	rand   *rand.Rand
	cfg    spill.Config
	wake   chan struct{}
	log    *spill.Log
	cursor *spill.Cursor

	acked, from, sent uint64 // below: done; not wanted any more; appended
	holes             uint64 // numbers below may be missing without a word
	resumes           []func()
}

func (j *journalist) open() spill.Range {
	j.Helper()
	cfg := j.cfg
	cfg.Store = j.m.Store()
	log, found, err := spill.Open(j.Context(), cfg)
	if err != nil {
		j.Fatal(err)
	}
	j.log, j.cursor = log, nil
	return found
}

func (j *journalist) item(seq uint64) []byte {
	size := int(seq*37) % 3000
	if seq%97 == 0 {
		size = 100_000
	}
	return item(seq, size)
}

func (j *journalist) step() {
	j.Helper()
	switch n := j.rand.IntN(200); j.rand.IntN(16) {
	case 0, 1, 2:
		j.append(uint64(n))
	case 3, 4, 5:
		j.take(2 * n)
	case 6:
		j.skip(uint64(n))
	case 7, 8:
		j.ack(uint64(n) * 2)
	case 9, 10:
		j.log.SyncLater(j.acked)
		if n%2 == 0 {
			synctest.Wait()
		}
	case 11:
		j.goBack()
	case 12:
		time.Sleep(time.Duration(n) * 20 * time.Millisecond)
	case 13:
		j.fault(n)
	case 14:
		j.heal()
	case 15:
		j.end(n)
	}
	j.check()
}

func (j *journalist) append(n uint64) {
	for range n {
		if !j.log.Room(0) {
			return
		}
		j.log.Commit(append(j.log.Begin(j.sent), j.item(j.sent)...))
		j.sent++
	}
}

func (j *journalist) take(n int) {
	j.Helper()
	for n > 0 {
		if c := j.cursor; c != nil && c.Left > 0 {
			j.takeOne(c)
			n--
			continue
		}

		c, lost := j.log.Next(j.from, j.acked)
		if j.cursor = c; lost != nil {
			j.Fatalf("nothing has happened to the items: %v", lost)
		}
		if c == nil {
			synctest.Wait()
			select {
			case <-j.wake:
			default:
				return
			}
		}
	}
}

func (j *journalist) takeOne(c *spill.Cursor) {
	j.Helper()
	got, parked := c.Item()
	if c.Seq < j.from || c.Seq > max(j.from, j.holes) {
		j.Fatalf("item %d comes where %d is to come", c.Seq, j.from)
	}
	if parked || !bytes.Equal(got, j.item(c.Seq)) {
		j.Fatalf("item %d: %.40q", c.Seq, got)
	}
	j.from = c.Seq + 1
	c.Advance()
}

// skip goes on behind items that were not taken.
func (j *journalist) skip(n uint64) {
	if j.cursor == nil || j.cursor.Left == 0 {
		j.from = min(j.from+n, j.sent)
	}
}

func (j *journalist) ack(n uint64) {
	j.acked = min(j.acked+n, j.from)
	if j.cursor != nil && j.cursor.Left == 0 {
		j.cursor = nil
	}
	j.log.Ack(j.acked)
}

// goBack puts the log to rest, and goes on at an item that was handed out.
func (j *journalist) goBack() {
	from := j.acked + j.rand.Uint64N(j.from-j.acked+1)
	if j.rand.IntN(2) == 0 {
		from = j.from
	}
	if j.log.Rest(from) {
		j.from, j.cursor = from, nil
	}
}

var errFault = errors.New("out of order")

// faulty are the calls that may fail or hang.
var faulty = [...]storetest.Call{
	storetest.Append, storetest.Sync, storetest.Read, storetest.Trim,
}

func (j *journalist) fault(n int) {
	switch c := faulty[n%4]; {
	case n < 100:
		j.m.Fail(c, 1+n%5, errFault)
	case n < 130:
		j.resumes = append(j.resumes, j.m.Hang(c))
	case n < 150:
		j.m.LoseOutcome(1)
	default:
		j.m.SetLatency(time.Duration(n-150) * time.Millisecond)
	}
}

func (j *journalist) heal() {
	j.m.SetLatency(0)
	for _, c := range faulty {
		j.m.Fail(c, 0, nil)
	}
	for _, resume := range j.resumes {
		resume()
	}
	j.resumes = nil
}

// check checks what the log says of its syncs.
func (j *journalist) check() {
	j.Helper()
	if end, acked := j.log.Synced(); end > j.sent || acked > j.acked {
		j.Fatalf("synced up to %d and %d, of %d items, %d of which are done",
			end, acked, j.sent, j.acked)
	}
}

// end ends the log in some way, and opens it again.
func (j *journalist) end(n int) {
	j.Helper()
	end, acked := j.log.Synced()
	switch {
	case n < 80:
		j.stop()
		return
	case n < 140:
		j.m.Crash()
	default:
		j.m.CutPower()
	}

	j.drop()
	j.heal()
	r := j.open()
	if r.Items > 0 && (r.Next < acked || r.Next > j.acked) || r.End < end && end > j.acked {
		j.Fatalf("after a crash: %+v; synced were %d, and %d done; %d of %d were done",
			r, end, acked, j.acked, j.sent)
	}
	if r.Items == 0 && end > j.acked {
		j.Fatalf("after a crash: %+v, though items %d to %d were synced", r, j.acked, end)
	}

	j.Logf("found %+v; synced were %d, and %d done; %d of %d were done",
		r, end, acked, j.acked, j.sent)
	j.holes = max(j.holes, j.acked)
	j.expect(max(r.Next, j.acked), min(end, r.End))
	j.acked, j.from, j.sent = r.Next, r.Next, r.End
	if r.Items == 0 {
		j.acked, j.from = r.End, r.End
	}
}

// expect reads ahead of everybody, and checks that items were not lost.
func (j *journalist) expect(first, end uint64) {
	j.Helper()
	if first >= end {
		return
	}
	for next, idle := first, 0; next < end; {
		if idle++; idle > 1000 {
			j.Fatalf("item %d was synced, and never comes", next)
		}
		c, lost := j.log.Next(next, 0)
		switch {
		case lost != nil:
			j.Fatal(lost)
		case c == nil:
			<-j.wake
			continue
		case c.Seq > max(next, j.holes):
			j.Fatalf("item %d was synced, and is gone", next)
		}
		next = c.Seq + uint64(c.Left)
	}
	for !j.log.Rest(0) {
		synctest.Wait()
	}
}

// stop closes the log: all that is not done is left.
func (j *journalist) stop() {
	j.Helper()
	j.heal()
	if left := j.log.Close(j.Context(), j.acked); left != (spill.Left{}) {
		j.Fatalf("Close: %+v", left)
	}
	r := j.open()
	if j.acked < j.sent && (r.Next < j.acked || r.End != j.sent || r.Crashed || r.Items == 0) ||
		j.acked == j.sent && r.Items > 0 {
		j.Fatalf("after Close: %+v, want items %d to %d", r, j.acked, j.sent)
	}
	j.from = j.acked
}

// drop ends a log whose store is gone.
func (j *journalist) drop() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	j.log.Close(ended, j.acked)
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

func (j *journalist) finish() {
	j.Helper()
	j.heal()
	for range 5 {
		j.take(1 << 20)
		time.Sleep(3 * time.Second)
	}
	if j.from != j.sent {
		j.Fatalf("item %d of %d never comes", j.from, j.sent)
	}

	j.acked = j.sent
	j.log.SyncLater(j.acked)
	time.Sleep(3 * time.Second)
	synctest.Wait()
	if end, acked := j.log.Synced(); end != j.sent || acked != j.sent {
		j.Fatalf("synced are %d and %d, want %d", end, acked, j.sent)
	}
	if u := j.log.Usage(); u.Bytes != 0 {
		j.Fatalf("with everything done the store takes %+v", u)
	}
	if left := j.log.Close(j.Context(), j.acked); left != (spill.Left{}) {
		j.Fatalf("Close: %+v", left)
	}
}

func TestLogMatchesTheModelOfAJournal(t *testing.T) {
	runs := 60
	if testing.Short() {
		runs = 20
	}
	if soak() {
		runs = 5000
	}
	for seed := range runs {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &journalist{TB: t, m: storetest.NewMemory(), wake: make(chan struct{}, 1),
					rand: rand.New(rand.NewPCG(uint64(seed), 0))}
				j.cfg = spill.Config{Label: "journal", Keep: true, Journal: seed%4 != 0, Wake: j.wake,
					Logger: slog.New(slog.DiscardHandler)}
				j.open()
				for range 120 {
					j.step()
				}
				j.finish()
				time.Sleep(10 * time.Second)
			})
		})
	}
}
