package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"example.com/hopper/spill"
)

// A collector takes the place of a testing.T, to see what the suite says of a
// store that is broken.
type collector struct {
	said    []string
	skipped bool
}

func (c *collector) Helper()             {}
func (c *collector) Logf(string, ...any) {}

func (c *collector) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func (c *collector) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	runtime.Goexit()
}

func (c *collector) Skipf(string, ...any) {
	c.skipped = true
	runtime.Goexit()
}

// collect runs one test of the suite.
func collect(m Medium, test func(*trial)) *collector {
	c := &collector{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(c, m, test)
	}()

	<-done
	return c
}

// A faulty store is one in memory, but for the methods that are set.
type faulty struct {
	spill.Store
	open   func(ctx context.Context, label string, keep bool) (spill.Range, error)
	put    func(ctx context.Context, batches []*spill.Batch) (int, error)
	read   func(ctx context.Context, seq uint64, from spill.Position, buf []byte) (spill.Extent, error)
	trim   func(ctx context.Context, acked uint64) error
	sync   func(ctx context.Context, acked uint64) error
	lift   func()
	usage  func() spill.Usage
	finish func(ctx context.Context, keep bool, next, end uint64) error
}

func (f *faulty) Open(ctx context.Context, label string, keep bool) (spill.Range, error) {
	if f.open != nil {
		return f.open(ctx, label, keep)
	}
	return f.Store.Open(ctx, label, keep)
}

func (f *faulty) Append(ctx context.Context, batches []*spill.Batch) (int, error) {
	if f.put != nil {
		return f.put(ctx, batches)
	}
	return f.Store.Append(ctx, batches)
}

func (f *faulty) Read(
	ctx context.Context, seq uint64, from spill.Position, buf []byte,
) (spill.Extent, error) {
	if f.read != nil {
		return f.read(ctx, seq, from, buf)
	}
	return f.Store.Read(ctx, seq, from, buf)
}

func (f *faulty) Trim(ctx context.Context, acked uint64) error {
	if f.trim != nil {
		return f.trim(ctx, acked)
	}
	return f.Store.Trim(ctx, acked)
}

func (f *faulty) Sync(ctx context.Context, acked uint64) error {
	if f.sync != nil {
		return f.sync(ctx, acked)
	}
	return f.Store.Sync(ctx, acked)
}

func (f *faulty) Lift() {
	if f.lift != nil {
		f.lift()
		return
	}
	f.Store.Lift()
}

func (f *faulty) Usage() spill.Usage {
	if f.usage != nil {
		return f.usage()
	}
	return f.Store.Usage()
}

func (f *faulty) Close(ctx context.Context, keep bool, next, end uint64) error {
	if f.finish != nil {
		return f.finish(ctx, keep, next, end)
	}
	return f.Store.Close(ctx, keep, next, end)
}

