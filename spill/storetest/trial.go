package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"example.com/hopper/spill"
)

// label names the kind of the items that the suite stores.
const label = "storetest"

// A trial is one test on a medium of its own.
type trial struct {
	t     tb
	ctx   context.Context
	m     Medium
	sizes map[uint64]int // of the items that are not of the usual size
	using *session       // that is open, or nil
	log   *user          // that is open, or nil
}

// A session is an open store.
type session struct {
	tr    *trial
	store spill.Store
	found spill.Range // at Open
}

// A span is the numbers from first up to, not including, end.
type span struct{ first, end uint64 }

// cleanUp closes what a test that failed has left open.
func (tr *trial) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	if s := tr.using; s != nil {
		_ = s.store.Close(ctx, true, 0, 0)
	}
	if u := tr.log; u != nil {
		u.log.Close(ctx, u.got)
	}
}

// needs skips the test if the implementation lacks an ability.
func (tr *trial) needs(has bool, field string) {
	tr.t.Helper()
	if !has {
		tr.t.Skipf("needs Medium.%s", field)
	}
}

// open opens a store that keeps its items.
func (tr *trial) open() *session {
	tr.t.Helper()
	return tr.use(tr.m.Store(), true)
}

// openEmpty opens a store that is to hold nothing.
func (tr *trial) openEmpty() *session {
	tr.t.Helper()
	s := tr.open()
	s.isEmpty()
	return s
}

func (s *session) isEmpty() {
	s.tr.t.Helper()
	if s.found.Items != 0 {
		s.tr.t.Fatalf("Open: found %+v, want no items", s.found)
	}
	if u := s.store.Usage(); u.Bytes != 0 || u.Segments != 0 {
		s.tr.t.Errorf("Usage of a store without items: %+v, want no bytes and no segments", u)
	}
}

func (tr *trial) use(store spill.Store, keep bool) *session {
	tr.t.Helper()
	r, err := store.Open(tr.ctx, label, keep)
	if err != nil {
		tr.t.Fatalf("Open: %v", err)
	}

	tr.using = &session{tr, store, r}
	tr.checkRange(r)
	return tr.using
}

// checkRange checks what holds for everything that Open finds.
func (tr *trial) checkRange(r spill.Range) {
	tr.t.Helper()
	switch {
	case r.Next > r.End, r.Items > r.End-r.Next, (r.Items == 0) != (r.Next == r.End):
		tr.t.Fatalf("Open: found %+v, whose Next, End and Items contradict each other", r)
	case !r.Crashed && r.Repeated != 0, r.Repeated > r.Items:
		tr.t.Fatalf("Open: found %+v, whose Repeated can't be", r)
	}
}

// refused checks that a store can't be opened.
func (tr *trial) refused(store spill.Store, label string, keep bool, want error) {
	tr.t.Helper()
	if _, err := store.Open(tr.ctx, label, keep); !errors.Is(err, want) {
		tr.t.Fatalf("Open(%q, keep %t): error %v, want %v", label, keep, err, want)
	}
}

// close closes the store in the ordinary way.
func (s *session) close(next, end uint64) {
	s.tr.t.Helper()
	s.tr.using = nil
	if err := s.store.Close(s.tr.ctx, true, next, end); err != nil {
		s.tr.t.Fatalf("Close(keep, %d, %d): %v", next, end, err)
	}
}

// delete closes the store and deletes everything.
func (s *session) delete() {
	s.tr.t.Helper()
	s.tr.using = nil
	if err := s.store.Close(s.tr.ctx, false, 0, 0); err != nil {
		s.tr.t.Fatalf("Close without keep: %v", err)
	}
}

// crash ends the store's process.
func (s *session) crash() {
	s.tr.using = nil
	s.tr.m.Crash(s.store)
}

// usualSizes are those of the items that are not mentioned in trial.sizes.
var usualSizes = [...]int{40, 0, 300, 1, 127, 128, 90, 1000, 7}

// item returns the item with a number, which looks like no other.
func (tr *trial) item(seq uint64) []byte {
	size, ok := tr.sizes[seq]
	if !ok {
		size = usualSizes[seq%uint64(len(usualSizes))]
	}

	random := rand.NewPCG(seq, 1)
	item := make([]byte, 0, size+8)
	for len(item) < size {
		item = binary.LittleEndian.AppendUint64(item, random.Uint64())
	}
	return item[:size]
}

// batch returns a batch of the items from first up to end.
func (tr *trial) batch(first, end uint64) *spill.Batch {
	items := make([][]byte, 0, end-first)
	for seq := first; seq < end; seq++ {
		items = append(items, tr.item(seq))
	}
	return spill.NewBatch(label, first, items...)
}

// batches returns batches of so many items each.
func (tr *trial) batches(first, end uint64, each int) (all []*spill.Batch) {
	for ; first < end; first += uint64(each) {
		all = append(all, tr.batch(first, min(first+uint64(each), end)))
	}
	return all
}

// appendAll appends batches of so many items each, one at a time.
func (s *session) appendAll(first, end uint64, each int) {
	s.tr.t.Helper()
	for _, b := range s.tr.batches(first, end, each) {
		s.append(b)
	}
}

// append appends batches in one call, if the store can be had to take them.
func (s *session) append(batches ...*spill.Batch) {
	s.tr.t.Helper()
	if err := s.put(batches); err != nil {
		s.tr.t.Fatalf("%v", err)
	}
}