// breakages are what the suite has to find. Each sets methods of f, a store on
// m.
var breakages = []struct {
	name     string
	breakage func(f *faulty, m *Memory)
	caughtBy []string // among others
}{
	{"chunks come back in another order", reorder, []string{
		"items come back in the order in which they were appended",
	}},
	{"a batch is dropped", dropBatch, []string{
		"items come back in the order in which they were appended",
		"several batches in one Append are stored in their order",
	}},
	{"only the first batch of an Append is stored", dropAllButFirst, []string{
		"several batches in one Append are stored in their order",
	}},
	{"a batch is torn", tear, []string{
		"items come back in the order in which they were appended",
		"one goroutine reads while another appends and trims",
	}},
	{"a large batch lacks its last chunk", dropLastPart, []string{
		"an item over many chunks comes back whole",
	}},
	{"chunks are not copied", alias, []string{
		"an item over many chunks comes back whole",
		"a log on the store delivers every item once and in order",
	}},
	{"Append counts one batch too few", undercount, []string{
		"items come back in the order in which they were appended",
	}},
	{"a batch is refused in its middle", tearAtLimit, []string{
		"an item that does not fit leaves nothing behind",
	}},
	{"skipped numbers are not told", hideFirst, []string{
		"numbers that were skipped are no loss",
	}},
	{"numbers are cut to 32 bits", cutNumbers, []string{
		"numbers may begin anywhere and be large",
	}},
	{"End comes too early", endEarly, []string{
		"an item over many chunks comes back whole",
		"reading may begin at any number",
	}},
	{"a position is ignored, and yet there is no End", ignorePosition, []string{
		"an item over many chunks comes back whole",
	}},
	{"a position is trusted", trustPosition, []string{"a position is only a hint"}},
	{"what was read is overwritten", reuseMemory, []string{
		"what Read has returned stays as it is until the next Read",
	}},
	{"reading what was trimmed fails for ever", loopOnTrimmed, []string{
		"reading what was trimmed comes to an end",
	}},
	{"TrimAt is too high", raiseTrimAt, []string{
		"TrimAt is where Trim begins to give space back",
	}},
	{"TrimAt is too low", lowerTrimAt, []string{
		"TrimAt is where Trim begins to give space back",
	}},
	{"Trim deletes too much", trimTooMuch, []string{
		"Trim gives space back and loses nothing from acked on",
	}},
	{"Trim does nothing", trimNothing, []string{
		"a store whose items are all done takes no space",
	}},
	{"Usage counts what is gone", growUsage, []string{
		"a store whose items are all done takes no space",
	}},
	{"the limit is left at zero", zeroLimit, []string{
		"Usage never blocks and works before Open and after Close",
	}},
	{"Usage waits for the medium", blockUsage, []string{
		"the end of its context ends a call that hangs",
	}},
	{"the limit is not called by its name", renameLimit, []string{
		"at its limit a store refuses whole batches until items are done",
	}},
	{"the limit is all or nothing for an Append", limitAll, []string{
		"an Append that reaches the limit says how far it got",
	}},
	{"Lift does nothing", liftNothing, []string{"Lift lifts the limit"}},
	{"the receipt is forgotten", forgetReceipt, []string{
		"a clean Close leaves exactly what it says",
		"a backlog may be reopened many times",
	}},
	{"the receipt's next is forgotten", forgetNext, []string{
		"a clean Close leaves exactly what it says",
		"a clean Close may leave nothing",
		"a Close with equal numbers leaves what was stored from there on",
	}},
	{"the receipt's end is forgotten", forgetEnd, []string{
		"a lost piece is reported exactly",
	}},
	{"the receipt is believed after a crash", believeReceipt, []string{
		"a crash after a clean Close brings no loss",
	}},
	{"a crash is not told", hideCrash, []string{
		"after a crash everything that was appended is there",
	}},
	{"nothing is told to be repeated", hideRepeated, []string{
		"after a crash everything that was appended is there",
	}},
	{"the last batch is written with the next", writeLate, []string{
		"after a crash everything that was appended is there",
	}},
	{"Sync forgets what is done", syncNothing, []string{
		"what was done at a Sync does not come back after a crash",
		"Sync, Append and Trim may come in any order",
		"a Sync that was refused may come again",
		"what was synced survives a power cut",
	}},
	{"Sync takes too much for done", syncTooMuch, []string{
		"what was done at a Sync does not come back after a crash",
		"what was synced survives a power cut",
	}},
	{"Sync of the same number fails", syncOnce, []string{
		"Sync, Append and Trim may come in any order",
		"Sync of a store without items keeps nothing",
	}},
	{"Sync stores something in an empty store", syncIntoEmpty, []string{
		"Sync when everything is done leaves nothing",
	}},
	{"Sync does not recover", syncSticky, []string{"a Sync that was refused may come again"}},
	{"Sync of a log that is to leave nothing fails", syncOnlyKept, []string{
		"a log that is to leave nothing may sync",
	}},
	{"Close does not make durable", closeWithoutSync, []string{
		"what a clean Close left survives a power cut",
	}},
	{"Close keeps everything", keepAll, []string{"a Close without keep deletes everything"}},
	{"the label is not looked at", ignoreLabel, []string{
		"items of another kind are refused and left untouched",
	}},
	{"the version is not looked at", ignoreVersion, []string{
		"what a newer program wrote is refused and left untouched",
	}},
	{"a batch that comes twice is an error", refuseTwice, []string{
		"a batch that comes twice is delivered once",
	}},
	{"a batch with numbers below the last is taken for one that comes twice", dropOlder, []string{
		"after Lift older items may come last",
	}},
	{"what is refused is stored all the same", storeRefused, []string{
		"what was refused may come again",
	}},
	{"skipped numbers are taken for a loss after a crash", vouchForAll, []string{
		"numbers that were skipped are no loss after a crash",
	}},
	{"what a crash has left is always kept", alwaysKeep, []string{
		"a crash of a log that was not to be kept leaves nothing to the next",
	}},
	{"what was left on purpose is deleted", deleteKept, []string{
		"items that were left on purpose are not deleted",
		"items of a log that crashed are not deleted",
	}},
	{"there is no lock", unlock, []string{"a store in use is locked"}},
	{"the lock is kept when Close fails", keepLock, []string{
		"the end of its context ends a call that hangs",
		"a store lets go though its context has ended",
	}},
	{"contexts are not looked at", ignoreContext, []string{
		"the end of its context ends a call that hangs",
	}},
	{"damage ends a piece", endAtDamage, []string{
		"a damaged chunk costs exactly its items",
		"a damaged chunk of an item over many costs that item",
	}},
	{"a lost piece is passed over", skipLost, []string{"a lost piece is reported exactly"}},
}

func TestBrokenStoresAreFound(t *testing.T) {
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			for _, name := range b.caughtBy {
				i := slices.IndexFunc(cases, func(c testCase) bool { return c.name == name })
				if i < 0 {
					t.Fatalf("there is no test %q", name)
				}

				synctest.Test(t, func(t *testing.T) {
					c := collect(broken(b.breakage), cases[i].test)
					if len(c.said) == 0 {
						t.Errorf("not found by the test %q", name)
					}
					for _, said := range c.said {
						t.Logf("%s: %s", name, said)
					}
				})
			}
		})
	}
}

// broken returns a medium whose stores are broken.
func broken(breakage func(f *faulty, m *Memory)) Medium {
	m := NewMemory()
	wrap := func(s spill.Store) spill.Store {
		f := &faulty{Store: s}
		breakage(f, m)
		return f
	}

	medium := m.Medium()
	medium.Store = func() spill.Store { return wrap(m.Store()) }
	medium.Limited = func(limit int64) spill.Store {
		m.SetLimit(limit)
		return wrap(m.Store())
	}
	return medium
}

func TestSuiteSkipsWhatAStoreCanNotBeMadeToDo(t *testing.T) {
	skipped := 0
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			got := collect(Medium{Store: NewMemory().Store}, c.test)
			if len(got.said) > 0 {
				t.Errorf("%s: %q", c.name, got.said)
			}
			if got.skipped {
				skipped++
			}
		})
	}

	if want := 22; skipped != want {
		t.Errorf("%d tests are skipped, want %d", skipped, want)
	}
}

var errBroken = errors.New("broken")

// readsAs has f change what is read.
func (f *faulty) readsAs(change func(seq uint64, ext *spill.Extent)) {
	f.read = func(
		ctx context.Context, seq uint64, from spill.Position, buf []byte,
	) (spill.Extent, error) {
		ext, err := f.Store.Read(ctx, seq, from, buf)
		change(seq, &ext)
		return ext, err
	}
}

// split returns the chunks of an extent.
func split(b []byte) (chunks [][]byte) {
	for len(b) > 0 {
		n, err := spill.ChunkLen(b)
		if err != nil {
			panic(err)
		}
		chunks, b = append(chunks, b[:n]), b[n:]
	}
	return chunks
}

func reorder(f *faulty, _ *Memory) {
	f.readsAs(func(_ uint64, ext *spill.Extent) {
		chunks := split(ext.Chunks)
		slices.Reverse(chunks)
		ext.Chunks = slices.Concat(chunks...)
	})
}

func dropBatch(f *faulty, _ *Memory) {
	count := 0
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		for i, b := range batches {
			if count++; count == 3 {
				continue
			}
			if _, err := f.Store.Append(ctx, []*spill.Batch{b}); err != nil {
				return i, err
			}
		}
		return len(batches), nil
	}
}

func dropAllButFirst(f *faulty, _ *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		if _, err := f.Store.Append(ctx, batches[:1]); err != nil {
			return 0, err
		}
		return len(batches), nil
	}
}

func tear(f *faulty, _ *Memory) {
	f.readsAs(func(_ uint64, ext *spill.Extent) {
		if n := len(ext.Chunks); n > 0 {
			ext.Chunks = ext.Chunks[:n-1]
		}
	})
}

func dropLastPart(f *faulty, m *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		n, err := f.Store.Append(ctx, batches)

		m.mu.Lock()
		defer m.mu.Unlock()
		if last := m.active; last != nil && len(last.data) > spill.MaxChunk {
			chunks := split(last.data)
			last.data = slices.Concat(chunks[:len(chunks)-1]...)
		}
		return n, err
	}
}