// put appends batches. It can be used from any goroutine.
func (s *session) put(batches []*spill.Batch) error {
	tries := retries{}
	for {
		n, err := s.store.Append(s.tr.ctx, batches)
		if wrong := checkAppend(n, len(batches), err); wrong != nil {
			return wrong
		}
		batches = batches[n:]

		if err == nil {
			return nil
		}
		if !tries.again(s.tr.ctx) {
			return fmt.Errorf("Append: %w", err)
		}
	}
}

// checkAppend checks that what Append has returned fits together.
func checkAppend(stored, batches int, err error) error {
	switch {
	case stored < 0, stored > batches:
		return fmt.Errorf("Append of %d batches: %d are stored", batches, stored)
	case stored < batches && err == nil:
		return fmt.Errorf("Append of %d batches: %d are stored, and no reason is given",
			batches, stored)
	case stored == batches && err != nil:
		return fmt.Errorf("Append of %d batches: all are stored, and yet the error is %w",
			batches, err)
	}
	return nil
}

// trim trims the store.
func (s *session) trim(acked uint64) {
	s.tr.t.Helper()
	if err := s.store.Trim(s.tr.ctx, acked); err != nil {
		s.tr.t.Fatalf("Trim(%d): %v", acked, err)
	}
}

// retries are for what fails with "not now", as a call over a network may.
type retries struct {
	tries int
	delay time.Duration
}

const maxTries = 12

// again makes a pause that grows up to a second, as a log does, or reports that
// there have been enough.
func (r *retries) again(ctx context.Context) bool {
	r.tries++
	r.delay = min(max(2*r.delay, 10*time.Millisecond), time.Second)

	select {
	case <-ctx.Done():
		return false
	case <-time.After(r.delay):
		return r.tries < maxTries
	}
}

// holds checks that the store has the items of the spans, and no others from
// next up to end, and that reading them reports no damage.
func (s *session) holds(next, end uint64, want ...span) {
	s.tr.t.Helper()
	found, lost := s.readBack(next, end)
	if len(lost) > 0 {
		s.tr.t.Fatalf("reading %d to %d: items are reported as lost: %v", next, end, lost)
	}
	s.compare("found", found, want)
}

// lacks checks that the store has all items from next up to end but those that
// it is to report as lost.
func (s *session) lacks(next, end uint64, want ...span) {
	s.tr.t.Helper()
	found, lost := s.readBack(next, end)
	s.compare("reported as lost", lost, want)
	s.compare("found", found, without(span{next, end}, want))
}

func (s *session) compare(what string, got, want []span) {
	s.tr.t.Helper()
	if !slices.Equal(got, want) {
		s.tr.t.Fatalf("%s: items %v, want %v", what, got, want)
	}
}

// without returns the parts of all that no hole covers.
func without(all span, holes []span) (rest []span) {
	for _, h := range holes {
		if h.first > all.first {
			rest = append(rest, span{all.first, h.first})
		}
		all.first = h.end
	}

	if all.first < all.end {
		rest = append(rest, all)
	}
	return rest
}

// add adds numbers to spans that lie below.
func add(spans []span, first, end uint64) []span {
	if n := len(spans); n > 0 && spans[n-1].end == first {
		spans[n-1].end = end
		return spans
	}
	return append(spans, span{first, end})
}

// readBack reads the items from next up to end as [spill.Items] returns them,
// checks each, and returns which were found and which reported as lost.
func (s *session) readBack(next, end uint64) (found, lost []span) {
	s.tr.t.Helper()
	store, from := patient{bound(s.store)}, spill.Range{Next: next, End: end}
	for item, err := range spill.Items(s.tr.ctx, store, label, from) {
		var damage *spill.CorruptError
		switch {
		case errors.As(err, &damage):
			if damage.Items > 0 && (damage.First < next || damage.First+damage.Items > end) {
				s.tr.t.Fatalf("reading %d to %d: %v", next, end, err)
			}
			if damage.Items > 0 {
				next = damage.First + damage.Items
				lost = add(lost, damage.First, next)
			}

		case err != nil:
			s.tr.t.Fatalf("reading %d to %d: %v", next, end, err)

		default:
			if item.Seq < next || !bytes.Equal(item.Bytes, s.tr.item(item.Seq)) {
				s.tr.t.Fatalf("reading %d to %d: item %d is not the one that was appended, "+
					"or comes out of order", next, end, item.Seq)
			}
			next = item.Seq + 1
			found = add(found, item.Seq, next)
		}
	}
	return found, lost
}

// maxReads is more than any test of the suite needs.
const maxReads = 3_000

var errNoProgress = errors.New("Read makes no progress")

// A bounded store ends a reader that gets nowhere.
type bounded struct {
	spill.Store
	reads int
	stuck chan struct{} // closed at the end
}

func bound(s spill.Store) *bounded { return &bounded{Store: s, stuck: make(chan struct{})} }

// Read implements [spill.Store].
func (b *bounded) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	if b.reads++; b.reads == maxReads {
		close(b.stuck)
	}
	if b.reads >= maxReads {
		return spill.Extent{}, errNoProgress
	}
	return b.Store.Read(ctx, seq, from, buf)
}

// A patient store asks again where a Read fails.
type patient struct{ spill.Store }

// Read implements [spill.Store].
func (p patient) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	tries := retries{}
	for {
		ext, err := p.Store.Read(ctx, seq, from, buf)
		if err == nil || errors.Is(err, errNoProgress) || !tries.again(ctx) {
			return ext, err
		}
	}
}

// frees checks that the store takes less space than before.
func (s *session) frees(before spill.Usage, what string) {
	s.tr.t.Helper()
	if u := s.store.Usage(); u.Bytes >= before.Bytes {
		s.tr.t.Fatalf("%s frees nothing: before %+v, now %+v", what, before, u)
	}
}