// alias returns what Chunks has yielded, and not a copy that was made in time.
func alias(f *faulty, _ *Memory) {
	var mu sync.Mutex
	yielded := make(map[string][]byte)
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, b := range batches {
			for chunk := range b.Chunks {
				yielded[string(chunk)] = chunk
			}
		}
		return f.Store.Append(ctx, batches)
	}

	f.readsAs(func(_ uint64, ext *spill.Extent) {
		mu.Lock()
		defer mu.Unlock()
		var chunks [][]byte
		for _, chunk := range split(ext.Chunks) {
			chunks = append(chunks, yielded[string(chunk)])
		}
		ext.Chunks = slices.Concat(chunks...)
	})
}

func undercount(f *faulty, _ *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		n, err := f.Store.Append(ctx, batches)
		return n - 1, err
	}
}

func tearAtLimit(f *faulty, m *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		n, err := f.Store.Append(ctx, batches)
		if err == nil {
			return n, nil
		}

		m.mu.Lock()
		defer m.mu.Unlock()
		for chunk := range batches[n].Chunks {
			m.active.data = append(m.active.data, chunk...)
			break
		}
		return n, err
	}
}

func hideFirst(f *faulty, _ *Memory) {
	f.readsAs(func(_ uint64, ext *spill.Extent) { ext.First = 0 })
}

func cutNumbers(f *faulty, _ *Memory) {
	f.readsAs(func(_ uint64, ext *spill.Extent) {
		ext.First, ext.End = ext.First&math.MaxUint32, ext.End&math.MaxUint32
	})
}

func endEarly(f *faulty, _ *Memory) {
	f.readsAs(func(seq uint64, ext *spill.Extent) { ext.End = max(ext.End, seq+1) })
}

func ignorePosition(f *faulty, _ *Memory) {
	f.read = func(
		ctx context.Context, seq uint64, _ spill.Position, buf []byte,
	) (spill.Extent, error) {
		return f.Store.Read(ctx, seq, spill.Position{}, buf)
	}
}

// trustPosition reads on from wherever it is told to.
func trustPosition(f *faulty, m *Memory) {
	f.read = func(
		ctx context.Context, seq uint64, from spill.Position, buf []byte,
	) (spill.Extent, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range m.pieces {
			if p.name == from.Path && p.missing == nil {
				ext := spill.Extent{}
				chunk, _ := slices.BinarySearch(p.chunks, int(from.Offset))
				p.read(&ext, chunk, buf)
				return ext, nil
			}
		}
		if from != (spill.Position{}) {
			return spill.Extent{}, errBroken
		}
		return m.extentLocked(seq, from, buf)
	}
}

func reuseMemory(f *faulty, _ *Memory) {
	var last spill.Extent
	f.readsAs(func(_ uint64, ext *spill.Extent) { last = *ext })
	f.trim = func(ctx context.Context, acked uint64) error {
		clear(last.Chunks)
		return f.Store.Trim(ctx, acked)
	}
}

func loopOnTrimmed(f *faulty, _ *Memory) {
	var trimmed uint64
	f.trim = func(ctx context.Context, acked uint64) error {
		trimmed = acked
		return f.Store.Trim(ctx, acked)
	}
	f.readsAs(func(seq uint64, ext *spill.Extent) {
		if seq < trimmed {
			*ext = spill.Extent{End: seq}
		}
	})
}

func (f *faulty) usesAs(change func(u *spill.Usage)) {
	f.usage = func() spill.Usage {
		u := f.Store.Usage()
		change(&u)
		return u
	}
}

func raiseTrimAt(f *faulty, _ *Memory) {
	f.usesAs(func(u *spill.Usage) {
		if u.TrimAt < 90 {
			u.TrimAt += 10
		}
	})
}

func lowerTrimAt(f *faulty, _ *Memory) {
	f.usesAs(func(u *spill.Usage) {
		if u.TrimAt < spill.MaxSeq {
			u.TrimAt -= 1
		}
	})
}

func trimTooMuch(f *faulty, _ *Memory) {
	f.trim = func(ctx context.Context, acked uint64) error { return f.Store.Trim(ctx, acked+1) }
}

func trimNothing(f *faulty, _ *Memory) {
	f.trim = func(context.Context, uint64) error { return nil }
}

func growUsage(f *faulty, _ *Memory) {
	var most int64
	f.usesAs(func(u *spill.Usage) {
		most = max(most, u.Bytes)
		u.Bytes = most
	})
}

func zeroLimit(f *faulty, _ *Memory) {
	f.usesAs(func(u *spill.Usage) { u.Limit = 0 })
}

func blockUsage(f *faulty, m *Memory) {
	f.usesAs(func(*spill.Usage) {
		m.knobs.mu.Lock()
		gate := m.knobs.hung[Append]
		m.knobs.mu.Unlock()
		if gate != nil {
			<-gate
		}
	})
}

func renameLimit(f *faulty, _ *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		n, err := f.Store.Append(ctx, batches)
		if err != nil {
			err = errBroken
		}
		return n, err
	}
}

func limitAll(f *faulty, _ *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		n, err := f.Store.Append(ctx, batches)
		if n < len(batches) {
			n = 0
		}
		return n, err
	}
}

func liftNothing(f *faulty, _ *Memory) { f.lift = func() {} }

func forgetReceipt(f *faulty, m *Memory) {
	f.finish = func(ctx context.Context, keep bool, next, end uint64) error {
		if !keep {
			return f.Store.Close(ctx, keep, next, end)
		}
		m.Crash()
		return nil
	}
}

func forgetNext(f *faulty, _ *Memory) {
	f.finish = func(ctx context.Context, keep bool, next, end uint64) error {
		return f.Store.Close(ctx, keep, 0, end)
	}
}

// forgetEnd goes by what it finds, and does not notice what is missing.
func forgetEnd(f *faulty, m *Memory) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		m.mu.Lock()
		if m.left != nil {
			m.left, m.last = nil, 0
			m.pieces = slices.DeleteFunc(m.pieces, func(p *piece) bool { return p.missing != nil })
			for _, p := range m.pieces {
				m.last = max(m.last, p.end)
			}
		}
		m.mu.Unlock()
		return f.Store.Open(ctx, label, keep)
	}
}

// believeReceipt takes the last receipt for the state after a crash.
func believeReceipt(f *faulty, m *Memory) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		m.mu.Lock()
		last, crashed := m.left, m.dirty
		m.mu.Unlock()

		r, err := f.Store.Open(ctx, label, keep)
		if err == nil && !crashed && last != nil {
			receipts[m] = *last
		}
		if old, ok := receipts[m]; ok && crashed {
			r.Next, r.End, r.Items, r.Repeated = old.next, old.end, old.end-old.next, 0
		}
		return r, err
	}
}

// receipts are those that believeReceipt believes.
var receipts = make(map[*Memory]receipt)

func (f *faulty) findsAs(change func(r *spill.Range)) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		r, err := f.Store.Open(ctx, label, keep)
		change(&r)
		return r, err
	}
}

func hideCrash(f *faulty, _ *Memory) {
	f.findsAs(func(r *spill.Range) { r.Crashed, r.Repeated = false, 0 })
}

func hideRepeated(f *faulty, _ *Memory) {
	f.findsAs(func(r *spill.Range) { r.Repeated = 0 })
}

// writeLate keeps the last batch of each Append for the next one.
func writeLate(f *faulty, _ *Memory) {
	var late []*spill.Batch
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		all := append(late, batches...)
		late = all[len(all)-1:]
		if _, err := f.Store.Append(ctx, all[:len(all)-1]); err != nil {
			return 0, err
		}
		return len(batches), nil
	}
}

func keepAll(f *faulty, _ *Memory) {
	f.finish = func(ctx context.Context, _ bool, next, end uint64) error {
		return f.Store.Close(ctx, true, next, end)
	}
}

func ignoreLabel(f *faulty, m *Memory) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		m.mu.Lock()
		m.label = label
		m.mu.Unlock()
		return f.Store.Open(ctx, label, keep)
	}
}

func deleteKept(f *faulty, m *Memory) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		m.mu.Lock()
		m.keep = keep
		m.mu.Unlock()
		return f.Store.Open(ctx, label, keep)
	}
}

func unlock(f *faulty, m *Memory) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		m.Crash()
		return f.Store.Open(ctx, label, keep)
	}
}

func keepLock(f *faulty, _ *Memory) {
	f.finish = func(ctx context.Context, keep bool, next, end uint64) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := f.Store.Close(ctx, keep, next, end)
		if err != nil {
			f.Store.(*memoryStore).m.user = f.Store.(*memoryStore)
		}
		return err
	}
}

func ignoreContext(f *faulty, _ *Memory) {
	f.put = func(_ context.Context, batches []*spill.Batch) (int, error) {
		return f.Store.Append(context.Background(), batches)
	}
}

// endAtDamage gives up a piece at the first chunk that is damaged.
func endAtDamage(f *faulty, _ *Memory) {
	f.readsAs(func(seq uint64, ext *spill.Extent) {
		buf := make([]byte, 64<<10)
		good := 0
		for _, chunk := range split(ext.Chunks) {
			if _, err := spill.DecodeChunk(buf, chunk); err != nil {
				ext.Chunks = ext.Chunks[:good]
				ext.End = max(ext.End, seq+15)
				return
			}
			good += len(chunk)
		}
	})
}

func skipLost(f *faulty, _ *Memory) {
	f.readsAs(func(_ uint64, ext *spill.Extent) {
		if errors.Is(ext.Err, errMissing) {
			ext.First, ext.Err = ext.End, nil
		}
	})
}

func ignoreVersion(f *faulty, m *Memory) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		m.mu.Lock()
		m.newer = false
		m.mu.Unlock()
		return f.Store.Open(ctx, label, keep)
	}
}

func refuseTwice(f *faulty, m *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		for i, b := range batches {
			m.mu.Lock()
			twice := m.storedLocked(b)
			m.mu.Unlock()
			if twice {
				return i, errBroken
			}
			if _, err := f.Store.Append(ctx, batches[i:i+1]); err != nil {
				return i, err
			}
		}
		return len(batches), nil
	}
}

func dropOlder(f *faulty, _ *Memory) {
	var last uint64
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		for i, b := range batches {
			if b.First < last {
				continue
			}
			if _, err := f.Store.Append(ctx, batches[i:i+1]); err != nil {
				return i, err
			}
			last = b.End()
		}
		return len(batches), nil
	}
}

func storeRefused(f *faulty, m *Memory) {
	f.put = func(ctx context.Context, batches []*spill.Batch) (int, error) {
		n, err := f.Store.Append(ctx, batches)
		if err != nil {
			m.Fail(Append, 0, nil)
			_, _ = f.Store.Append(ctx, batches)
		}
		return n, err
	}
}

// vouchBetween takes every number that was skipped for one that is missing.
func vouchBetween(m *Memory) {
	at := m.pieces[0].first
	for _, p := range slices.Clone(m.pieces) {
		if p.first > at {
			m.insertLocked(&piece{name: "memory", first: at, end: p.first, missing: errMissing})
		}
		at = max(at, p.end)
	}
}

func vouchForAll(f *faulty, m *Memory) {
	f.open = func(ctx context.Context, label string, keep bool) (spill.Range, error) {
		m.mu.Lock()
		if m.dirty && len(m.pieces) > 0 {
			vouchBetween(m)
		}
		m.mu.Unlock()
		return f.Store.Open(ctx, label, keep)
	}
}

func alwaysKeep(f *faulty, _ *Memory) {
	f.open = func(ctx context.Context, label string, _ bool) (spill.Range, error) {
		return f.Store.Open(ctx, label, true)
	}
}

func syncNothing(f *faulty, _ *Memory) {
	f.sync = func(context.Context, uint64) error { return nil }
}

func syncTooMuch(f *faulty, _ *Memory) {
	f.sync = func(ctx context.Context, acked uint64) error { return f.Store.Sync(ctx, acked+1) }
}

func syncOnce(f *faulty, _ *Memory) {
	last := uint64(1 << 63)
	f.sync = func(ctx context.Context, acked uint64) error {
		if acked == last {
			return errors.New("nothing is new")
		}
		last = acked
		return f.Store.Sync(ctx, acked)
	}
}

func syncIntoEmpty(f *faulty, m *Memory) {
	f.sync = func(ctx context.Context, acked uint64) error {
		m.mu.Lock()
		if len(m.pieces) == 0 {
			m.insertLocked(&piece{name: "cursor", first: acked, end: acked + 1})
		}
		m.mu.Unlock()
		return f.Store.Sync(ctx, acked)
	}
}

func syncSticky(f *faulty, _ *Memory) {
	var failed error
	f.sync = func(ctx context.Context, acked uint64) error {
		if failed == nil {
			failed = f.Store.Sync(ctx, acked)
		}
		return failed
	}
}

func syncOnlyKept(f *faulty, m *Memory) {
	f.sync = func(ctx context.Context, acked uint64) error {
		if !m.keep {
			return errors.New("nothing is kept")
		}
		return f.Store.Sync(ctx, acked)
	}
}

func closeWithoutSync(f *faulty, m *Memory) {
	f.finish = func(ctx context.Context, keep bool, next, end uint64) error {
		err := f.Store.Close(ctx, keep, next, end)
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range m.pieces {
			p.synced = 0
		}
		return err
	}
}
