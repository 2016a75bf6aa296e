package hopper_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper"
	"example.com/hopper/codec"
	"example.com/hopper/spill"
	"example.com/hopper/spill/segment"
	"example.com/hopper/spill/storetest"
)

var _ expvar.Var = (*hopper.Pump)(nil)

// TestMain lets the test binary be a process that a test starts; see child.
func TestMain(m *testing.M) {
	if run := children[os.Getenv(childEnv)]; run != nil {
		if err := run(os.Getenv(childDirEnv)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}

	slog.SetDefault(slog.New(slog.DiscardHandler))
	log.SetOutput(os.Stderr) // which SetDefault has changed too
	os.Exit(m.Run())
}

// Helpers.

// pipe starts a pump between two new channels.
func pipe[T any](
	t testing.TB, capacity int, opts ...hopper.Option,
) (chan<- T, <-chan T, *hopper.Pump) {
	t.Helper()
	in, out := make(chan T, capacity), make(chan T, capacity)
	p, err := hopper.Pipe(out, in, opts...)
	if err != nil {
		t.Fatal(err)
	}
	closeIfFailed(t, p)
	return in, out, p
}

// closeIfFailed ends the goroutines of a test that has failed, for which its
// bubble would panic.
func closeIfFailed(t testing.TB, p *hopper.Pump) {
	t.Cleanup(func() {
		if t.Failed() {
			p.Close()
		}
	})
}

// checkStats fails unless the conservation equation holds in a snapshot.
func checkStats(t testing.TB, p *hopper.Pump) hopper.Stats {
	t.Helper()
	s := p.Stats()
	if s.Received+s.Resumed != s.Delivered+s.InMemory+s.OnDisk+s.Lost {
		t.Fatalf("Received + Resumed != Delivered + InMemory + OnDisk + Lost in %+v", s)
	}
	if s.Blocked != (s.Reason != "") {
		t.Fatalf("Blocked is %v where the reason is %q", s.Blocked, s.Reason)
	}
	return s
}

// fill sends items until in blocks for good, and returns their number. It is to
// be called in a bubble.
func fill[T any](t testing.TB, in chan<- T, item func(i int) T) (n int) {
	t.Helper()
	for {
		select {
		case in <- item(n):
			n++
			continue
		default:
		}

		time.Sleep(time.Millisecond) // longer than the pump waits for out
		synctest.Wait()
		select {
		case in <- item(n):
			n++
		default:
			return n
		}
	}
}

// fillUntilBlocked sends items until the pump receives no more, and leaves in's
// buffer empty. It is to be called in a bubble.
func fillUntilBlocked[T any](
	t testing.TB, in chan<- T, p *hopper.Pump, item func(i int) T,
) (n int) {
	t.Helper()
	for tries := 0; !checkStats(t, p).Blocked; tries++ {
		if tries == 20_000 {
			t.Fatalf("the pump is not blocked: %+v", p.Stats())
		}
		if len(in) == 0 {
			select {
			case in <- item(n):
				n++
			default:
			}
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
	return n
}

// expect receives items and compares each with what it should be.
func expect[T any](t testing.TB, out <-chan T, from, to int, want func(i int) T) {
	t.Helper()
	for i := from; i < to; i++ {
		v, ok := <-out
		if !ok {
			t.Fatalf("out was closed before item %d of %d", i, to)
		}

		w := want(i)
		if a, ok := any(w).([]byte); ok && len(a) > 0 && bytes.Equal(a, any(v).([]byte)) {
			continue // cmp takes its time over each byte
		}
		if d := cmp.Diff(w, v); d != "" {
			t.Fatalf("item %d (-want +got):\n%s", i, d)
		}
	}
}

// take receives n items.
func take[T any](out <-chan T, n int) {
	for range n {
		<-out
	}
}

func expectClosed[T any](t testing.TB, out <-chan T) {
	t.Helper()
	if v, ok := <-out; ok {
		t.Fatalf("got %v where out should be closed", v)
	}
}

// expectEnd receives the items from one on up to another, behind which out is
// closed and Wait returns nil.
func expectEnd[T any](
	t testing.TB, p *hopper.Pump, out <-chan T, from, to int, want func(i int) T,
) {
	t.Helper()
	expect(t, out, from, to, want)
	expectClosed(t, out)
	if err := p.Wait(); err != nil {
		t.Fatalf("Wait: %v", err)
	}
}

// receipts returns how many items an error says to be lost, and kept.
func receipts(err error) (lost, kept uint64) {
	switch e := err.(type) {
	case *hopper.UndeliveredError:
		if e.Kept {
			return 0, e.Items
		}
		return e.Items, 0
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			l, k := receipts(err)
			lost, kept = lost+l, kept+k
		}
	}
	return lost, kept
}

func number(i int) uint64 { return uint64(i) }

// line makes items that compress.
func line(size int) func(i int) []byte {
	return func(i int) []byte {
		b := bytes.Repeat([]byte{'.'}, size)
		copy(b, fmt.Sprintf("line %d of a log", i))
		return b
	}
}

// noise makes items that don't compress.
func noise(size int) func(i int) []byte {
	return func(i int) []byte {
		b := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}).Read(b)
		return b
	}
}

// from shifts a source of items.
func from[T any](first int, item func(i int) T) func(i int) T {
	return func(i int) T { return item(first + i) }
}

func files(t testing.TB, dir string) (names []string) {
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

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func dirSize(t testing.TB, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		if fi, err := d.Info(); err == nil {
			size += fi.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// A journal is what a pump has logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// lines returns those that contain all of the texts.
func (j *journal) lines(texts ...string) (found []string) {
	for l := range strings.Lines(j.String()) {
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(l, s) }) {
			found = append(found, l)
		}
	}
	return found
}

// option makes a pump write to the journal, everything from Debug on.
func (j *journal) option() hopper.Option {
	opts := &slog.HandlerOptions{Level: slog.LevelDebug}
	return hopper.WithLogger(slog.New(slog.NewTextHandler(j, opts)))
}

// command runs a program that the test needs, and skips the test where it can't
// be run.
func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Skipf("skipped: needs root on Linux and %s: %v: %s", name, err, out)
	}
}

// mount mounts a file system for the duration of the test.
func mount(t testing.TB, args ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	command(t, "mount", append(args, dir)...)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	return dir
}

// mountTmpfs mounts a small file system.
func mountTmpfs(t testing.TB, size string) (dir string) {
	t.Helper()
	return mount(t, "-t", "tmpfs", "-o", "size="+size, "tmpfs")
}

// mountFreezable mounts a file system on which freeze makes every write hang
// until thaw.
func mountFreezable(t testing.TB) (dir string, freeze, thaw func()) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	command(t, "truncate", "-s", "64M", image)
	command(t, "mkfs.ext4", "-q", "-F", image)
	dir = mount(t, "-o", "loop", image)

	freeze = func() { command(t, "fsfreeze", "-f", dir) }
	thaw = func() { exec.Command("fsfreeze", "-u", dir).Run() }
	return dir, freeze, thaw
}

// Order, and what happens while nothing goes wrong.

// Promise 1.
func TestItemsLeaveInTheOrderReceivedThroughMemoryDiskAndStore(t *testing.T) {
	for _, where := range []string{"disk", "store"} {
		for _, capacity := range []int{0, 1, 64} {
			for _, memory := range []int64{0, 100, 8 << 10, 1 << 20} {
				name := fmt.Sprintf("%s/cap=%d/memory=%d", where, capacity, memory)
				t.Run(name, func(t *testing.T) {
					place := hopper.SegmentSize(32 << 10)
					if where == "store" {
						place = hopper.WithStore(storetest.NewMemory().Store())
					}
					sendAndReceiveUnevenly(t, capacity, hopper.MaxMemory(memory), place)
				})
			}
		}
	}
}

func sendAndReceiveUnevenly(t *testing.T, capacity int, opts ...hopper.Option) {
	const n = 20_000
	in, out, p := pipe[uint64](t, capacity, opts...)
	go func() {
		defer close(in)
		for i := range n {
			in <- number(i)
		}
	}()

	r := rand.New(rand.NewPCG(1, uint64(capacity)))
	for i := 0; i < n; {
		for range r.IntN(50) {
			runtime.Gosched() // let a backlog build up
		}
		k := min(n, i+r.IntN(3000))
		expect(t, out, i, k, number)
		checkStats(t, p)
		i = k
	}
	expectEnd(t, p, out, n, n, number)
}

// Promise 2.
func TestTheEquationHoldsInEverySnapshot(t *testing.T) {
	const n = 100_000
	in, out, p := pipe[uint64](t, 16, hopper.MaxMemory(4<<10))
	var watchers sync.WaitGroup
	for range 2 {
		watchers.Go(func() { watch(t, p) })
	}

	go func() {
		for i := range n {
			in <- number(i)
		}
		close(in)
	}()
	expect(t, out, 0, n, number)
	expectClosed(t, out)
	watchers.Wait()

	s := checkStats(t, p)
	if s.Delivered != n || s.InMemory+s.OnDisk+s.Lost != 0 || s.HighWater == 0 || s.HighWater > n {
		t.Errorf("at the end: %+v", s)
	}
}

// watch checks snapshots until the pump has ended.
func watch(t *testing.T, p *hopper.Pump) {
	var before hopper.Stats
	for {
		s := p.Stats()
		if s.Received+s.Resumed != s.Delivered+s.InMemory+s.OnDisk+s.Lost {
			t.Errorf("the equation does not hold in %+v", s)
		}
		if s.Received < before.Received || s.Delivered < before.Delivered {
			t.Errorf("counts went back: %+v after %+v", s, before)
		}
		before = s

		select {
		case <-p.Done():
			return
		default:
			runtime.Gosched()
		}
	}
}

// Promise 3.
func TestAConsumerThatKeepsUpCausesNoFile(t *testing.T) {
	for _, memory := range []int64{0, 1 << 20} {
		for _, capacity := range []int{0, 1, 64} {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				in, out, p := pipe[uint64](t, capacity, hopper.Dir(dir), hopper.MaxMemory(memory))
				for i := range 1000 {
					got := make(chan uint64)
					go func() { got <- <-out }()
					synctest.Wait() // the consumer waits at out
					in <- number(i)
					if v := <-got; v != number(i) {
						t.Fatalf("got %d, want %d", v, i)
					}
				}

				for i := range capacity { // as many at once as out takes
					in <- number(i)
				}
				synctest.Wait()
				expect(t, out, 0, capacity, number)

				if names := files(t, dir); len(names) > 0 {
					t.Errorf("files: %q", names)
				}
				if s := checkStats(t, p); s.Spilled != 0 || s.HighWater != 0 {
					t.Errorf("items waited: %+v", s)
				}
				close(in)
				expectEnd(t, p, out, 0, 0, number)
			})
		}
	}
}

// Promise 3.
func TestWithoutABacklogThereIsNoDirectoryAndOneGoroutine(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	before := runtime.NumGoroutine()
	in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(0))
	for i := range 100 {
		go func() { in <- number(i) }()
		expect(t, out, i, i+1, number)
	}

	eventually(t, "the producers have ended",
		func() bool { return runtime.NumGoroutine() <= before+1 })
	if names := files(t, tmp); len(names) > 0 {
		t.Errorf("made: %q", names)
	}
	close(in)
	expectEnd(t, p, out, 0, 0, number)
}

// eventually waits for what other goroutines are about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Promise 7.
func TestClosingInDeliversEverythingThenClosesOut(t *testing.T) {
	for _, n := range []int{0, 1, 10, 50_000} {
		in, out, p := pipe[uint64](t, 1, hopper.MaxMemory(1<<10))
		for i := range n {
			in <- number(i)
		}
		close(in)
		expectEnd(t, p, out, 0, n, number)
		<-p.Done()
	}
}

// Promise 8.
func TestAValueIsTheSameThroughMemoryAndAnEqualCopyThroughTheDisk(t *testing.T) {
	type tree struct {
		Name     string
		Children []*tree
		Empty    []byte
		Nil      []byte
	}
	newTree := func(i int) *tree {
		return &tree{Name: fmt.Sprint(i), Children: []*tree{{Name: "child"}}, Empty: []byte{}}
	}

	for _, memory := range []int64{0, 1 << 20} {
		in, out, p := pipe[*tree](t, 0, hopper.MaxMemory(memory))
		var sent []*tree
		for i := range 100 {
			sent = append(sent, newTree(i))
			in <- sent[i]
		}
		close(in)

		for i, want := range sent {
			got := <-out
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("item %d (-want +got):\n%s", i, d)
			}
			if same := got == want; same != (memory > 0) {
				t.Errorf("MaxMemory(%d): item %d is the very same value: %v", memory, i, same)
			}
		}
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestItemsOfEverySizeComeThrough(t *testing.T) {
	sizes := []int{0, 1, 127, 128, 1000, 65_000, 65_500, 65_508, 65_509, 65_510, 65_511, 65_512,
		65_513, 65_536, 131_024, 131_025, 1 << 20, 3 << 20, 0, 5}
	large := noise(3 << 20)(0)
	item := func(i int) []byte { // begins in another place each time
		size := sizes[i%len(sizes)]
		at := i % (len(large) - size + 1)
		return large[at : at+size : at+size]
	}

	for name, opts := range map[string][]hopper.Option{
		"in memory":             {},
		"on disk":               {hopper.MaxMemory(0)},
		"in memory and on disk": {hopper.MaxMemory(100 << 10)},
		"in segments of one":    {hopper.MaxMemory(0), hopper.SegmentSize(1)},
		"with little disk": {hopper.MaxMemory(0), hopper.SegmentSize(1 << 20),
			hopper.MaxDisk(2 << 20)},
		"with no disk":               {hopper.MaxMemory(0), hopper.MaxDisk(0)},
		"with less disk than needed": {hopper.MaxMemory(0), hopper.MaxDisk(100 << 10)},
		"in a store": {hopper.MaxMemory(0),
			hopper.WithStore(storetest.NewMemory().Store())},
	} {
		t.Run(name, func(t *testing.T) {
			in, out, p := pipe[[]byte](t, 0, opts...)
			n := 2 * len(sizes)
			go func() {
				for i := range n {
					in <- item(i)
				}
				close(in)
			}()
			expectEnd(t, p, out, 0, n, item)
		})
	}
}

func TestItemsOfNoSizeAreCounted(t *testing.T) {
	in, out, p := pipe[struct{}](t, 0, hopper.MaxMemory(10))
	for range 10_000 {
		in <- struct{}{}
	}
	close(in)

	n := 0
	for range out {
		n++
	}
	if s := checkStats(t, p); n != 10_000 || s.Received != 10_000 || s.Spilled == 0 {
		t.Errorf("%d items came out: %+v", n, s)
	}
}

func TestNilAndEmptyAreKeptApart(t *testing.T) {
	in, out, _ := pipe[[]byte](t, 0, hopper.MaxMemory(0))
	items := [][]byte{nil, {}, {0}, nil, {0, 1}, {}}
	for _, b := range items {
		in <- b
	}
	close(in)
	expect(t, out, 0, len(items), func(i int) []byte { return items[i] })
}

// reallocating appends as the contract allows, to a buffer of its own.
type reallocating struct{}

func (reallocating) Append(dst, v []byte) ([]byte, error) { return slices.Concat(dst, v), nil }
func (reallocating) Decode(src []byte) ([]byte, error)    { return bytes.Clone(src), nil }

func TestACodecMayReallocate(t *testing.T) {
	const n = 200
	item := line(40 << 10)
	in, out, p := pipe[[]byte](t, n, hopper.WithCodec(reallocating{}), hopper.MaxMemory(0))
	for i := range 2 * n { // half of them through the log
		in <- item(i)
	}
	close(in)
	expectEnd(t, p, out, 0, 2*n, item)
}

// Stops.

// Promise 2, at every point at which a pump can be stopped.
func TestNothingIsLostWhereverThePumpIsStopped(t *testing.T) {
	const n = 40
	for at := 0; at < n; at += 1 + at/10 {
		for _, resume := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				opts := []hopper.Option{hopper.Dir(t.TempDir()), hopper.MaxMemory(100)}
				if resume {
					opts = append(opts, hopper.Resume())
				}
				in, out, p := pipe[uint64](t, 0, opts...)
				for i := range at {
					in <- number(i)
					if i%3 == 2 {
						expect(t, out, i/3, i/3+1, number)
					}
				}

				err := p.Close()
				rest := uint64(at - at/3)
				s := checkStats(t, p)
				if s.InMemory != 0 || s.OnDisk+s.Lost != rest {
					t.Fatalf("%d items left after Close: %+v", rest, s)
				}
				expectClosed(t, out)
				if !resume {
					if wantErr := rest > 0; wantErr != (err != nil) {
						t.Fatalf("Close with %d items left: %v", rest, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}

				in2, out, p := pipe[uint64](t, 0, opts...)
				if s := checkStats(t, p); s.Resumed != rest {
					t.Fatalf("resumed %d of %d items", s.Resumed, rest)
				}
				go func() { in2 <- number(at); close(in2) }()
				expectEnd(t, p, out, at/3, at+1, number)
			})
		}
	}
}

// A stop is a way to end a pump. It returns the number of items that are
// received from out meanwhile, which a consumer counts.
type stop struct {
	name string
	run  func(p *hopper.Pump, cancel func(), out chan []byte) (delivered *atomic.Int64, err error)
}

var stops = []stop{
	{"Close", func(p *hopper.Pump, _ func(), _ chan []byte) (*atomic.Int64, error) {
		return new(atomic.Int64), p.Close()
	}},
	{"the context", func(p *hopper.Pump, cancel func(), _ chan []byte) (*atomic.Int64, error) {
		cancel()
		return new(atomic.Int64), p.Wait()
	}},
	{"out is closed", func(p *hopper.Pump, _ func(), out chan []byte) (*atomic.Int64, error) {
		synctest.Wait() // it is an error, and need not be a race too
		close(out)
		return new(atomic.Int64), p.Wait()
	}},
	{"Shutdown, no consumer", func(p *hopper.Pump, _ func(), _ chan []byte) (*atomic.Int64, error) {
		return new(atomic.Int64), shutdown(p)
	}},
	{"Shutdown, 7 taken", func(p *hopper.Pump, _ func(), out chan []byte) (*atomic.Int64, error) {
		return receive(out, 7), shutdown(p)
	}},
	{"Shutdown, all taken", func(p *hopper.Pump, _ func(), out chan []byte) (*atomic.Int64, error) {
		return receive(out, 1<<30), shutdown(p)
	}},
}

// shutdown gives the consumer a minute.
func shutdown(p *hopper.Pump) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return p.Shutdown(ctx)
}

// receive starts a consumer of n items at most, and counts them.
func receive[T any](out <-chan T, n int) *atomic.Int64 {
	got := new(atomic.Int64)
	go func() {
		for range n {
			if _, ok := <-out; !ok {
				return
			}
			got.Add(1)
		}
	}()
	return got
}

// Promise 2, A1: at every kind of stop, with in's buffer empty, half full and
// full, with and without Resume, with a pump that receives and one that has
// stopped to.
func TestEveryStopAccountsForEveryItemWhoseSendHadCompleted(t *testing.T) {
	buffers := []struct{ capacity, full int }{{0, 0}, {64, 0}, {64, 32}, {64, 64}}
	for _, how := range stops {
		for _, b := range buffers {
			for _, resume := range []bool{false, true} {
				for _, blocked := range []bool{false, true} {
					name := fmt.Sprintf("%s/%d of %d/resume=%v/blocked=%v",
						how.name, b.full, b.capacity, resume, blocked)
					t.Run(name, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							testStop(t, how, b.capacity, b.full, resume, blocked)
						})
					})
				}
			}
		}
	}
}

func testStop(t *testing.T, how stop, capacity, full int, resume, blocked bool) {
	dir, item := t.TempDir(), line(1000)
	opts := []hopper.Option{hopper.Dir(dir), hopper.MaxMemory(4 << 10)}
	if resume {
		opts = append(opts, hopper.Resume())
	}
	limited := opts
	if blocked {
		limited = append(opts[:len(opts):len(opts)], hopper.MaxDisk(8<<10))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, out := make(chan []byte, capacity), make(chan []byte)
	p, err := hopper.PipeContext(ctx, out, in, limited...)
	if err != nil {
		t.Fatal(err)
	}

	sent := 0
	if blocked {
		sent = fillUntilBlocked(t, in, p, item)
	} else {
		for ; sent < 20; sent++ {
			in <- item(sent)
		}
		synctest.Wait()
	}
	for range full - len(in) {
		in <- item(sent)
		sent++
	}

	delivered, err := how.run(p, cancel, out)
	synctest.Wait() // the consumer has counted the last one
	got := int(delivered.Load())
	rest := uint64(sent - got)
	s := checkStats(t, p)
	if s.Received != uint64(sent) || s.Delivered != uint64(got) || s.InMemory != 0 {
		t.Fatalf("%d items sent, %d received from out: %+v", sent, got, s)
	}
	if (err == nil) != (rest == 0 || resume && how.name == "Close") {
		t.Fatalf("%d items left, and the error is %v", rest, err)
	}

	lost, kept := receipts(p.Wait())
	if !resume {
		if lost != rest || kept != 0 || s.Lost != rest {
			t.Fatalf("%d items left: %d lost, %d kept by the receipt; %+v", rest, lost, kept, s)
		}
		return
	}
	if lost != 0 || kept != rest || s.OnDisk != rest {
		t.Fatalf("%d items left: %d lost, %d kept by the receipt; %+v", rest, lost, kept, s)
	}
	in2, out2, p := pipe[[]byte](t, 0, opts...)
	close(in2)
	expectEnd(t, p, out2, got, sent, item)
}

// Promise 2: the producer need not have stopped.
func TestAStopOfAnUnbufferedPipeAccountsForEverySendThatCompletes(t *testing.T) {
	for _, resume := range []bool{false, true} {
		for range 20 {
			opts := []hopper.Option{hopper.Dir(t.TempDir()), hopper.MaxMemory(1 << 10)}
			if resume {
				opts = append(opts, hopper.Resume())
			}
			in, out, p := pipe[uint64](t, 0, opts...)
			sent := make(chan int)
			go func() {
				for i := 0; ; i++ {
					select {
					case in <- number(i):
					case <-p.Done():
						sent <- i
						return
					}
				}
			}()

			expect(t, out, 0, 10, number)
			p.Close()
			n := <-sent
			s := checkStats(t, p)
			if s.Received != uint64(n) || s.Delivered != 10 || s.OnDisk+s.Lost != uint64(n-10) {
				t.Fatalf("%d items sent: %+v", n, s)
			}
			if resume != (s.Lost == 0) && n > 10 {
				t.Fatalf("Resume is %v: %+v", resume, s)
			}
		}
	}
}

// A1, to the letter.
func TestFortySendsBeforeAShutdownAreDelivered(t *testing.T) {
	in, out := make(chan uint64, 64), make(chan uint64, 64)
	for i := range 40 {
		in <- number(i)
	}
	p, err := hopper.Pipe(out, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	expectEnd(t, p, out, 0, 40, number)
	if s := checkStats(t, p); s.Received != 40 {
		t.Errorf("%+v", s)
	}
}

// Promise 2: what the disk refuses is lost, and told before what is kept.
func TestWhatTheDiskRefusesAtAStopIsLostAndTheRestIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, item := storetest.NewMemory(), line(1000)
		in, out := make(chan []byte, 8), make(chan []byte)
		p, err := hopper.Pipe(out, in, hopper.WithStore(m.Store()), hopper.Resume(),
			hopper.MaxMemory(4<<10))
		if err != nil {
			t.Fatal(err)
		}
		const stored = 600
		for i := range stored {
			in <- item(i)
		}
		time.Sleep(time.Minute) // all but the window is in the store
		m.Fail(storetest.Append, 1<<30, errors.New("no space left on device"))
		for i := range 8 {
			in <- item(stored + i)
		}

		err = p.Close()
		lost, _ := receipts(err)
		s := checkStats(t, p)
		if lost == 0 || lost > 20 || s.Lost != lost || s.OnDisk != stored+8-lost {
			t.Fatalf("%d of %d items lost: %+v", lost, stored+8, s)
		}
		if !strings.Contains(fmt.Sprint(err), "no space left on device") {
			t.Errorf("Close does not say why: %v", err)
		}

		err = p.Wait()
		var first *hopper.UndeliveredError
		if !errors.As(err, &first) || first.Kept || first.Items != lost {
			t.Errorf("Wait: %v, want the receipt of the loss first", err)
		}
		if l, k := receipts(err); l != lost || k != s.OnDisk {
			t.Errorf("Wait tells of %d lost and %d kept: %v", l, k, err)
		}

		m.Fail(storetest.Append, 0, nil)
		again, back, p := pipe[[]byte](t, 0, hopper.WithStore(m.Store()), hopper.Resume())
		close(again)
		n := uint64(0)
		for range back {
			n++
		}
		if n != s.OnDisk {
			t.Errorf("%d items came back, want %d: %v", n, s.OnDisk, p.Wait())
		}
	})
}

// Promise 2: Shutdown takes what stands in in's buffer as room comes.
func TestShutdownKeepsToTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxDisk = 64 << 10
		dir, item := t.TempDir(), noise(1000)
		in, out, p := pipe[[]byte](t, 200, hopper.Dir(dir), hopper.MaxDisk(maxDisk),
			hopper.MaxMemory(4<<10))
		sent := fill(t, in, item)
		shut := make(chan error)
		go func() { shut <- p.Shutdown(t.Context()) }()

		for i := range sent {
			synctest.Wait()
			if s := checkStats(t, p); s.DiskBytes > maxDisk || s.MemoryBytes > 4<<10 {
				t.Fatalf("%+v", s)
			}
			expect(t, out, i, i+1, item)
		}
		expectClosed(t, out)
		if err := <-shut; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownDeliversUntilItsContextEnds(t *testing.T) {
	t.Run("everything", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(100))
			for i := range 100 {
				in <- number(i)
			}
			go take(out, 100)
			if err := p.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if err := p.Wait(); err != nil {
				t.Errorf("Wait: %v", err)
			}

			select {
			case in <- 0:
				t.Error("still receiving")
			default:
			}
		})
	})

	t.Run("a part", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(100))
			for i := range 100 {
				in <- number(i)
			}
			go take(out, 30)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			err := p.Shutdown(ctx)
			if lost, _ := receipts(err); !errors.Is(err, context.DeadlineExceeded) || lost != 70 {
				t.Errorf("Shutdown: %v", err)
			}
			if s := checkStats(t, p); s.Delivered != 30 || s.Lost != 70 {
				t.Errorf("%+v", s)
			}
		})
	})
}

// A13.
func TestShutdownWithoutAContextWaitsForEverything(t *testing.T) {
	in, out, p := pipe[uint64](t, 4)
	for i := range 4 {
		in <- number(i)
	}
	var none context.Context
	if err := p.Shutdown(none); err != nil {
		t.Errorf("Shutdown(nil): %v", err)
	}
	expectEnd(t, p, out, 0, 4, number)
}

func TestTheContextEndsThePump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("deploy")
		ctx, cancel := context.WithCancelCause(t.Context())
		in, out := make(chan int), make(chan int)
		p, err := hopper.PipeContext(ctx, out, in)
		if err != nil {
			t.Fatal(err)
		}
		in <- 1
		synctest.Wait()
		cancel(cause)

		err = p.Wait()
		lost, _ := receipts(err)
		if !errors.Is(err, hopper.ErrStopped) || !errors.Is(err, cause) || lost != 1 {
			t.Errorf("Wait: %v", err)
		}
		expectClosed(t, out)
	})
}

func TestCloseIsIdempotent(t *testing.T) {
	in, _, p := pipe[int](t, 0)
	in <- 1
	first := p.Close()
	if first == nil || p.Close() != first || p.Close() != first {
		t.Errorf("Close: %v, then %v", first, p.Close())
	}
	if err := p.Shutdown(context.Background()); !errors.Is(err, hopper.ErrStopped) {
		t.Errorf("Shutdown after Close: %v", err)
	}
}

func TestClosingOutFromOutsideIsAnErrorAndLosesNothing(t *testing.T) {
	for _, prior := range []int{0, 1, 50} { // items waiting when out is closed
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			in, out := make(chan uint64), make(chan uint64)
			p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(100))
			if err != nil {
				t.Fatal(err)
			}
			for i := range prior {
				in <- number(i)
			}
			synctest.Wait()
			close(out)
			select {
			case in <- number(prior):
				prior++
			case <-p.Done():
			}
			expectOutClosed(t, p, dir, prior)
		})
	}

	t.Run("while items pass through", func(t *testing.T) {
		dir := t.TempDir()
		in, out := make(chan uint64, 10), make(chan uint64)
		for i := range 10 {
			in <- number(i)
		}
		close(out)
		p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume())
		if err != nil {
			t.Fatal(err)
		}
		expectOutClosed(t, p, dir, 10)
	})

	t.Run("while the pump is idle", func(t *testing.T) {
		in, out := make(chan int), make(chan int)
		p, err := hopper.Pipe(out, in)
		if err != nil {
			t.Fatal(err)
		}
		close(out)
		close(in)
		if err := p.Wait(); !errors.Is(err, hopper.ErrOutClosed) {
			t.Errorf("Wait: %v", err)
		}
	})
}

// expectOutClosed waits for the end of a pump whose out was closed, and checks
// that n items come back.
func expectOutClosed(t *testing.T, p *hopper.Pump, dir string, n int) {
	t.Helper()
	err := p.Wait()
	lost, kept := receipts(err)
	if !errors.Is(err, hopper.ErrOutClosed) || lost != 0 || kept != uint64(n) {
		t.Fatalf("Wait: %v, want ErrOutClosed and %d items kept", err, n)
	}
	checkStats(t, p)

	_, again, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	expect(t, again, 0, n, number)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestKeepOpenLetsSeveralPipesSendIntoOneChannel(t *testing.T) {
	out := make(chan int)
	var pumps []*hopper.Pump
	for k := range 3 {
		in := make(chan int)
		p, err := hopper.Pipe(out, in, hopper.KeepOpen(), hopper.MaxMemory(64))
		if err != nil {
			t.Fatal(err)
		}
		pumps = append(pumps, p)
		go func() {
			for i := range 1000 {
				in <- 1000*k + i
			}
			close(in)
		}()
	}
	go func() {
		for _, p := range pumps {
			p.Wait()
		}
		close(out)
	}()

	var got []int
	for v := range out {
		got = append(got, v)
	}
	slices.Sort(got)
	for i := range 3000 {
		if got[i] != i {
			t.Fatalf("item %d is missing", i)
		}
	}
}

// Memory.

// Promise 4.
func TestWaitingItemsTakeAtMostMaxMemory(t *testing.T) {
	const maxMemory = 64 << 10
	for _, size := range []int{0, 1, 100, 5000, maxMemory - 24, maxMemory - 24 + 1, 200 << 10} {
		t.Run(fmt.Sprintf("[]byte of %d", size), func(t *testing.T) {
			n := min(20_000, (8<<20)/(size+24))
			checkWindow(t, maxMemory, n, size+24, line(size))
		})
	}
	for _, size := range []int{0, 1, 100} {
		t.Run(fmt.Sprintf("string of %d", size), func(t *testing.T) {
			text := strings.Repeat("x", size)
			checkWindow(t, maxMemory, 10_000, size+16, func(int) string { return text })
		})
	}
	t.Run("uint64", func(t *testing.T) { checkWindow(t, maxMemory, 20_000, 8, number) })
	t.Run("array", func(t *testing.T) {
		checkWindow(t, maxMemory, 1000, 400, func(i int) [100]int32 { return [100]int32{int32(i)} })
	})
}

// checkWindow sends n items of a size to a consumer that takes none, and checks
// that MaxMemory is full, to the byte, and not more than full.
func checkWindow[T any](t *testing.T, maxMemory int64, n, size int, item func(i int) T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[T](t, 0, hopper.MaxMemory(maxMemory))
		for i := range n {
			in <- item(i)
		}
		synctest.Wait()

		s := checkStats(t, p)
		fits := min(n, max(1, int(maxMemory)/size)) // the head always does
		if int(s.InMemory) != fits || s.MemoryBytes != int64(fits*size) {
			t.Errorf("%d items in %d bytes of memory, want %d items of %d bytes",
				s.InMemory, s.MemoryBytes, fits, size)
		}
		close(in)
		expectEnd(t, p, out, 0, n, item)
	})
}

// raceEnabled reports whether the test was built with the race detector.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// heap returns the bytes that are in use on the heap, and those ever allocated.
func heap() (inUse, allocated int64) {
	runtime.GC()
	runtime.GC() // what a sync.Pool holds needs two
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.TotalAlloc)
}

// Promise 4, B1, B2: the window takes what it counts, also while it grows, and
// is given back.
func TestAFullWindowTakesWhatItCountsAndIsGivenBack(t *testing.T) {
	if raceEnabled() {
		t.Skip("the race detector allocates too")
	}
	t.Run("uint64", func(t *testing.T) { checkWindowHeap(t, uint64(1)) })
	t.Run("empty strings", func(t *testing.T) { checkWindowHeap(t, "") })
	t.Run("nil pointers", func(t *testing.T) { checkWindowHeap(t, (*int)(nil)) })
	t.Run("structs with a pointer", func(t *testing.T) {
		checkWindowHeap(t, struct {
			A, B int64
			P    *int
		}{})
	})
}

func checkWindowHeap[T any](t *testing.T, v T) {
	const maxMemory, overhead = 8 << 20, 384 << 10
	before, allocated := heap()
	in, out, p := pipe[T](t, 0, hopper.MaxMemory(maxMemory))
	n := 0
	for ; n%1000 > 0 || checkStats(t, p).MemoryBytes < maxMemory-64<<10; n++ {
		in <- v
	}

	full, allocatedFull := heap()
	if s := checkStats(t, p); s.Spilled > 0 || s.MemoryBytes > maxMemory {
		t.Fatalf("%+v", s)
	}
	if got := full - before; got > maxMemory+overhead {
		t.Errorf("%d items take %d bytes of heap, of %d allowed", n, got, maxMemory)
	}
	if got := allocatedFull - allocated; got > maxMemory+overhead {
		t.Errorf("%d bytes were allocated while the window grew to %d", got, maxMemory)
	}

	take(out, n)
	if empty, _ := heap(); empty-before > 128<<10 {
		t.Errorf("%d bytes are not given back", empty-before)
	}
	close(in)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// Promise 4: whatever the backlog.
func TestTheHeapStaysFlatWhileTheBacklogGrows(t *testing.T) {
	const n = 200_000
	before, _ := heap()
	in, out, p := pipe[[]byte](t, 0)
	item := line(256)
	for i := range n {
		in <- item(i)
	}

	after, _ := heap()
	if grown := after - before; grown > 5<<20 {
		t.Errorf("the heap grew by %d bytes with %+v", grown, p.Stats())
	}
	close(in)
	expectEnd(t, p, out, 0, n, item)
}

// The senders should not do this, but the count of bytes must survive it.
func TestAnItemThatIsChangedWhileItWaitsDoesNotUpsetTheCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[*[]string](t, 0)
		for range 10 {
			v := &[]string{"a", "b"}
			in <- v
			synctest.Wait()
			*v = append(*v, strings.Repeat("long", 1000))
			<-out
			synctest.Wait()
			if s := checkStats(t, p); s.MemoryBytes != 0 {
				t.Fatalf("%+v", s)
			}
		}
		p.Close()
	})
}

// Limits, and disks that are full, slow or gone.

// Promise 5.
func TestAtMaxDiskThePumpStopsReceivingAndGoesOnDelivering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxDisk = 256 << 10
		dir, item := t.TempDir(), noise(1000)
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxDisk(maxDisk),
			hopper.MaxMemory(4<<10))
		sent, got := 0, 0
		for range 5 {
			sent += fill(t, in, from(sent, item))
			s := checkStats(t, p)
			if !s.Blocked || s.DiskBytes > maxDisk || s.DiskBytes < maxDisk/2 {
				t.Fatalf("in blocks at %+v", s)
			}
			if size := dirSize(t, dir); size > maxDisk {
				t.Fatalf("%d bytes of files", size)
			}
			expect(t, out, got, got+150, item)
			got += 150
		}
		close(in)
		expectEnd(t, p, out, got, sent, item)
	})
}

// Promise 5: why is told by Reason and by one line of the log, whatever the
// reason, and receiving goes on by itself.
func TestALimitIsToldOnceAndEndsByItself(t *testing.T) {
	item := noise(1000)
	tests := []struct {
		name   string
		reason string
		opts   []hopper.Option
		start  func(m *storetest.Memory)
		stop   func(m *storetest.Memory) // nil: items are delivered
	}{
		{
			name: "MaxDisk", reason: "MaxDisk is reached",
			opts: []hopper.Option{hopper.MaxDisk(64 << 10)},
		},
		{
			name: "KeepFree", reason: "KeepFree is reached",
			opts: []hopper.Option{hopper.KeepFree(1 << 60)},
		},
		{
			name: "a store's limit", reason: "the store's limit is reached",
			start: func(m *storetest.Memory) { m.SetLimit(64 << 10) },
			stop:  func(m *storetest.Memory) { m.SetLimit(-1) },
		},
		{
			name: "write errors", reason: "input/output error",
			start: func(m *storetest.Memory) {
				m.Fail(storetest.Append, 1<<30, errors.New("input/output error"))
			},
			stop: func(m *storetest.Memory) { m.Fail(storetest.Append, 0, nil) },
		},
		{
			name: "a disk that hangs", reason: "does not answer",
			start: func(m *storetest.Memory) { m.SetLatency(time.Minute) },
			stop:  func(m *storetest.Memory) { m.SetLatency(0) },
		},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log journal
				m := storetest.NewMemory()
				opts := append(c.opts, log.option(), hopper.MaxMemory(4<<10))
				if c.start != nil {
					opts = append(opts, hopper.WithStore(m.Store()))
					c.start(m)
				}
				in, out, p := pipe[[]byte](t, 0, opts...)
				sent := fill(t, in, item)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if s := checkStats(t, p); !s.Blocked || !strings.Contains(s.Reason, c.reason) {
					t.Fatalf("want the reason %q: %+v", c.reason, s)
				}

				time.Sleep(3 * time.Minute)
				if told := log.lines("not receiving", c.reason); len(told) != 1 {
					t.Errorf("%d lines tell of it:\n%s", len(told), &log)
				}

				got := 0
				if c.stop != nil {
					c.stop(m)
				} else {
					got = sent / 2
					expect(t, out, 0, got, item)
				}
				time.Sleep(2 * time.Minute) // longer than the disk hangs
				more := 0
				for ; more < 1000 && offer(in, p, item(sent+more)); more++ {
				}
				if more == 0 || c.stop != nil && more < 1000 {
					t.Errorf("%d more are received: %+v", more, p.Stats())
				}
				if c.stop != nil {
					if s := checkStats(t, p); s.Blocked || len(log.lines("receiving again")) != 1 {
						t.Errorf("%+v\n%s", s, &log)
					}
				}
				close(in)
				expectEnd(t, p, out, got, sent+more, item)
			})
		})
	}
}

// Promise 5, where the file system itself is full.
func TestOnAFullFileSystemEveryItemAcceptedComesOut(t *testing.T) {
	dir := mountTmpfs(t, "1m")
	synctest.Test(t, func(t *testing.T) {
		var log journal
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(filepath.Join(dir, "q")), hopper.KeepFree(0),
			hopper.MaxMemory(4<<10), log.option())
		item := noise(1000)
		ballast := filepath.Join(dir, "ballast")
		write(t, ballast, make([]byte, 512<<10))

		sent := fill(t, in, item)
		if s := checkStats(t, p); !s.Blocked ||
			!strings.Contains(s.Reason, "no space left on device") {
			t.Fatalf("in blocks at %+v", s)
		}
		if told := log.lines("level=WARN", "no space left on device"); len(told) != 1 {
			t.Fatalf("%d warnings of ENOSPC:\n%s", len(told), &log)
		}

		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // it goes on by itself
		more := fill(t, in, from(sent, item))
		if more < 100 {
			t.Errorf("only %d items went in after room came back", more)
		}
		close(in)
		expectEnd(t, p, out, 0, sent+more, item)
	})
	if names := files(t, filepath.Join(dir, "q")); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

// Promise 5: KeepFree leaves to others what it says.
func TestKeepFreeIsLeftToOthers(t *testing.T) {
	dir := mountTmpfs(t, "2m")
	for name, opts := range map[string][]hopper.Option{
		"as set":     {hopper.KeepFree(1 << 20)},
		"by default": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keep := int64(1 << 20)
				if len(opts) == 0 {
					keep = 2 << 20 / 20
				}
				item := noise(1000)
				in, out, p := pipe[[]byte](t, 0,
					append(opts, hopper.Dir(filepath.Join(dir, "q")))...)
				sent := fill(t, in, item)
				free, _, err := segment.Free(dir)
				if err != nil || free < keep || free > keep+300<<10 {
					t.Errorf("%d bytes are free, want at least %d, and not much more: %v", free,
						keep, err)
				}
				if s := checkStats(t, p); !strings.Contains(s.Reason, "KeepFree") {
					t.Errorf("%+v", s)
				}
				close(in)
				expectEnd(t, p, out, 0, sent, item)
			})
		})
	}
}

// A8: where statfs says nothing, the writes decide.
func TestAFileSystemWithoutASizeIsWrittenTo(t *testing.T) {
	dir := mount(t, "-t", "ramfs", "ramfs")
	if err := spillAndDrain(filepath.Join(dir, "q")); err != nil {
		t.Error(err)
	}
}

// A8.
func TestAFileSystemWithoutStatfsIsWrittenTo(t *testing.T) {
	t.Parallel()
	command(t, "strace", "-o", "/dev/null", "true")
	cmd := childCommand(t, "spill and drain", t.TempDir(), "strace", "-f", "-qq", "-o", "/dev/null",
		"-e", "trace=statfs", "-e", "inject=statfs:error=ENOSYS")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// A10: the child may write no file larger than 256 KiB.
func TestUnderALimitOfFileSizesSegmentsAreSmaller(t *testing.T) {
	t.Parallel()
	command(t, "sh", "-c", "ulimit -f 512")
	out, err := childCommand(t, "spill and drain", t.TempDir(),
		"sh", "-c", `ulimit -f 512; exec "$@"`, "sh").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func init() { children["spill and drain"] = spillAndDrain }

// spillAndDrain moves 3 MiB through the disk, with all defaults, where no limit
// is to be reached.
func spillAndDrain(dir string) error {
	in, out := make(chan []byte), make(chan []byte)
	p, err := hopper.Pipe(out, in, hopper.Dir(dir))
	if err != nil {
		return err
	}
	const n = 3000
	item, deadline := noise(1000), time.After(20*time.Second)
	for i := range n {
		select {
		case in <- item(i):
		case <-deadline:
			return fmt.Errorf("not all are received: %+v", p.Stats())
		}
	}
	close(in)

	if s := p.Stats(); s.BlockedFor > 0 || s.DiskBytes < 1<<20 {
		return fmt.Errorf("%+v", s)
	}
	for i := range n {
		if !bytes.Equal(<-out, item(i)) {
			return fmt.Errorf("item %d differs", i)
		}
	}
	return p.Wait()
}

// A9.
func TestASmallFileSystemIsGivenBackLongBeforeTheLastItem(t *testing.T) {
	dir := mountTmpfs(t, "3m")
	synctest.Test(t, func(t *testing.T) {
		item := noise(1000)
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(filepath.Join(dir, "q")), hopper.KeepFree(0))
		sent := fill(t, in, item)
		if sent < 3000 {
			t.Fatalf("only %d items went in", sent)
		}

		expect(t, out, 0, sent*2/3, item)
		time.Sleep(time.Minute)
		more := fill(t, in, from(sent, item))
		if more < sent/3 {
			t.Errorf("%d items went in, %d came out, and only %d more went in", sent, sent*2/3,
				more)
		}
		close(in)
		expectEnd(t, p, out, sent*2/3, sent+more, item)
	})
}

// Promise 5, A14.
func TestADiskThatIsSlowerThanTheProducerIsNotBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		m, item := storetest.NewMemory(), line(1000)
		m.SetLatency(500 * time.Millisecond)
		in, out, p := pipe[[]byte](t, 0, hopper.WithStore(m.Store()), hopper.MaxMemory(4<<10),
			log.option())
		const n = 10_000
		start, waited := time.Now(), 0
		for i := range n {
			select {
			case in <- item(i):
			default:
				waited++
				synctest.Wait()
				if s := checkStats(t, p); s.Blocked || s.BlockedFor > 0 {
					t.Fatalf("%+v", s)
				}
				in <- item(i)
			}
		}

		if waited < 20 || time.Since(start) < 5*time.Second {
			t.Fatalf("the disk was not slower: the producer waited %d times", waited)
		}
		if told := log.lines("not receiving"); len(told) > 0 {
			t.Errorf("%s", told)
		}
		close(in)
		expectEnd(t, p, out, 0, n, item)
	})
}

// A15.
func TestBurstsAreShedOnlyAtALimit(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []hopper.Option
		shed bool
	}{
		{"without a limit", nil, false},
		{"at MaxDisk", []hopper.Option{hopper.MaxDisk(64 << 10)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				item := noise(1000)
				in, _, p := pipe[[]byte](t, 64, append(c.opts, hopper.MaxMemory(4<<10))...)
				defer p.Close()
				shed := 0
				for range 20 {
					for i := range 200 {
						if !offer(in, p, item(i)) {
							shed++
						}
					}
					time.Sleep(10 * time.Millisecond)
				}
				if (shed > 0) != c.shed {
					t.Errorf("%d items were shed: %+v", shed, p.Stats())
				}
			})
		})
	}
}

// offer sends v, unless the pump is at a limit.
func offer[T any](in chan<- T, p *hopper.Pump, v T) bool {
	for {
		select {
		case in <- v:
			return true
		case <-time.After(time.Millisecond):
			if p.Stats().Blocked {
				return false
			}
		}
	}
}

// A16.
func TestASegmentThatIsCutOffCostsOnlyWhatWasInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, item := t.TempDir(), noise(1000)
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxMemory(0))
		const before, n = 1000, 6000
		for i := range before {
			in <- item(i)
		}
		time.Sleep(time.Minute) // all are in the segment
		path := filepath.Join(dir, files(t, dir)[0])
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		for i := before; i < n; i++ {
			in <- item(i)
		}
		close(in)

		got := map[int]bool{}
		for i := 0; ; i++ {
			v, ok := <-out
			if !ok {
				break
			}
			for i < n && !bytes.Equal(v, item(i)) {
				i++
			}
			got[i] = true
		}
		err := p.Wait()
		var damage *spill.CorruptError
		if !errors.As(err, &damage) || damage.Path != path || damage.First+damage.Items > before {
			t.Fatalf("Wait: %v, want items of %s to be lost", err, path)
		}
		for i := range uint64(n) {
			if lost := i >= damage.First && i < damage.First+damage.Items; got[int(i)] == lost {
				t.Fatalf("item %d came out: %v; %v", i, got[int(i)], err)
			}
		}
		if s := checkStats(t, p); s.Lost != damage.Items {
			t.Errorf("%+v", s)
		}
	})
}

func TestADirectoryThatIsRemovedCostsOnlyWhatWasInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, item := filepath.Join(t.TempDir(), "q"), noise(1000)
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxMemory(0),
			hopper.SegmentSize(100<<10))
		sent := 1000
		for i := range sent {
			in <- item(i)
		}
		synctest.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}

		sent += fill(t, in, from(sent, item))
		if s := checkStats(t, p); !s.Blocked ||
			!strings.Contains(s.Reason, "no such file or directory") {
			t.Errorf("%+v", s)
		}
		go p.Shutdown(context.Background())
		got := uint64(0)
		for range out {
			got++
		}
		if s := checkStats(t, p); got != s.Delivered || got+s.Lost != uint64(sent) ||
			s.Lost > 1000 {
			t.Errorf("%d of %d items came out: %+v", got, sent, s)
		}
		if err := p.Wait(); !errors.Is(err, spill.ErrCorrupt) {
			t.Errorf("Wait: %v", err)
		}
	})
}

// Promise 6.
func TestAHungStoreDelaysNeitherDeliveryNorStatsNorClose(t *testing.T) {
	for _, resume := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m, item := storetest.NewMemory(), line(1000)
			opts := []hopper.Option{hopper.WithStore(m.Store()), hopper.MaxMemory(64 << 10)}
			grace := time.Second
			if resume {
				opts, grace = append(opts, hopper.Resume()), 10*time.Second
			}
			in, out, p := pipe[[]byte](t, 0, opts...)
			thaw := m.Hang()
			sent := fill(t, in, item)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s := checkStats(t, p); !s.Blocked || !strings.Contains(s.Reason, "does not answer") {
				t.Fatalf("%+v", s)
			}

			start := time.Now()
			expect(t, out, 0, sent-50, item)
			synctest.Wait()
			if s := checkStats(t, p); s.Delivered != uint64(sent-50) {
				t.Errorf("%+v", s)
			}
			if d := time.Since(start); d > 0 {
				t.Errorf("the delivery took %v", d)
			}

			lost, _ := receipts(p.Close())
			if d := time.Since(start); d > grace {
				t.Errorf("Close took %v", d)
			}
			if s := checkStats(t, p); lost != 50 || s.Lost != 50 {
				t.Errorf("%d lost: %+v", lost, s)
			}
			thaw()
			time.Sleep(time.Minute) // all goroutines end now
		})
	}
}

// Promise 6, with a file system that is frozen: whatever writes to it hangs.
func TestAHungDiskDelaysNeitherDeliveryNorStatsNorClose(t *testing.T) {
	t.Parallel()
	dir, freeze, thaw := mountFreezable(t)
	in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxMemory(64<<10), hopper.KeepFree(0))
	item := line(1000)
	freeze()
	defer thaw()

	sent := 0
	for timeout := time.After(time.Minute); !checkStats(t, p).Blocked; {
		select {
		case in <- item(sent):
			sent++
		case <-timeout:
			t.Fatal("the pump goes on receiving")
		default:
			runtime.Gosched()
		}
	}
	expect(t, out, 0, sent/2, item)
	eventually(t, "Stats tells of the deliveries",
		func() bool { return checkStats(t, p).Delivered == uint64(sent/2) })

	if lost, _ := receipts(p.Close()); lost != uint64(sent-sent/2) {
		t.Errorf("%d of %d items are lost", lost, sent-sent/2)
	}
}

// Items that can't be encoded.

// moody is a codec that can't encode some items.
type moody struct{ fault func(i uint64) error }

func (c moody) Append(dst []byte, i uint64) ([]byte, error) {
	if err := c.fault(i); err != nil {
		return nil, err
	}
	return append(dst, byte(i), byte(i>>8)), nil
}

func (moody) Decode(src []byte) (uint64, error) {
	return uint64(src[0]) + uint64(src[1])<<8, nil
}

// Promise 9.
func TestAnItemThatCantBeEncodedIsKeptInItsPlace(t *testing.T) {
	faults := map[string]func(i uint64) error{
		"error": func(i uint64) error {
			if i%10 == 7 {
				return errors.New("no sevens")
			}
			return nil
		},
		"panic": func(i uint64) error {
			if i%10 == 7 {
				panic("no sevens")
			}
			return nil
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(16),
					hopper.WithCodec(moody{fault}))
				sent := fill(t, in, number)
				if sent != 8 {
					t.Fatalf("%d items went in, want 8: up to the one that can't be encoded", sent)
				}
				s := checkStats(t, p)
				if !s.Blocked || s.Received != 8 || !strings.Contains(s.Reason, "no sevens") {
					t.Errorf("%+v", s)
				}

				go func() {
					for i := sent; i < 1000; i++ {
						in <- number(i)
					}
					close(in)
				}()
				expectEnd(t, p, out, 0, 1000, number)
			})
		})
	}
}

// unknown is a type that nobody registers.
type unknown struct{ Text string }

// Promise 9, A4.
func TestWhatCantBeEncodedIsParkedUpToMaxMemoryAndComesOutIdentical(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxMemory = 16 << 10
		var log journal
		in, out, p := pipe[any](t, 0, hopper.MaxMemory(maxMemory), log.option())
		var items []any
		item := func(i int) any {
			for i >= len(items) {
				var v any = &unknown{fmt.Sprint("item ", len(items))}
				if len(items)%3 == 0 {
					v = len(items)
				}
				items = append(items, v)
			}
			return items[i]
		}

		sent, got := 0, 0
		for range 5 {
			sent += fill(t, in, from(sent, item))
			s := checkStats(t, p)
			if !s.Blocked || !strings.Contains(s.Reason, "hopper_test.unknown") ||
				!strings.Contains(s.Reason, "MaxMemory") {
				t.Fatalf("%+v", s)
			}
			if s.MemoryBytes < maxMemory || s.MemoryBytes > maxMemory+256 || s.InMemory < 100 {
				t.Fatalf("want MaxMemory to be full: %+v", s)
			}

			for range (sent - got) / 2 {
				if v := <-out; v != items[got] { // the very same pointer
					t.Fatalf("item %d is %v, want %v", got, v, items[got])
				}
				got++
			}
		}
		close(in)
		for v := range out {
			if v != items[got] {
				t.Fatalf("item %d is %v, want %v", got, v, items[got])
			}
			got++
		}
		if err := p.Wait(); err != nil || got != sent {
			t.Errorf("%d of %d items came out: %v", got, sent, err)
		}
		if told := log.lines("hopper_test.unknown"); len(told) != 2 {
			t.Errorf("%d lines, want one for the kind and one for the stall: %.2000s", len(told),
				&log)
		}
	})
}

// Promise 9: a T that can never be encoded.
func TestLivePartsOfTheProgramTravel(t *testing.T) {
	type request struct {
		ctx   context.Context
		mu    *sync.Mutex
		reply chan int
		done  func() int
	}
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[request](t, 0, hopper.MaxMemory(4<<10))
		var sent []request
		for i := range 20 {
			r := request{t.Context(), new(sync.Mutex), make(chan int, 1), func() int { return i }}
			sent = append(sent, r)
			in <- r
		}
		close(in)

		for i, want := range sent {
			got := <-out
			if got.ctx != want.ctx || got.mu != want.mu || got.reply != want.reply ||
				got.done() != i {
				t.Errorf("item %d: %+v, want %+v", i, got, want)
			}
		}
		expectEnd(t, p, out, 0, 0, func(int) request { return request{} })
	})
}

// A4, to the letter.
func TestEachKindOfItemThatCantBeEncodedIsLoggedOnce(t *testing.T) {
	type other struct{ unknown }
	synctest.Test(t, func(t *testing.T) {
		var log journal
		in, out, p := pipe[any](t, 0, hopper.Dir(t.TempDir()), hopper.Resume(), hopper.MaxMemory(0),
			log.option())
		for range 10 {
			for _, v := range []any{unknown{}, other{}} {
				in <- v
				synctest.Wait()
				s := checkStats(t, p)
				if !s.Blocked || !strings.Contains(s.Reason, fmt.Sprintf("codec.Register[%T]", v)) {
					t.Fatalf("%+v", s)
				}
				if got := <-out; got != v {
					t.Fatalf("got %v, want %v", got, v)
				}
			}
		}

		for _, kind := range []string{"Register[hopper_test.unknown]",
			"Register[hopper_test.other]"} {
			if told := log.lines("level=ERROR", "stays in memory", kind); len(told) != 1 {
				t.Errorf("%d errors with %s: %.2000s", len(told), kind, &log)
			}
			if told := log.lines("not receiving", kind); len(told) != 1 {
				t.Errorf("%d lines tell of the stall, with %s: %.2000s", len(told), kind, &log)
			}
		}
		close(in)
		expectClosed(t, out)
	})
}

// Promise 9, A4: a stop with Resume says what it has lost, and why.
func TestAStopLosesWhatIsParkedAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		in, _, p := pipe[any](t, 0, hopper.Dir(dir), hopper.Resume())
		for i := range 300 {
			var v any = i
			if i%100 == 50 {
				v = unknown{}
			}
			in <- v
		}

		err := p.Close()
		if lost, _ := receipts(err); lost != 3 ||
			!strings.Contains(err.Error(), "hopper_test.unknown") {
			t.Errorf("Close: %v", err)
		}
		if err := p.Wait(); !strings.Contains(err.Error(), "codec.Register[hopper_test.unknown]") {
			t.Errorf("Wait: %v", err)
		}
		if s := checkStats(t, p); s.Lost != 3 || s.OnDisk != 297 {
			t.Errorf("%+v", s)
		}
	})
}

// fickle refuses one number.
type fickle struct{ refused uint64 }

func (c fickle) Append(dst []byte, v uint64) ([]byte, error) {
	if v == c.refused {
		return dst, fmt.Errorf("%d is refused", v)
	}
	return binary.BigEndian.AppendUint64(dst, v), nil
}

func (fickle) Decode(src []byte) (uint64, error) { return binary.BigEndian.Uint64(src), nil }

func TestALossAtTheStopIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(80),
			hopper.WithCodec(fickle{5})}
		in, _, p := pipe[uint64](t, 0, opts...)
		for i := range 20 { // ten of them stay in the window
			in <- number(i)
		}
		if lost, _ := receipts(p.Close()); lost != 1 {
			t.Fatalf("Close: %v, want 1 item lost", p.Close())
		}

		in, out, p := pipe[uint64](t, 0, opts...)
		close(in)
		expect(t, out, 0, 5, number)
		expectEnd(t, p, out, 6, 20, number)
		if s := checkStats(t, p); s.Resumed != 20 || s.Lost != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Items that can't be decoded.

// picky is a codec that can't decode some items.
type picky struct{ codec.Codec[uint64] }

func newPicky(t *testing.T) picky {
	t.Helper()
	plain, err := codec.For[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	return picky{plain}
}

func (c picky) Decode(src []byte) (uint64, error) {
	v, err := c.Codec.Decode(src)
	switch {
	case v%100 == 50:
		return 0, errors.New("no fifties")
	case v%100 == 51:
		panic("no fifty-ones")
	}
	return v, err
}

// What waits in front of an item that can't be decoded is kept by its own
// number.
func TestAnItemThatCantBeDecodedCostsNoOtherWhenThePumpIsStopped(t *testing.T) {
	for _, got := range []int{0, 1, 30, 41, 42, 43, 48, 49, 50, 51, 52, 57, 58} {
		opts := []hopper.Option{hopper.Dir(t.TempDir()), hopper.Resume(), hopper.MaxMemory(64),
			hopper.WithCodec(newPicky(t)), hopper.SkipUndecodable()}
		in, out, p := pipe[uint64](t, 0, opts...)
		for i := range 60 {
			in <- number(i)
		}
		want := func(i int) uint64 { // 50 and 51 are passed over, once in the log
			if i >= 50 {
				i += 2
			}
			return uint64(i)
		}
		expect(t, out, 0, got, want)
		p.Close()

		_, out, p = pipe[uint64](t, 0, opts...)
		expect(t, out, got, 58, want)
		p.Close()
	}
}

// Promise 12, A5: without Resume such an item is lost, which is reported once,
// with what is known.
func TestAnItemThatCantBeDecodedIsReportedAndTheRestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(0), hopper.WithCodec(newPicky(t)),
			log.option())
		for i := range 152 {
			in <- number(i)
		}
		expect(t, out, 0, 50, number)
		expect(t, out, 52, 53, number)
		if told := log.lines("level=ERROR", "no fifties"); len(told) != 1 ||
			strings.Contains(told[0], "offset") {
			t.Errorf("want one line, at once, without a place on disk:\n%s", &log)
		}

		expect(t, out, 53, 150, number)
		close(in)
		expectClosed(t, out)
		err := p.Wait()
		var corrupt *spill.CorruptError
		if !errors.As(err, &corrupt) || corrupt.First != 50 || corrupt.Items != 1 ||
			!errors.Is(err, spill.ErrCorrupt) {
			t.Errorf("Wait: %v", err)
		}
		if s := checkStats(t, p); s.Lost != 4 {
			t.Errorf("%+v", s)
		}
		if told := log.lines("level=ERROR"); len(told) != 4 {
			t.Errorf("%d lines tell of 4 items:\n%s", len(told), &log)
		}
	})
}

// The pump must notice that nothing waits any more, though nothing was
// delivered.
func TestAPumpEndsWhenTheLastItemsCantBeDecoded(t *testing.T) {
	for name, end := range map[string]func(p *hopper.Pump, in chan<- uint64){
		"close(in)": func(p *hopper.Pump, in chan<- uint64) { close(in) },
		"Shutdown":  func(p *hopper.Pump, in chan<- uint64) { go p.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(0), hopper.WithCodec(newPicky(t)))
				in <- 49
				in <- 50
				synctest.Wait()
				end(p, in)
				synctest.Wait()
				expect(t, out, 49, 50, number)
				expectClosed(t, out)
				if err := p.Wait(); !errors.Is(err, spill.ErrCorrupt) {
					t.Errorf("Wait: %v", err)
				}
			})
		})
	}
}

// locked is a codec that needs a key for the items from a number on.
type locked struct {
	key  bool
	from uint64
}

var errNoKey = errors.New("the key is missing")

func (locked) Append(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }

func (c locked) Decode(src []byte) ([]byte, error) {
	if !c.key && binary.BigEndian.Uint64(src) >= c.from {
		return nil, errNoKey
	}
	return bytes.Clone(src), nil
}

// numbered makes items that begin with their number.
func numbered(i int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(i)), noise(500)(i)...)
}

// Promise 12, A3, and promise 2 for this kind of stop: a codec that lacks a key
// ends the pump, behind everything in front of the item. That item and all
// behind it stay, and so does what has come since.
func TestAnIntactBacklogIsNeverDestroyed(t *testing.T) {
	for _, c := range []struct{ capacity, full int }{{0, 0}, {8, 0}, {8, 4}, {8, 8}} {
		for _, blocked := range []bool{false, true} {
			name := fmt.Sprintf("%d of %d/blocked=%v", c.full, c.capacity, blocked)
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					testMissingKey(t, c.capacity, c.full, blocked)
				})
			})
		}
	}
}

func testMissingKey(t *testing.T, capacity, full int, blocked bool) {
	const old, bad = 400, 250
	dir := t.TempDir()
	options := func(c locked) []hopper.Option {
		return []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(4 << 10),
			hopper.SegmentSize(16 << 10), hopper.WithCodec(c)}
	}
	in, _, p := pipe[[]byte](t, 0, options(locked{key: true})...)
	for i := range old {
		in <- numbered(i)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	before := segmentsFrom(t, dir, bad)

	opts := options(locked{from: bad})
	if blocked {
		opts = append(opts, hopper.MaxDisk(1)) // nothing is received while items wait
	}
	buffered, out := make(chan []byte, capacity), make(chan []byte)
	for i := range full {
		buffered <- numbered(old + i)
	}
	p, err := hopper.Pipe(out, buffered, opts...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, out, 0, bad, numbered)
	expectClosed(t, out)

	err = p.Wait()
	var broken *hopper.DecodeError
	if !errors.As(err, &broken) || broken.Item != bad || !errors.Is(err, errNoKey) {
		t.Fatalf("Wait: %v, want a DecodeError for item %d", err, bad)
	}
	rest := uint64(old - bad + full)
	if lost, kept := receipts(err); lost != 0 || kept != rest {
		t.Errorf("Wait: %v, want %d items kept", err, rest)
	}
	if s := checkStats(t, p); s.Lost != 0 || s.OnDisk != rest || s.Received != uint64(full) {
		t.Errorf("%+v", s)
	}
	for path, b := range before {
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(b, now) {
			t.Errorf("%s has changed: %v", path, err)
		}
	}

	in, again, p := pipe[[]byte](t, 0, options(locked{key: true})...)
	close(in)
	expectEnd(t, p, again, bad, old+full, numbered)
}

// segmentsFrom returns the segments that hold items from one on, by path.
func segmentsFrom(t *testing.T, dir string, seq uint64) map[string][]byte {
	t.Helper()
	l, err := segment.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for _, s := range l.Segments {
		if s.End > seq {
			b, err := os.ReadFile(s.Path)
			if err != nil {
				t.Fatal(err)
			}
			found[s.Path] = b
		}
	}
	if len(found) < 3 {
		t.Fatalf("%d segments", len(found))
	}
	return found
}

// Promise 12: with SkipUndecodable the item is lost, which is reported at once.
func TestSkipUndecodableGoesOnWithTheNextItem(t *testing.T) {
	dir := t.TempDir()
	opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(0),
		hopper.WithCodec(newPicky(t))}
	in, _, p := pipe[uint64](t, 0, opts...)
	for i := range 60 {
		in <- number(i)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	in, out, p := pipe[uint64](t, 0, opts...)
	close(in)
	expect(t, out, 0, 50, number)
	expectClosed(t, out)
	var broken *hopper.DecodeError
	if err := p.Wait(); !errors.As(err, &broken) || broken.Item != 50 {
		t.Fatalf("Wait: %v", err)
	}

	var log journal
	in, out, p = pipe[uint64](t, 0, append(opts, hopper.SkipUndecodable(), log.option())...)
	expect(t, out, 52, 53, number)
	if told := log.lines("level=ERROR", "no fift"); len(told) != 2 {
		t.Errorf("want two lines, at once:\n%s", &log)
	}
	close(in)
	expect(t, out, 53, 60, number)
	expectClosed(t, out)
	if err := p.Wait(); !errors.Is(err, spill.ErrCorrupt) || errors.As(err, &broken) {
		t.Errorf("Wait: %v", err)
	}
	if s := checkStats(t, p); s.Lost != 2 || s.Resumed != 10 {
		t.Errorf("%+v", s)
	}
}

type envelope struct{ Body any }

type letter struct{ Text string }

const letters = 1000

// registerLetter registers a type that this process does not know.
func registerLetter() func(i int) any {
	codec.Register[letter]()
	return func(i int) any { return letter{fmt.Sprint("letter ", i)} }
}

// registerParcel registers a type that another program knows with one more
// field.
func registerParcel() func(i int) any {
	type parcel struct{ A int }
	codec.Register[parcel]()
	return func(i int) any { return parcel{i} }
}

func registerLargerParcel() func(i int) any {
	type parcel struct {
		A int
		B string
	}
	codec.Register[parcel]()
	return func(i int) any { return parcel{i, ""} }
}

func init() {
	children["post letters"] = func(dir string) error { return post(dir, registerLetter()) }
	children["collect letters"] = func(dir string) error { return collect(dir, registerLetter()) }
	children["post parcels"] = func(dir string) error { return post(dir, registerParcel()) }
	children["collect parcels"] = func(dir string) error { return collect(dir, registerParcel()) }
}

// post leaves a backlog of letters.
func post(dir string, body func(i int) any) error {
	in, out := make(chan envelope), make(chan envelope)
	p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(1<<10))
	if err != nil {
		return err
	}
	for i := range letters {
		in <- envelope{body(i)}
	}
	return p.Close()
}

// collect receives what post has left.
func collect(dir string, body func(i int) any) error {
	in, out := make(chan envelope), make(chan envelope)
	p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume())
	if err != nil {
		return err
	}
	close(in)
	i := 0
	for e := range out {
		if e.Body != body(i) {
			return fmt.Errorf("item %d is %v", i, e)
		}
		i++
	}
	if i != letters {
		return fmt.Errorf("%d of %d items came out: %w", i, letters, p.Wait())
	}
	return p.Wait()
}

// Promise 12, A2: the next start forgets codec.Register.
func TestABacklogOfATypeThatIsNotRegisteredIsUntouchedUntilItIs(t *testing.T) {
	dir := t.TempDir()
	runChild(t, "post letters", dir)
	expectRefused(t, dir, "hopper_test.letter")
	runChild(t, "collect letters", dir)
}

// Promise 12, A3: a type inside an interface has got another field.
func TestABacklogOfATypeThatHasChangedIsUntouched(t *testing.T) {
	dir := t.TempDir()
	runChild(t, "post parcels", dir)
	registerLargerParcel()
	expectRefused(t, dir, "")
	runChild(t, "collect parcels", dir)
}

// expectRefused fails unless a pump ends with the first item of the directory,
// and changes no segment.
func expectRefused(t *testing.T, dir, text string) {
	t.Helper()
	before := map[string][]byte{}
	for _, name := range files(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = b
	}

	_, out, p := pipe[envelope](t, 0, hopper.Dir(dir), hopper.Resume())
	expectClosed(t, out)
	err := p.Wait()
	var broken *hopper.DecodeError
	if !errors.As(err, &broken) || broken.Item != 0 || !strings.Contains(broken.Err.Error(), text) {
		t.Errorf("Wait: %v, want a DecodeError with %q", err, text)
	}
	if lost, kept := receipts(err); lost != 0 || kept != letters {
		t.Errorf("Wait: %v, want all to be kept", err)
	}
	if s := checkStats(t, p); s.Lost != 0 || s.OnDisk != letters {
		t.Errorf("%+v", s)
	}
	for name, b := range before {
		now, err := os.ReadFile(filepath.Join(dir, name))
		if strings.HasSuffix(name, ".sz") && (err != nil || !bytes.Equal(b, now)) {
			t.Errorf("%s has changed: %v", name, err)
		}
	}
}

func TestDamageOnDiskIsReportedExactlyAndTheRestGoesOn(t *testing.T) {
	const n = 1000
	dir, item := t.TempDir(), noise(1000)
	opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(0)}
	in, _, p := pipe[[]byte](t, 0, opts...)
	for i := range n {
		in <- item(i)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	path := ""
	for _, name := range files(t, dir) {
		if p := filepath.Join(dir, name); strings.HasSuffix(name, ".sz") &&
			dirSize(t, p) > 500_000 {
			path = p
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x10
	write(t, path, b)

	in, out, p := pipe[[]byte](t, 0, opts...)
	close(in)
	var got [][]byte
	for v := range out {
		got = append(got, v)
	}
	err = p.Wait()
	var damage *spill.CorruptError
	if !errors.As(err, &damage) || damage.Path != path || damage.Items == 0 || damage.Items > 70 {
		t.Fatalf("Wait: %v", err)
	}
	if s := checkStats(t, p); s.Lost != damage.Items {
		t.Errorf("%+v, %d items lost", s, damage.Items)
	}

	var want [][]byte
	for i := range n {
		if uint64(i) < damage.First || uint64(i) >= damage.First+damage.Items {
			want = append(want, item(i))
		}
	}
	if !slices.EqualFunc(want, got, bytes.Equal) {
		t.Errorf("%d items came out, other than the %d expected", len(got), len(want))
	}
}

// Promise 12. What was read ahead of such damage is delivered before and after
// a rest, and the damage is told.
func TestDamageThatCostsNoItemCostsNoneWhileTheConsumerRests(t *testing.T) {
	for behind := range 4 { // so many segments are whole
		t.Run(fmt.Sprint(behind), func(t *testing.T) {
			const n = 4000
			dir, item := t.TempDir(), noise(100)
			opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.SegmentSize(64 << 10)}
			synctest.Test(t, func(t *testing.T) {
				in, _, p := pipe[[]byte](t, 0, append(opts, hopper.MaxMemory(0))...)
				for i := range n {
					in <- item(i)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			})

			segments, err := filepath.Glob(filepath.Join(dir, "*.sz"))
			if err != nil || len(segments) < 5 {
				t.Fatalf("segments: %q, %v", segments, err)
			}
			damage(t, segments[behind], 20) // in the header

			synctest.Test(t, func(t *testing.T) {
				in, out, p := pipe[[]byte](t, 0, opts...)
				close(in)
				expect(t, out, 0, 10, item)
				synctest.Wait() // some are read ahead
				time.Sleep(time.Minute)
				expect(t, out, 10, n, item)
				expectClosed(t, out)

				err := p.Wait()
				var told *spill.CorruptError
				if !errors.As(err, &told) || told.Path != segments[behind] || told.Items != 0 {
					t.Errorf("Wait: %v", err)
				}
				if s := checkStats(t, p); s.Lost != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestAStoreThatCountsMoreThanItReturnsEndsThePumpNeitherEarlyNorNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10
		m := storetest.NewMemory()
		in, _, p := pipe[uint64](t, 0, hopper.WithStore(m.Store()), hopper.Resume())
		for i := range n {
			in <- number(i)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}

		in, out, p := pipe[uint64](t, 0, hopper.WithStore(boastful{m.Store()}), hopper.Resume())
		expect(t, out, 0, n, number)
		synctest.Wait()
		if s := checkStats(t, p); s.Lost != 2 || s.OnDisk != 0 || !s.Oldest.IsZero() {
			t.Errorf("%+v", s)
		}

		in <- n
		close(in)
		expect(t, out, n, n+1, number)
		expectClosed(t, out)
		if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "counted 2 items more") {
			t.Errorf("Wait: %v", err)
		}
	})
}

// A boastful store counts two items more than it has.
type boastful struct{ spill.Store }

func (s boastful) Open(ctx context.Context, label string, keep bool) (spill.Range, error) {
	r, err := s.Store.Open(ctx, label, keep)
	r.Items += 2
	return r, err
}

// damage changes a bit of the byte at an offset of a file.
func damage(t testing.TB, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	write(t, path, b)
}

// The directory.

// Promise 10.
func TestTheDiskIsGivenBackAsItemsAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.SegmentSize(64<<10),
			hopper.MaxMemory(8<<10))
		item := noise(1000)
		const n = 2000
		for i := range n {
			in <- item(i)
		}
		time.Sleep(time.Minute)
		full := dirSize(t, dir)

		expect(t, out, 0, n/2, item)
		synctest.Wait()
		if half := dirSize(t, dir); half > full*6/10 {
			t.Errorf("%d of %d bytes are left when half is delivered", half, full)
		}
		if s := p.Stats(); s.DiskBytes != dirSize(t, dir) || s.Segments != len(files(t, dir)) {
			t.Errorf("%+v, but %d bytes in %d files", s, dirSize(t, dir), len(files(t, dir)))
		}

		expect(t, out, n/2, n, item)
		synctest.Wait()
		if names := files(t, dir); len(names) > 0 {
			t.Errorf("left when all is delivered, the pump running: %q", names)
		}
		if s := p.Stats(); s.DiskBytes != 0 || s.Segments != 0 {
			t.Errorf("%+v", s)
		}
		close(in)
		expectClosed(t, out)
	})
}

// Promise 11.
func TestSpilledDataIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such permissions")
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, named := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			dir, opts := "", []hopper.Option{hopper.MaxMemory(0)}
			if named {
				dir = filepath.Join(t.TempDir(), "new", "dir")
				opts = append(opts, hopper.Dir(dir))
			}
			in, out, p := pipe[[]byte](t, 0, opts...)
			item := noise(1000)
			for i := range 2000 {
				in <- item(i)
			}
			synctest.Wait()
			if !named {
				dir = filepath.Join(tmp, files(t, tmp)[0])
			}

			modes := map[string]fs.FileMode{dir: 0o700}
			if named {
				modes[filepath.Dir(dir)] = 0o700
			}
			for _, name := range files(t, dir) {
				modes[filepath.Join(dir, name)] = 0o600
			}
			if len(modes) < 3 {
				t.Fatal("nothing on disk")
			}
			for path, want := range modes {
				fi, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if got := fi.Mode().Perm(); got != want {
					t.Errorf("%s has mode %o, want %o", path, got, want)
				}
			}
			close(in)
			expectEnd(t, p, out, 0, 2000, item)
		})
	}
}

// Promise 11.
func TestPlantedLinksAreNotFollowed(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	write(t, target, []byte("precious"))
	for i := range 50 { // wherever a segment might begin
		if err := os.Symlink(target, filepath.Join(dir, fmt.Sprintf("%020d.sz", i))); err != nil {
			t.Skip(err)
		}
	}
	in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxMemory(0))
	item := noise(1000)
	for i := range 2000 {
		in <- item(i)
	}
	close(in)
	expectEnd(t, p, out, 0, 2000, item)

	if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
		t.Errorf("the target of the links is now %.20q: %v", b, err)
	}
	if names := files(t, dir); len(names) != 50 {
		t.Errorf("of 50 links are left: %v", names)
	}
}

func TestTheTemporaryDirectoryIsRemovedAtTheEnd(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	const n = 100_000
	for _, end := range []string{"drain", "close"} {
		in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(0))
		for i := range n {
			in <- number(i)
		}
		eventually(t, "one directory is made", func() bool { return len(files(t, tmp)) == 1 })
		if end == "drain" {
			close(in)
			expectEnd(t, p, out, 0, n, number)
		} else if err := p.Close(); err == nil {
			t.Error("Close says nothing of the items that are lost")
		}
		if names := files(t, tmp); len(names) > 0 {
			t.Errorf("%s: left behind: %q", end, names)
		}
	}
}

func init() { children["spill"] = spillForEver }

// spillForEver holds a backlog in a temporary directory until it is killed.
func spillForEver(string) error {
	in, out := make(chan []byte), make(chan []byte)
	p, err := hopper.Pipe(out, in, hopper.MaxMemory(0))
	if err != nil {
		return err
	}
	item := noise(1000)
	for i := 0; p.Stats().Segments == 0; i++ {
		in <- item(i)
	}
	fmt.Println("spilled")
	select {}
}

// Promise 11, A11: of what lies in os.TempDir, a start removes what killed
// processes have left there, and nothing else.
func TestWhatAKilledProcessLeftIsRemovedAtTheNextStart(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	left := func(name string, files ...string) {
		if err := os.Mkdir(filepath.Join(tmp, name), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			write(t, filepath.Join(tmp, name, f), []byte("precious"))
		}
	}
	left("hopper-1", "notes.txt")
	left("other", "00000000000000000000.sz")

	killed, kill := startChild(t, "spill", tmp)
	killed.Scan()
	kill()
	leftBehind := slices.DeleteFunc(files(t, tmp),
		func(s string) bool { return s == "hopper-1" || s == "other" })
	if len(leftBehind) != 1 {
		t.Skipf("skipped: the killed process has left %q", leftBehind)
	}

	alive, kill := startChild(t, "spill", tmp)
	defer kill()
	alive.Scan()
	names := files(t, tmp)
	if slices.Contains(names, leftBehind[0]) || len(names) != 3 {
		t.Errorf("after the next start: %q, which still holds %q", names, leftBehind)
	}

	third, kill := startChild(t, "spill", tmp)
	defer kill()
	third.Scan()
	if now := files(t, tmp); len(now) != 4 || len(files(t, filepath.Join(tmp, "hopper-1"))) != 1 {
		t.Errorf("after another start beside it: %q", now)
	}
}

func init() { children["run out of descriptors"] = runOutOfDescriptors }

// runOutOfDescriptors uses pipes while no file can be opened.
func runOutOfDescriptors(dir string) error {
	var open []*os.File
	use := func() {
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				return
			}
			open = append(open, f)
		}
	}
	free := func() {
		for _, f := range open {
			f.Close()
		}
		open = nil
	}
	start := func(opts ...hopper.Option) (chan<- []byte, <-chan []byte, *hopper.Pump, error) {
		return hopper.Make[[]byte](0, append(opts, hopper.MaxMemory(0))...)
	}

	use()
	named := filepath.Join(dir, "named")
	_, _, _, err := start(hopper.Dir(named))
	if err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		return fmt.Errorf("a Dir without a descriptor: %v, want an error with ulimit -n", err)
	}
	if _, err := os.Stat(named); err == nil {
		return errors.New("a directory is left behind")
	}
	if _, _, _, err := start(); err != nil && (!strings.Contains(err.Error(), "ulimit -n") ||
		strings.Contains(err.Error(), "pass Dir")) {
		return fmt.Errorf("no Dir and no descriptor: %v", err)
	}

	free()
	in, out, p, err := start()
	if err != nil {
		return fmt.Errorf("with descriptors again: %v", err)
	}
	use()
	item, sent := noise(1000), 0
	for !p.Stats().Blocked {
		select {
		case in <- item(sent):
			sent++
		default:
			runtime.Gosched()
		}
	}
	if s := p.Stats(); !strings.Contains(s.Reason, "ulimit -n") {
		return fmt.Errorf("%+v", s)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) > 0 {
		return fmt.Errorf("left behind: %q", names)
	}

	free()
	for range 2000 {
		in <- item(sent)
		sent++
	}
	close(in)
	for i := range sent {
		if !bytes.Equal(<-out, item(i)) {
			return fmt.Errorf("item %d differs", i)
		}
	}
	return p.Wait()
}

// A17.
func TestWithoutDescriptorsPipeNamesTheLimitAndLeavesNothing(t *testing.T) {
	t.Parallel()
	command(t, "sh", "-c", "ulimit -n 64")
	out, err := childCommand(t, "run out of descriptors", t.TempDir(),
		"sh", "-c", `ulimit -n 64; exec "$@"`, "sh").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// A18.
func TestADirectoryThatCantBeUsedIsCalledWhatItIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, []byte("precious"))
	readOnly := mountTmpfs(t, "1m")
	command(t, "mount", "-o", "remount,ro", readOnly)

	for name, c := range map[string]struct{ dir, want string }{
		"a file":            {file, file + " is a file, not a directory"},
		"under a file":      {filepath.Join(file, "x"), "not a directory"},
		"read-only":         {readOnly, "not writable"},
		"under a read-only": {filepath.Join(readOnly, "x"), "read-only"},
	} {
		_, _, _, err := hopper.Make[int](0, hopper.Dir(c.dir))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// A20.
func TestFilesNumberedBeyondAllItemsAreLeftAloneAndToldOnce(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{
		"09223372036854775808.sz", "18446744073709551615.sz",
		"00000000000000000000-18446744073709551615.ack",
		"18446744073709551000-18446744073709551615.ack",
	}
	for _, name := range foreign {
		write(t, filepath.Join(dir, name), []byte("what is this?"))
	}

	var log journal
	opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(0), log.option()}
	in, out, p := pipe[[]byte](t, 0, opts...)
	item := noise(1000)
	for i := range 1000 {
		in <- item(i)
	}
	expect(t, out, 0, 500, item)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range foreign {
		if told := log.lines(name); len(told) != 1 {
			t.Errorf("%s is told of %d times:\n%s", name, len(told), &log)
		}
	}

	in, out, p = pipe[[]byte](t, 0, opts...)
	close(in)
	expectEnd(t, p, out, 500, 1000, item)
	slices.Sort(foreign)
	if d := cmp.Diff(foreign, files(t, dir)); d != "" {
		t.Errorf("left in the directory (-want +got):\n%s", d)
	}
}

func TestAFileOfSomebodyElseBehindTheBacklogCostsNothing(t *testing.T) {
	dir := t.TempDir()
	in, out, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(0))
	for i := range uint64(10) {
		in <- i
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	expectClosed(t, out)
	write(t, filepath.Join(dir, "00000000000000000010.sz"),
		[]byte("nothing that anybody understands"))

	in, out, p = pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	in <- 10 // its number does not follow those of the others
	expect(t, out, 0, 5, number)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	in, out, p = pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	close(in)
	expectEnd(t, p, out, 5, 11, number)
}

func TestADirectoryBelongsToOnePipe(t *testing.T) {
	dir := t.TempDir()
	_, _, p := pipe[int](t, 0, hopper.Dir(dir))
	_, err := hopper.Pipe(make(chan int), make(chan int), hopper.Dir(dir))
	if !errors.Is(err, spill.ErrLocked) {
		t.Errorf("second pipe: %v, want ErrLocked", err)
	}
	p.Close()
	_, _, p = pipe[int](t, 0, hopper.Dir(dir))
	p.Close()
}

// Restarts.

func TestResumeDeliversTheBacklogFirst(t *testing.T) {
	for _, memory := range []int64{0, 1 << 10, 1 << 20} {
		for _, n := range []int{1, 100, 10_000} {
			t.Run(fmt.Sprintf("memory=%d/n=%d", memory, n), func(t *testing.T) {
				opts := []hopper.Option{hopper.Dir(t.TempDir()), hopper.Resume(),
					hopper.MaxMemory(memory),
					hopper.SegmentSize(32 << 10)}
				item := line(40)
				sent, got := 0, 0
				for range 4 { // start, receive some, send more, stop
					in, out, p := pipe[[]byte](t, 0, opts...)
					if s := checkStats(t, p); int(s.Resumed) != sent-got {
						t.Fatalf("resumed %d items, want %d", s.Resumed, sent-got)
					}
					some := (sent - got) / 3
					expect(t, out, got, got+some, item)
					got += some
					for range n {
						in <- item(sent)
						sent++
					}

					if err := p.Close(); err != nil {
						t.Fatal(err)
					}
					if s := checkStats(t, p); int(s.OnDisk) != sent-got || s.Lost != 0 {
						t.Fatalf("kept %+v, want %d items", s, sent-got)
					}
				}

				in, out, p := pipe[[]byte](t, 0, opts...)
				close(in)
				expectEnd(t, p, out, got, sent, item)
			})
		}
	}
}

func TestABacklogOfAnotherTypeIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	in, _, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	in <- 42
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	_, err := hopper.Pipe(make(chan string), make(chan string), hopper.Dir(dir), hopper.Resume())
	if err == nil || !strings.Contains(err.Error(), "uint64") ||
		!strings.Contains(err.Error(), "string") {
		t.Errorf("Pipe: %v, want an error that names uint64 and string", err)
	}
	_, err = hopper.Pipe(make(chan uint64), make(chan uint64), hopper.Dir(dir))
	if !errors.Is(err, spill.ErrNotResumed) || !strings.Contains(err.Error(), "pass Resume") {
		t.Errorf("without Resume: %v, want ErrNotResumed", err)
	}
	if d := cmp.Diff(before, files(t, dir)); d != "" {
		t.Error(d)
	}

	_, out, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	if v := <-out; v != 42 {
		t.Errorf("got %d", v)
	}
	p.Close()
}

func TestAStopKeepsMaxDisk(t *testing.T) {
	t.Run("of items that are small beside their lengths", func(t *testing.T) {
		keepsMaxDisk(t, 256<<10, func(i int) byte { return noise(1)(i)[0] }, 0)
	})
	t.Run("with items taken from the log's memory", func(t *testing.T) {
		keepsMaxDisk(t, 160<<10, noise(1<<10), 2, hopper.MaxMemory(0))
	})
}

// keepsMaxDisk stops a pump that has received as much as it would, again after
// some was delivered.
func keepsMaxDisk[T any](
	t *testing.T, maxDisk int64, item func(i int) T, delivered int, opts ...hopper.Option,
) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		opts := append(opts, hopper.Dir(dir), hopper.Resume(), hopper.MaxDisk(maxDisk))
		in, out, p := pipe[T](t, 0, opts...)
		fill(t, in, item)
		take(out, delivered)
		fill(t, in, item)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if size := dirSize(t, dir); size > maxDisk {
			t.Errorf("%d bytes of files where MaxDisk is %d", size, maxDisk)
		}
	})
}

func TestAStopAtKeepFreeLosesNothing(t *testing.T) {
	dir := t.TempDir()
	const n = 100_000
	in, _, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume(), hopper.KeepFree(1<<60))
	for i := range n {
		in <- number(i)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	in, out, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	close(in)
	for i := range uint64(n) {
		if v := <-out; v != i {
			t.Fatalf("got %d, want %d", v, i)
		}
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// Restarts near the cap: what a stop keeps fits under MaxDisk too.
func TestTheCapHoldsThroughManyRestarts(t *testing.T) {
	const maxDisk = 128 << 10
	dir := t.TempDir()
	item := noise(500)
	sent, got := 0, 0
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.Resume(),
				hopper.MaxDisk(maxDisk),
				hopper.MaxMemory(16<<10))
			sent += fill(t, in, from(sent, item))
			if s := checkStats(t, p); !s.Blocked || s.DiskBytes > maxDisk {
				t.Fatalf("%+v", s)
			}
			expect(t, out, got, got+20, item)
			got += 20
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if size := dirSize(t, dir); size > maxDisk {
				t.Fatalf("%d bytes are kept, MaxDisk is %d", size, maxDisk)
			}
		})
	}
	in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.Resume())
	close(in)
	expectEnd(t, p, out, got, sent, item)
}

// Stores.

func TestABacklogLivesInAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, item := storetest.NewMemory(), line(1000)
		opts := []hopper.Option{hopper.Resume(), hopper.MaxMemory(4 << 10)}
		in, out, p := pipe[[]byte](t, 0, append(opts, hopper.WithStore(m.Store()))...)
		for i := range 1000 {
			in <- item(i)
		}
		time.Sleep(time.Minute)
		if s := checkStats(t, p); s.DiskBytes == 0 || s.Segments == 0 ||
			m.Calls(storetest.Append) == 0 {
			t.Errorf("nothing in the store: %+v", s)
		}
		expect(t, out, 0, 300, item)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if n := m.Calls(storetest.Close); n != 1 {
			t.Errorf("the store was closed %d times", n)
		}

		in, out, p = pipe[[]byte](t, 0, append(opts, hopper.WithStore(m.Store()))...)
		if s := checkStats(t, p); s.Resumed != 700 {
			t.Errorf("%+v", s)
		}
		in <- item(1000)
		close(in)
		expectEnd(t, p, out, 300, 1001, item)
		if u := m.Store().Usage(); u.Bytes != 0 || u.Segments != 0 {
			t.Errorf("left in the store: %+v", u)
		}
	})
}

func TestWithoutResumeAStoreIsEmptiedAtTheEnd(t *testing.T) {
	m := storetest.NewMemory()
	in, _, p := pipe[[]byte](t, 0, hopper.WithStore(m.Store()), hopper.MaxMemory(0))
	item := line(1000)
	for i := range 1000 {
		in <- item(i)
	}
	if lost, _ := receipts(p.Close()); lost != 1000 {
		t.Errorf("Close: %v", p.Close())
	}
	if u := m.Store().Usage(); u.Bytes != 0 {
		t.Errorf("left in the store: %+v", u)
	}
}

func TestAStoreThatFailsForAWhileLosesAndRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, item := storetest.NewMemory(), line(1000)
		in, out, p := pipe[[]byte](t, 0, hopper.WithStore(m.Store()), hopper.MaxMemory(4<<10))
		down := errors.New("connection refused")
		const n = 5000
		go func() {
			for i := range n {
				if i%1000 == 500 {
					m.LoseOutcome(2)
					m.Fail(storetest.Append, 3, down)
					m.Fail(storetest.Read, 3, down)
					m.Fail(storetest.Trim, 3, down)
				}
				in <- item(i)
			}
			close(in)
		}()
		time.Sleep(time.Minute)
		expectEnd(t, p, out, 0, n, item)
		if m.Calls(storetest.Read) == 0 {
			t.Error("nothing was read")
		}
	})
}

func TestAStoreIsOpenedOnlyByAPipeThatStarts(t *testing.T) {
	m := storetest.NewMemory()
	s := m.Store()
	for name, opts := range map[string][]hopper.Option{
		"Dir":         {hopper.Dir(t.TempDir())},
		"MaxDisk":     {hopper.MaxDisk(1)},
		"KeepFree":    {hopper.KeepFree(0)},
		"SegmentSize": {hopper.SegmentSize(1)},
	} {
		_, _, _, err := hopper.Make[int](0, append(opts, hopper.WithStore(s))...)
		if err == nil || !strings.Contains(err.Error(), name) ||
			!strings.Contains(err.Error(), "WithStore") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.Calls(storetest.Open) > 0 {
		t.Error("the store was opened all the same")
	}

	_, _, p := pipe[int](t, 0, hopper.WithStore(s))
	_, _, _, err := hopper.Make[int](0, hopper.WithStore(m.Store()))
	if !errors.Is(err, spill.ErrLocked) || strings.Contains(err.Error(), "Dir") {
		t.Errorf("a second pipe: %v", err)
	}
	p.Close()

	m.MakeNewer()
	_, _, _, err = hopper.Make[int](0, hopper.WithStore(m.Store()))
	if !errors.Is(err, spill.ErrVersion) || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("a store of a newer program: %v", err)
	}
}

// Options, Make and Stats.

func TestMakeMakesBothChannels(t *testing.T) {
	in, out, p, err := hopper.Make[uint64](3, hopper.MaxMemory(100))
	if err != nil {
		t.Fatal(err)
	}
	if cap(in) != 3 || cap(out) != 3 {
		t.Errorf("capacities %d and %d", cap(in), cap(out))
	}
	for i := range 1000 {
		in <- number(i)
	}
	close(in)
	expectEnd(t, p, out, 0, 1000, number)

	if _, _, _, err := hopper.Make[int](-1); err == nil ||
		!strings.Contains(err.Error(), "Make(-1)") {
		t.Errorf("Make(-1): %v", err)
	}
	if in, out, p, err := hopper.Make[int](0, hopper.Dir("")); err == nil || in != nil ||
		out != nil || p != nil {
		t.Errorf("an option that makes no sense: %v, %v, %v, %v", in, out, p, err)
	}
}

func TestPipeRefusesWhatMakesNoSense(t *testing.T) {
	type withFunc struct {
		Name string
		cb   func()
	}
	_ = withFunc{cb: func() {}}
	var noContext context.Context
	ch := make(chan int)
	start := func(opts ...hopper.Option) error {
		_, _, p, err := hopper.Make[int](0, opts...)
		if err == nil {
			p.Close()
		}
		return err
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nil out":     {second(hopper.Pipe(nil, ch)), "out is a nil channel"},
		"nil in":      {second(hopper.Pipe(ch, nil)), "in is a nil channel"},
		"one channel": {second(hopper.Pipe(ch, ch)), "the same channel"},
		"nil context": {second(hopper.PipeContext(noContext, make(chan int), ch)),
			"nil context"},
		"negative memory":  {start(hopper.MaxMemory(-1)), "MaxMemory(-1)"},
		"negative disk":    {start(hopper.MaxDisk(-2)), "MaxDisk(-2)"},
		"negative free":    {start(hopper.KeepFree(-3)), "KeepFree(-3)"},
		"negative segment": {start(hopper.SegmentSize(-4)), "SegmentSize(-4)"},
		"resume, no dir":   {start(hopper.Resume()), "Resume needs Dir"},
		"empty dir":        {start(hopper.Dir("")), `Dir("")`},
		"codec of other T": {start(hopper.Dir(dir), hopper.WithCodec(codec.Bytes{})),
			"does not fit a channel of int"},
		"nil codec":          {start(hopper.WithCodec[int](nil)), "WithCodec(nil)"},
		"nil store":          {start(hopper.WithStore(nil)), "WithStore(nil)"},
		"nil logger":         {start(hopper.WithLogger(nil)), "WithLogger(nil)"},
		"zero option":        {start(hopper.Option{}), "zero Option"},
		"acks, not resumed":  {start(hopper.ManualAck()), "ManualAck needs Resume"},
		"syncs, not resumed": {start(hopper.SyncEvery(time.Second)), "SyncEvery needs Resume"},
		"shares nil":         {start(hopper.Share(nil)), "Share(nil)"},
		"shares nothing":     {start(hopper.Share(hopper.NewBudget(0))), "without any space"},
		"shares a store": {start(hopper.Share(hopper.NewBudget(1)),
			hopper.WithStore(storetest.NewMemory().Store())), "goes with none of"},
		"syncs all the time": {start(hopper.SyncEvery(0)), "SyncEvery(0s)"},
		"func in T":          {keep(make(chan withFunc), dir), "withFunc.cb is a func()"},
		"T is a func":        {keep(make(chan func()), dir), "func()"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) ||
			!strings.HasPrefix(c.err.Error(), "hopper: ") {
			t.Errorf("%s: %v, want an error with %q", name, c.err, c.want)
		}
	}
	if names := files(t, dir); len(names) > 0 {
		t.Errorf("made: %q", names)
	}
}

func second(_ *hopper.Pump, err error) error { return err }

func keep[T any](in <-chan T, dir string) error {
	return second(hopper.Pipe(make(chan T), in, hopper.Dir(dir), hopper.Resume()))
}

// A stall or a loss is never silent.
func TestTheDefaultLoggerIsThatOfTheProgram(t *testing.T) {
	var log journal
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)

	synctest.Test(t, func(t *testing.T) {
		m, item := storetest.NewMemory(), line(1000)
		m.SetLimit(0)
		in, _, p := pipe[[]byte](t, 0, hopper.WithStore(m.Store()), hopper.MaxMemory(0))
		fill(t, in, item)
		p.Close()
	})
	if len(log.lines("level=WARN", "not receiving")) != 1 {
		t.Errorf("nothing is told of the stall:\n%s", &log)
	}
}

func TestStringIsStatsAsJSON(t *testing.T) {
	in, _, p := pipe[int](t, 0)
	defer p.Close()
	in <- 1
	var s hopper.Stats
	if err := json.Unmarshal([]byte(p.String()), &s); err != nil {
		t.Fatal(err)
	}
}

// Stats.Oldest is exact to 10 ms in memory.
func TestOldestIsWhenTheOldestItemInMemoryWasReceived(t *testing.T) {
	for _, gap := range []time.Duration{time.Millisecond, 15 * time.Millisecond, time.Minute} {
		t.Run(gap.String(), func(t *testing.T) {
			checkOldest(t, 2000, gap, 0)
		})
	}
}

// Stats.Oldest is exact to 1 % of the age on disk.
func TestOldestIsWhenTheOldestItemOnDiskWasReceived(t *testing.T) {
	for _, gap := range []time.Duration{time.Millisecond, 15 * time.Millisecond, time.Minute} {
		t.Run(gap.String(), func(t *testing.T) {
			checkOldest(t, 10_000, gap, 100, hopper.MaxMemory(0))
		})
	}
}

// checkOldest lets n items wait and wants Stats.Oldest to be exact to 10 ms, or
// to a part of the age if that is more. 0: to 10 ms.
func checkOldest(t *testing.T, n int, gap time.Duration, part time.Duration,
	opts ...hopper.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[uint64](t, 0, opts...)
		if s := checkStats(t, p); !s.Oldest.IsZero() {
			t.Errorf("nothing waits: %v", s.Oldest)
		}
		received := make([]time.Time, n)
		for i := range n {
			in <- number(i)
			received[i] = time.Now()
			time.Sleep(gap)
		}

		for i := range n {
			synctest.Wait()
			exact := 10 * time.Millisecond
			if part > 0 {
				exact = max(exact, time.Since(received[i])/part)
			}
			if d := checkStats(t, p).Oldest.Sub(received[i]); d.Abs() > exact {
				t.Fatalf("Oldest is %v off where item %d is the oldest, %v old", d, i,
					time.Since(received[i]))
			}
			expect(t, out, i, i+1, number)
		}
		synctest.Wait()
		if s := checkStats(t, p); !s.Oldest.IsZero() {
			t.Errorf("nothing waits any more: %v", s.Oldest)
		}
		close(in)
		expectClosed(t, out)
	})
}

func TestOldestIsTheTimeOfItsSegmentAfterARestart(t *testing.T) {
	dir, item := t.TempDir(), noise(1000)
	opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(0),
		hopper.SegmentSize(64 << 10)}
	in, _, p := pipe[[]byte](t, 0, opts...)
	for i := range 500 {
		in <- item(i)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	l, err := segment.Inspect(dir)
	if err != nil || len(l.Segments) < 4 {
		t.Fatalf("%+v, %v", l, err)
	}
	day := time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)
	for i, s := range l.Segments {
		at := day.AddDate(0, 0, i)
		if err := os.Chtimes(s.Path, at, at); err != nil {
			t.Fatal(err)
		}
	}

	in, out, p := pipe[[]byte](t, 0, opts...)
	for i, s := range l.Segments {
		want := day.AddDate(0, 0, i)
		eventually(t, fmt.Sprintf("the oldest item is of %v", want), func() bool {
			return checkStats(t, p).Oldest.Equal(want)
		})
		expect(t, out, int(s.First), int(s.End), item)
	}
	close(in)
	expectEnd(t, p, out, 500, 500, item)
}

func TestBlockedForAddsUpAllStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, item := storetest.NewMemory(), line(1000)
		in, _, p := pipe[[]byte](t, 0, hopper.WithStore(m.Store()), hopper.MaxMemory(0))
		defer p.Close()
		total := time.Duration(0)
		for range 3 {
			m.SetLimit(0)
			fillUntilBlocked(t, in, p, item)
			first := checkStats(t, p).BlockedFor
			time.Sleep(time.Hour)
			s := checkStats(t, p)
			if s.BlockedFor-first != time.Hour || first < total || first > total+time.Second {
				t.Fatalf("blocked for %v, then an hour later for %v; before that for %v",
					first, s.BlockedFor, total)
			}

			m.SetLimit(-1)
			time.Sleep(time.Minute)
			s = checkStats(t, p)
			total = s.BlockedFor
			time.Sleep(time.Minute)
			if now := checkStats(t, p); s.Blocked || now.BlockedFor != total {
				t.Fatalf("not blocked any more: %+v, then %+v", s, now)
			}
		}
	})
}

// At least once: acknowledgements.

// atLeastOnce are the options of a pump with acknowledgements.
func atLeastOnce(dir string, more ...hopper.Option) []hopper.Option {
	return append(more, hopper.Dir(dir), hopper.Resume(), hopper.ManualAck())
}

// unacked returns how many items an error says to be kept that were delivered
// and not acknowledged, and how many that were not delivered.
func unacked(t testing.TB, err error) (unacked, waiting uint64) {
	t.Helper()
	receipt := (*hopper.UndeliveredError)(nil)
	if !errors.As(err, &receipt) || !receipt.Kept {
		t.Fatalf("no receipt of what is kept: %v", err)
	}
	return receipt.Unacked, receipt.Items
}

func TestWhatIsNotAcknowledgedComesBackAtTheNextStart(t *testing.T) {
	for _, capacity := range []int{0, 16} {
		for _, memory := range []int64{0, 2 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("capacity=%d/memory=%d", capacity, memory), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					testUnacked(t, capacity, memory)
				})
			})
		}
	}
}

func testUnacked(t *testing.T, capacity int, memory int64) {
	dir, item := t.TempDir(), line(100)
	sent, acked := 0, 0
	for round := range 5 {
		in, out, p := pipe[[]byte](t, capacity, atLeastOnce(dir, hopper.MaxMemory(memory))...)
		if s := checkStats(t, p); int(s.Resumed) != sent-acked {
			t.Fatalf("round %d: resumed %+v, want %d items", round, s, sent-acked)
		}
		for range 300 {
			in <- item(sent)
			sent++
			synctest.Wait()
		}

		got := min(200, sent-acked)
		expect(t, out, acked, acked+got, item)
		p.Ack(60)
		p.Ack(40)
		acked += 100
		if err := p.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		for range out { // what stood in its buffer counts as delivered
			got++
		}
		open, waiting := unacked(t, p.Wait())
		if int(open) != got-100 || int(open+waiting) != sent-acked {
			t.Fatalf("round %d: %d not acknowledged and %d not delivered, want %d of %d: %+v",
				round, open, waiting, got-100, sent-acked, p.Stats())
		}
		if s := checkStats(t, p); s.Unacked != open || s.OnDisk != waiting {
			t.Fatalf("round %d: %+v", round, s)
		}
	}

	in, out, p := pipe[[]byte](t, capacity, atLeastOnce(dir)...)
	close(in)
	expect(t, out, acked, sent, item)
	expectClosed(t, out)
	p.Ack(sent - acked)
	if err := p.Wait(); err != nil || len(files(t, dir)) != 0 {
		t.Fatalf("Wait: %v; left: %q", err, files(t, dir))
	}
}

func TestWithAcknowledgementsOutClosesAfterTheLastDeliveryAndThePumpEndsAfterTheLastAck(t *testing.T) {
	for _, spilled := range []bool{false, true} {
		t.Run(fmt.Sprint("spilled=", spilled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := int64(1 << 20)
				if spilled {
					memory = 0
				}
				in, out, p := pipe[uint64](t, 4, atLeastOnce(t.TempDir(), hopper.MaxMemory(memory))...)
				go func() {
					for i := range 1000 {
						in <- uint64(i)
					}
					close(in)
				}()
				expect(t, out, 0, 1000, number)
				expectClosed(t, out)

				p.Ack(999)
				synctest.Wait()
				select {
				case <-p.Done():
					t.Fatal("the pump has ended before the last acknowledgement")
				default:
				}
				p.Ack(1)
				if err := p.Wait(); err != nil {
					t.Fatal(err)
				}
				p.Ack(1) // does nothing
			})
		})
	}
}

func TestShutdownWaitsForAcknowledgementsUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[uint64](t, 0, atLeastOnce(t.TempDir())...)
		go func() {
			for i := range 10 {
				in <- uint64(i)
			}
		}()
		expect(t, out, 0, 10, number)
		p.Ack(3)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		err := p.Shutdown(ctx)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("Shutdown took %v", took)
		}
		if !errors.Is(err, hopper.ErrStopped) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if open, waiting := unacked(t, err); open != 7 || waiting != 0 {
			t.Errorf("%d not acknowledged and %d not delivered, want 7 and 0", open, waiting)
		}
	})
}

func TestAcknowledgingMoreThanWasDeliveredPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[uint64](t, 1, atLeastOnce(t.TempDir())...)
		defer p.Close()
		expectPanic(t, "only 0 items are delivered", func() { p.Ack(1) })
		in <- 0
		<-out
		synctest.Wait()
		expectPanic(t, "only 1 items are delivered", func() { p.Ack(2) })
		expectPanic(t, "negative", func() { p.Ack(-1) })
		p.Ack(1)

		_, _, plain := pipe[uint64](t, 0)
		defer plain.Close()
		expectPanic(t, "without ManualAck", func() { plain.Ack(1) })
	})
}

func expectPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), want) {
			t.Errorf("it panics with %v, want %q", r, want)
		}
	}()
	f()
}

// What the consumer does with an item is nobody's business: an item that comes
// back is the one that was sent.
func TestAnItemThatTheConsumerHasChangedComesBackAsItWasSent(t *testing.T) {
	dir, item := t.TempDir(), line(50)
	in, out, p := pipe[[]byte](t, 0, atLeastOnce(dir)...)
	for i := range 100 {
		in <- item(i)
		clear(<-out)
	}
	p.Close()

	in, out, p = pipe[[]byte](t, 0, atLeastOnce(dir)...)
	close(in)
	expect(t, out, 0, 100, item)
	p.Ack(100)
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestAConsumerThatAcknowledgesSoonCausesNoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, item := t.TempDir(), noise(1000)
		in, out, p := pipe[[]byte](t, 0, atLeastOnce(dir, hopper.SyncEvery(time.Hour))...)
		none := len(files(t, dir))
		for i := range 4000 { // 500 KB are not acknowledged
			in <- item(i)
			<-out
			if i >= 500 {
				p.Ack(1)
			}
			if i%100 == 0 {
				time.Sleep(time.Second)
				synctest.Wait()
				if s := checkStats(t, p); s.DiskBytes != 0 || len(files(t, dir)) != none {
					t.Fatalf("after %d items there are files: %+v", i, s)
				}
			}
		}
		p.Ack(500)
		close(in)
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMemoryStaysBoundedHoweverManyItemsAreNotAcknowledged(t *testing.T) {
	dir, item := t.TempDir(), noise(10_000)
	in, out, p := pipe[[]byte](t, 0, atLeastOnce(dir)...)
	before, _ := heap()
	const n = 3000
	for i := range n {
		in <- item(i)
		<-out
	}
	if after, _ := heap(); after-before > 4<<20 {
		t.Errorf("%d items that are not acknowledged take %d bytes of memory", n, after-before)
	}
	if s := checkStats(t, p); s.Unacked < n-1 || s.DiskBytes < n*9_000 {
		t.Errorf("%+v", s)
	}

	p.Ack(n)
	eventually(t, "the disk is given back", func() bool { return p.Stats().DiskBytes == 0 })
	close(in)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestLargeItemsThatPassAreBoundedToo(t *testing.T) {
	m := storetest.NewMemory()
	resume := m.Hang(storetest.Append)
	defer resume()
	const n = 200
	in, out := make(chan []byte, n), make(chan []byte, n)
	item := make([]byte, 1<<20)
	for range n {
		in <- item // one and the same, but for what is encoded
	}
	close(in)
	before, _ := heap()
	p, err := hopper.Pipe(out, in, hopper.WithStore(m.Store()), hopper.Resume(), hopper.ManualAck())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pump is blocked", func() bool { return p.Stats().Blocked })
	if after, _ := heap(); after-before > 16<<20 {
		t.Errorf("%d items that pass take %d bytes of memory", len(out), after-before)
	}

	resume()
	for range n {
		<-out
		for p.Stats().Unacked == 0 { // which lags a moment behind
			runtime.Gosched()
		}
		p.Ack(1)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// A consumer with a fixed number of items in hand acknowledges one when it gets
// the next, also after a pause in which the pump has come to rest.
func TestEachAcknowledgementMayMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		item := noise(100_000)
		in, out, p := pipe[[]byte](t, 0, atLeastOnce(t.TempDir(), hopper.MaxDisk(4<<20),
			hopper.SegmentSize(64<<10))...)
		const n = 500
		go func() {
			defer close(in)
			for i := range n {
				in <- item(i)
			}
		}()

		got := 0
		for p.Stats().Unacked < 20 {
			<-out
			got++
			time.Sleep(10 * time.Millisecond)
		}
		for s := p.Stats(); !s.Blocked || s.InMemory+s.OnDisk > 0; s = p.Stats() { // all stay in hand
			select {
			case <-out:
				got++
			case <-time.After(time.Second):
			}
		}
		time.Sleep(time.Minute)
		for range n - got {
			p.Ack(1)
			<-out
		}
		p.Ack(got)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestAcknowledgementsMakeRoomAtMaxDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		item := noise(1000)
		in, out, p := pipe[[]byte](t, 0, atLeastOnce(t.TempDir(), hopper.MaxDisk(3<<20),
			hopper.SegmentSize(256<<10))...)
		got := 0
		stop := make(chan struct{})
		go func() {
			defer close(in)
			for i := 0; ; i++ {
				select {
				case in <- item(i):
				case <-stop:
					return
				}
			}
		}()
		for range 5 {
			for s := p.Stats(); !s.Blocked || s.InMemory+s.OnDisk > 0; s = checkStats(t, p) {
				select {
				case <-out:
					got++
				case <-time.After(time.Second):
				}
			}
			if s := checkStats(t, p); !strings.Contains(s.Reason, "MaxDisk") || s.DiskBytes > 3<<20 {
				t.Fatalf("%+v", s)
			}
			p.Ack(got)
			got = 0
			time.Sleep(10 * time.Second)
			if s := checkStats(t, p); s.Received == s.Delivered {
				t.Fatalf("with all acknowledged nothing is received: %+v", s)
			}
		}

		close(stop)
		p.Ack(got)
		for range out {
			p.Ack(1)
		}
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatCantBeEncodedIsParkedUntilItIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[any](t, 0, atLeastOnce(t.TempDir())...)
		go func() {
			for i := range 30 {
				var v any = i
				if i%10 == 5 {
					v = unknown{}
				}
				in <- v
			}
		}()
		for i := range 20 {
			v := <-out
			if _, parked := v.(unknown); parked != (i%10 == 5) {
				t.Fatalf("item %d is a %T", i, v)
			}
		}
		p.Ack(10)
		synctest.Wait()

		err := p.Close()
		receipt := (*hopper.UndeliveredError)(nil)
		if !errors.As(err, &receipt) || receipt.Kept || receipt.Unacked != 1 || receipt.Items != 1 {
			t.Errorf("Close: %v, want one item lost that was delivered and one that was not", err)
		}
		checkStats(t, p)
	})
}

func TestDeliveriesAreAcknowledgedInAnyOrder(t *testing.T) {
	dir, item := t.TempDir(), line(40)
	in, out, p := pipe[[]byte](t, 0, atLeastOnce(dir)...)
	const n = 2000
	go func() {
		defer close(in)
		for i := range n {
			in <- item(i)
		}
	}()

	var wg sync.WaitGroup
	deliveries := hopper.Deliveries(p, out)
	var seen [n]atomic.Bool
	for worker := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 0))
			var mine []hopper.Delivery[[]byte]
			for d := range deliveries {
				var i int
				fmt.Sscanf(string(d.Value), "line %d", &i)
				seen[i].Store(true)
				if mine = append(mine, d); len(mine) > 20 {
					k := r.IntN(len(mine))
					mine[k].Ack()
					mine[k].Ack() // does nothing
					mine = slices.Delete(mine, k, k+1)
				}
			}
			for _, d := range mine {
				d.Ack()
			}
		})
	}
	wg.Wait()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range seen {
		if !seen[i].Load() {
			t.Fatalf("item %d was not delivered", i)
		}
	}
}

func TestTheOldestDeliveryHoldsBackAllBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		in, out, p := pipe[uint64](t, 0, atLeastOnce(dir)...)
		go func() {
			for i := range 10 {
				in <- uint64(i)
			}
		}()
		deliveries := hopper.Deliveries(p, out)
		var all []hopper.Delivery[uint64]
		for range 9 {
			all = append(all, <-deliveries)
		}
		for _, i := range []int{0, 1, 3, 4, 8} {
			all[i].Ack()
		}
		synctest.Wait() // one is in the hand of Deliveries

		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		for d := range deliveries {
			all = append(all, d)
		}
		all[2].Ack() // too late
		if open, waiting := unacked(t, p.Wait()); open != 8 || waiting != 0 {
			t.Errorf("%d not acknowledged, %d not delivered, want 8 and 0", open, waiting)
		}

		in, out, p = pipe[uint64](t, 0, atLeastOnce(dir)...)
		close(in)
		expect(t, out, 2, 10, number)
		p.Ack(8)
		p.Wait()
	})
}

func TestDeliveriesRefuseWhatMakesNoSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, out, plain := pipe[uint64](t, 0)
		defer plain.Close()
		expectPanic(t, "without ManualAck", func() { hopper.Deliveries(plain, out) })

		_, out, open := pipe[uint64](t, 0, atLeastOnce(t.TempDir(), hopper.KeepOpen())...)
		defer open.Close()
		expectPanic(t, "KeepOpen", func() { hopper.Deliveries(open, out) })

		_, out, twice := pipe[uint64](t, 0, atLeastOnce(t.TempDir())...)
		defer twice.Close()
		hopper.Deliveries(twice, out)
		expectPanic(t, "called before", func() { hopper.Deliveries(twice, out) })
	})
}

// A kill at any moment costs, with ManualAck and SyncEvery, at most what came
// after the last sync but one had begun: the last one was asked for later, and
// covers all that came before.

func init() { children["work until killed"] = workUntilKilled }

// A diary is what a process writes down that is going to be killed: numbers, in
// the order of what happened. The diaries of a process share their moments.
type diary struct {
	f      *os.File
	moment *atomic.Uint64
}

func openDiary(path string, moment *atomic.Uint64) (diary, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return diary{f, moment}, err
}

// note notes what has happened just now.
func (d diary) note(n uint64) { d.noteAt(d.moment.Add(1), n) }

func (d diary) noteAt(moment, n uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], n)
	binary.LittleEndian.PutUint64(b[8:], moment)
	d.f.Write(b[:])
}

// A noted number is one of a diary.
type noted struct{ n, moment uint64 }

// readDiary returns what is in a diary, and removes it.
func readDiary(t *testing.T, path string) (all []noted) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for ; len(b) >= 16; b = b[16:] {
		all = append(all, noted{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])})
	}
	os.Remove(path)
	return all
}

// A notingStore notes each sync that succeeds, by the moment when it began.
type notingStore struct {
	spill.Store
	synced diary
}

func (s notingStore) Sync(ctx context.Context, acked uint64) error {
	began := s.synced.moment.Add(1)
	err := s.Store.Sync(ctx, acked)
	if err == nil {
		s.synced.noteAt(began, acked)
	}
	return err
}

// workUntilKilled sends items numbered from one on, which the file "first"
// says, and receives and acknowledges them, now faster and now more slowly. If
// the file says so they only trickle, and none is acknowledged.
func workUntilKilled(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "first"))
	if err != nil {
		return err
	}
	first, trickle := binary.LittleEndian.Uint64(b), b[8] != 0
	var diaries [4]diary
	var moment atomic.Uint64
	for i, name := range []string{"sent", "got", "acked", "synced"} {
		if diaries[i], err = openDiary(filepath.Join(dir, name), &moment); err != nil {
			return err
		}
	}
	sent, got, acked, synced := diaries[0], diaries[1], diaries[2], diaries[3]

	store := segment.New(segment.Config{
		Dir: filepath.Join(dir, "backlog"), SegmentSize: 64 << 10, MaxBytes: -1,
	})
	in, out, p, err := hopper.Make[[]byte](0, hopper.WithStore(notingStore{store, synced}),
		hopper.Resume(), hopper.ManualAck(), hopper.SyncEvery(20*time.Millisecond),
		hopper.MaxMemory(32<<10))
	if err != nil {
		return err
	}
	go func() {
		for n := first; ; n++ {
			item := binary.LittleEndian.AppendUint64(nil, n)
			in <- append(item, make([]byte, rand.IntN(400))...)
			sent.note(n)
			if trickle || rand.IntN(100) == 0 {
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			}
		}
	}()

	var open []uint64
	for item := range out {
		n := binary.LittleEndian.Uint64(item)
		got.note(n)
		open = append(open, n)
		if !trickle && len(open) > rand.IntN(60) {
			some := 1 + rand.IntN(len(open))
			p.Ack(some)
			acked.note(open[some-1])
			open = open[some:]
		}
		if rand.IntN(200) == 0 {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		}
	}
	return p.Wait()
}

func TestAKillCostsNothingThatIsOlderThanASync(t *testing.T) {
	cycles := 10
	if os.Getenv("HOPPER_SOAK") != "" {
		cycles = 5000
	}
	dir := t.TempDir()
	history := history{owed: map[uint64]bool{}}
	for cycle := 0; cycle < cycles || history.synced == 0 || history.done == 0; cycle++ {
		first := binary.LittleEndian.AppendUint64(nil, history.next)
		first = append(first, 0)
		if rand.IntN(3) == 0 {
			first[8] = 1
		}
		write(t, filepath.Join(dir, "first"), first)
		cmd := childCommand(t, "work until killed", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()

		history.check(t, cycle, readDiary(t, filepath.Join(dir, "got")))
		history.learn(t, dir)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d items sent, %d of them synced, %d acknowledged, and that synced; %d skipped in all",
		history.next, history.synced, history.done, history.skipped)
}

// A history is what is known of the processes so far that were killed.
type history struct {
	next uint64          // the number of the next item to be sent
	owed map[uint64]bool // items that were synced and not acknowledged
	done uint64          // the items below must not come back

	synced  int // items
	skipped int // items that did not come back: done, or lost and not yet synced
}

// check looks at what the last process has received: everything in order, and
// all that was owed.
func (h *history) check(t *testing.T, cycle int, got []noted) {
	t.Helper()
	if len(got) == 0 {
		return
	}
	if got[0].n < h.done {
		t.Errorf("cycle %d: item %d comes back, the acknowledgement of all below %d was synced",
			cycle, got[0].n, h.done)
	}

	expected := h.done
	for _, item := range got {
		if item.n < expected && item.n != got[0].n {
			t.Errorf("cycle %d: item %d comes after item %d", cycle, item.n, expected-1)
			return
		}
		for n := expected; n < item.n && n < h.next; n++ {
			if h.owed[n] {
				t.Errorf("cycle %d: item %d is lost, which was synced", cycle, n)
			}
			h.skipped++
		}
		expected = item.n + 1
	}
}

// learn notes what the last process has sent, acknowledged and synced.
func (h *history) learn(t *testing.T, dir string) {
	t.Helper()
	covered := uint64(0) // what happened before this moment was synced
	if syncs := readDiary(t, filepath.Join(dir, "synced")); len(syncs) > 1 {
		covered = syncs[len(syncs)-2].moment
	}

	for _, item := range readDiary(t, filepath.Join(dir, "sent")) {
		if item.moment < covered {
			h.owed[item.n] = true
			h.synced++
		}
		h.next = max(h.next, item.n+1)
	}
	h.next++ // one more may have been sent, and not noted

	last := uint64(0)
	for _, item := range readDiary(t, filepath.Join(dir, "acked")) {
		last = item.n + 1
		if item.moment < covered {
			h.done = max(h.done, last)
		}
	}
	maps.DeleteFunc(h.owed, func(n uint64, _ bool) bool { return n < last })
}

func TestSyncsCostAtMostOneWriteEachAndNoneWhileNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		in, out, p := pipe[uint64](t, 0, hopper.WithStore(m.Store()), hopper.Resume(),
			hopper.ManualAck(), hopper.SyncEvery(100*time.Millisecond))
		const seconds = 10
		for i := range 100 * seconds { // an item every 10 ms, acknowledged 5 ms later
			in <- uint64(i)
			<-out
			time.Sleep(5 * time.Millisecond)
			p.Ack(1)
			time.Sleep(5 * time.Millisecond)
		}
		appends, syncs := m.Calls(storetest.Append), m.Calls(storetest.Sync)
		if most := 10*seconds + 1; appends > most || syncs > most {
			t.Errorf("%d writes and %d syncs in %d s, want at most %d", appends, syncs, seconds, most)
		}
		time.Sleep(time.Second)
		appends, syncs = m.Calls(storetest.Append), m.Calls(storetest.Sync)

		time.Sleep(time.Hour)
		if a, s := m.Calls(storetest.Append)-appends, m.Calls(storetest.Sync)-syncs; a > 0 || s > 0 {
			t.Errorf("while nothing waits: %d writes and %d syncs", a, s)
		}

		in <- 0 // is not acknowledged
		<-out
		time.Sleep(time.Second)
		if a, s := m.Calls(storetest.Append)-appends, m.Calls(storetest.Sync)-syncs; a != 1 || s != 1 {
			t.Errorf("for one item that is not acknowledged: %d writes and %d syncs", a, s)
		}
		close(in)
		p.Ack(1)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestAFewAcknowledgementsAreSyncedInTime(t *testing.T) {
	dir, crash := t.TempDir(), t.TempDir()
	const n, done = 1000, 60
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[uint64](t, 0, atLeastOnce(dir, hopper.SyncEvery(time.Second))...)
		for i := range n {
			in <- number(i)
			<-out
		}
		time.Sleep(time.Minute)
		p.Ack(done)
		time.Sleep(2 * time.Second)
		synctest.Wait()

		if s := checkStats(t, p); s.Unacked != n-done {
			t.Errorf("%d are not acknowledged, want %d", s.Unacked, n-done)
		}
		if err := os.CopyFS(crash, os.DirFS(dir)); err != nil {
			t.Error(err)
		}
		p.Close()
	})

	synctest.Test(t, func(t *testing.T) {
		_, out, p := pipe[uint64](t, 0, atLeastOnce(crash)...)
		expect(t, out, done, n, number)
		p.Close()
	})
}

func TestStatsKnowEachAcknowledgementWhileThePumpSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[uint64](t, 0, atLeastOnce(t.TempDir())...)
		for i := range 10 {
			in <- number(i)
			<-out
		}
		time.Sleep(time.Minute)
		for left := uint64(9); left > 0; left-- {
			p.Ack(1)
			if s := checkStats(t, p); s.Unacked != left {
				t.Errorf("%d are not acknowledged, want %d", s.Unacked, left)
			}
		}
		p.Close()
	})
}

// A timer would hold it.
func TestAPumpThatHasEndedIsNotHeldByItsSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := make(chan int, 10), make(chan int)
		for i := range cap(in) { // they come into the backlog at the end
			in <- i
		}
		p, err := hopper.Pipe(out, in, hopper.Dir(t.TempDir()), hopper.Resume(),
			hopper.SyncEvery(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		ended := weak.Make(p)
		p.Close()
		p = nil

		synctest.Wait()
		runtime.GC()
		if ended.Value() != nil {
			t.Error("it is still reachable")
		}
	})
}

func TestADiskThatCannotKeepUpWithSyncsStopsTheReceiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		in, out, p := pipe[uint64](t, 0, hopper.WithStore(m.Store()), hopper.Resume(),
			hopper.SyncEvery(100*time.Millisecond))
		resume := m.Hang(storetest.Sync)
		in <- 1
		in <- 2
		time.Sleep(1050 * time.Millisecond)
		if s := checkStats(t, p); s.Blocked {
			t.Errorf("blocked too soon: %s", s.Reason)
		}
		time.Sleep(100 * time.Millisecond)
		if s := checkStats(t, p); !s.Blocked {
			t.Errorf("what is 1.1 s old is not durable, and the pump goes on receiving: %+v", s)
		}
		take(out, 2)

		resume()
		time.Sleep(time.Second)
		if s := checkStats(t, p); s.Blocked || s.BlockedFor == 0 {
			t.Errorf("when the disk has caught up: %+v", s)
		}
		close(in)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// One budget for many pipes.

func TestAGreedyPipeLeavesTheOthersOfItsBudgetTheirPart(t *testing.T) {
	const disk, modest, n = 4 << 20, 9, 1200
	budget := hopper.NewBudget(disk)
	dir := t.TempDir()
	opts := func(i int) []hopper.Option {
		return []hopper.Option{hopper.Dir(filepath.Join(dir, fmt.Sprint(i))),
			hopper.MaxMemory(8 << 10), hopper.Share(budget)}
	}
	within := func() {
		t.Helper()
		if size := dirSize(t, dir); size > disk {
			t.Errorf("the files take %d bytes of a budget of %d", size, disk)
		}
	}

	greedy, rest, g := pipe[[]byte](t, 0, opts(0)...)
	item := noise(1000)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		defer close(greedy)
		for i := 0; ; i++ {
			select {
			case greedy <- item(i):
			case <-stop:
				stopped <- i
				return
			}
		}
	}()
	eventually(t, "the greedy pipe has taken what it can get", func() bool { return g.Stats().Blocked })
	if s := checkStats(t, g); !strings.Contains(s.Reason, "Budget") {
		t.Errorf("the reason is %q", s.Reason)
	}
	within()

	var pipes sync.WaitGroup
	for i := range modest {
		in, out, p := pipe[[]byte](t, 0, opts(i+1)...)
		pipes.Go(func() {
			go func() {
				defer close(in)
				for k := range n {
					in <- item(k)
				}
			}()
			for k := range n {
				if k%300 == 0 {
					within()
				}
				<-out
			}
			expectClosed(t, out)
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	pipes.Wait()

	close(stop)
	sent := <-stopped
	expectEnd(t, g, rest, 0, sent, item)
	if budget.Usage() != 0 {
		t.Errorf("%d bytes are in use at the end", budget.Usage())
	}
}

// A pipe that was refused is woken: it does not ask again and again.
func TestAPipeThatItsBudgetRefusedGoesOnAsSoonAsAnotherHasFreedSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := hopper.NewBudget(1 << 20)
		opts := func() []hopper.Option {
			return []hopper.Option{hopper.Dir(t.TempDir()), hopper.MaxMemory(0), hopper.Share(budget)}
		}
		item := noise(1000)
		in, out, first := pipe[[]byte](t, 0, opts()...)
		sent := fillUntilBlocked(t, in, first, item)
		in2, out2, second := pipe[[]byte](t, 0, opts()...)
		sent2 := fillUntilBlocked(t, in2, second, item)
		before := second.Stats().DiskBytes

		take(out, sent) // the log asks again within a second at the latest
		synctest.Wait()
		if s := checkStats(t, second); s.Blocked || s.DiskBytes <= before {
			t.Errorf("when another has freed %d items: %+v", sent, s)
		}
		close(in)
		close(in2)
		expectClosed(t, out)
		expectEnd(t, second, out2, 0, sent2, item)
		if err := first.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// Child processes: some promises can be tested only on a process that ends.

const (
	childEnv    = "HOPPER_TEST_CHILD"
	childDirEnv = "HOPPER_TEST_CHILD_DIR"
)

// children are what the test binary may be instead, by name.
var children = map[string]func(dir string) error{}

// childCommand is the test binary as a child, run by another program if one is
// given. Its temporary directory is dir too.
func childCommand(t *testing.T, name, dir string, by ...string) *exec.Cmd {
	t.Helper()
	if children[name] == nil {
		t.Fatalf("no child %q", name)
	}
	args := append(by, os.Args[0])
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+name, childDirEnv+"="+dir, "TMPDIR="+dir)
	return cmd
}

// runChild runs a child to its end.
func runChild(t *testing.T, name, dir string) {
	t.Helper()
	if out, err := childCommand(t, name, dir).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// startChild starts a child, to be killed, and returns what it prints.
func startChild(t *testing.T, name, dir string) (lines *bufio.Scanner, kill func()) {
	t.Helper()
	cmd := childCommand(t, name, dir)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	lines = bufio.NewScanner(stdout)
	return lines, func() {
		cmd.Process.Kill()
		for lines.Scan() { // what was on its way
		}
		cmd.Wait()
	}
}

func init() { children["count"] = count }

// count sends numbers for ever, behind all that an earlier one may have sent,
// and prints those delivered.
func count(dir string) error {
	in, out := make(chan uint64), make(chan uint64)
	p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(8<<10),
		hopper.SegmentSize(64<<10), hopper.MaxDisk(512<<10))
	if err != nil {
		return err
	}
	var first uint64
	if _, err := fmt.Sscan(os.Getenv("HOPPER_TEST_CHILD_FIRST"), &first); err != nil {
		return err
	}
	fmt.Println("resumed", p.Stats().Resumed)
	go func() {
		for i := first; ; i++ {
			in <- i
		}
	}()
	for v := range out {
		fmt.Println(v)
		if v%1000 == 0 {
			time.Sleep(time.Millisecond) // a slow consumer: the subject is the backlog
		}
	}
	return nil
}

// Killed with SIGKILL at any moment, the next start delivers what was on disk:
// in order and without a gap.
func TestKilledAtAnyMomentTheBacklogOnDiskComesBack(t *testing.T) {
	t.Parallel()
	rounds := 8
	if os.Getenv("HOPPER_SOAK") != "" {
		rounds = 1000
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	next := uint64(0) // the first number that no child has sent
	for round := range rounds {
		stored := storedNumbers(t, dir)
		cmd := childCommand(t, "count", dir)
		cmd.Env = append(cmd.Env, fmt.Sprintf("HOPPER_TEST_CHILD_FIRST=%d", next))
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}

		lines := bufio.NewScanner(stdout)
		lines.Scan()
		if d := cmp.Diff(fmt.Sprint("resumed ", len(stored)), lines.Text()); d != "" {
			t.Errorf("round %d: %s", round, d)
		}
		stop := len(stored)/2 + r.IntN(20_000)
		for i := 0; i < stop && lines.Scan(); i++ {
			want := next + uint64(i-len(stored))
			if i < len(stored) {
				want = stored[i]
			}
			if d := cmp.Diff(fmt.Sprint(want), lines.Text()); d != "" {
				t.Fatalf("round %d, item %d: %s", round, i, d)
			}
		}

		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what was on its way
		}
		cmd.Wait()
		next += 10_000_000
	}
}

// storedNumbers reads what a directory holds, as verify and cat do.
func storedNumbers(t *testing.T, dir string) (numbers []uint64) {
	t.Helper()
	c, err := codec.For[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	for item, err := range segment.Items(dir) {
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Decode(item.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, v)
	}
	return numbers
}

func init() { children["hold a backlog"] = holdBacklog }

// holdBacklog keeps items on disk and in memory until it is killed.
func holdBacklog(dir string) error {
	in, out := make(chan uint64), make(chan uint64)
	p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(1<<10))
	if err != nil {
		return err
	}
	for i := 0; i < 100_000; i++ {
		in <- number(i)
	}
	take(out, 1000)
	for p.Stats().Segments == 0 {
		runtime.Gosched()
	}
	fmt.Println("holding")
	select {}
}

// Promise 14, A12.
func TestAStartAfterACrashSaysSoOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lines, kill := startChild(t, "hold a backlog", dir)
	lines.Scan()
	kill()

	const text = "without Close"
	start := func() (crashed []string, resumed uint64) {
		var log journal
		_, _, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume(), log.option())
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		return log.lines(text), p.Stats().Resumed
	}
	told, resumed := start()
	if len(told) != 1 || resumed == 0 {
		t.Fatalf("%d lines tell of the crash, %d items resumed: %q", len(told), resumed, told)
	}
	for _, want := range []string{"level=WARN", "missing", "twice", dir,
		fmt.Sprintf("items=%d", resumed)} {
		if !strings.Contains(told[0], want) {
			t.Errorf("the line lacks %q: %s", want, told[0])
		}
	}
	if told, _ := start(); len(told) > 0 {
		t.Errorf("after a stop: %q", told)
	}
}

// Promise 14: of a store, too.
func TestAStartAfterACrashOfAStoreSaysSo(t *testing.T) {
	var log journal
	m := storetest.NewMemory()
	opts := []hopper.Option{hopper.Resume(), hopper.MaxMemory(0), log.option()}
	in, _, p := pipe[[]byte](t, 0, append(opts, hopper.WithStore(m.Store()))...)
	for i := range 1000 {
		in <- line(1000)(i)
	}
	eventually(t, "some are stored", func() bool { return p.Stats().DiskBytes > 0 })
	m.Crash()
	p.Close()
	if told := log.lines("without Close"); len(told) > 0 {
		t.Errorf("before the crash: %q", told)
	}

	_, _, p = pipe[[]byte](t, 0, append(opts, hopper.WithStore(m.Store()))...)
	p.Close()
	if told := log.lines("level=WARN", "without Close"); len(told) != 1 {
		t.Errorf("%d lines tell of the crash:\n%s", len(told), &log)
	}
}

// Batches.

func TestABatchIsFullOrAsOldAsItMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[uint64](t, 0)
		go func() {
			for i := range 10 { // at once
				in <- number(i)
			}
			for i := range 5 { // and slowly
				time.Sleep(40 * time.Millisecond)
				in <- number(10 + i)
			}
			close(in)
		}()

		var got [][]uint64
		var ages []time.Duration
		start := time.Now()
		for batch := range hopper.Batches(out, 4, 100*time.Millisecond) {
			got, ages = append(got, batch), append(ages, time.Since(start))
		}

		want := [][]uint64{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}, {12, 13, 14}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("batches (-want +got):\n%s", d)
		}
		wantAges := []time.Duration{0, 0, 80 * time.Millisecond, 200 * time.Millisecond}
		if d := cmp.Diff(wantAges, ages); d != "" {
			t.Errorf("yielded after (-want +got):\n%s", d)
		}
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestABatchThatIsOldEnoughIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := make(chan int)
		go func() {
			out <- 1
			time.Sleep(time.Hour)
			close(out)
		}()

		start := time.Now()
		for batch := range hopper.Batches(out, 10, time.Second) {
			if d := time.Since(start); d != time.Second || len(batch) != 1 {
				t.Errorf("%v after %v, want [1] after a second", batch, d)
			}
		}
	})
}

func TestWithoutAWaitABatchIsWhatThereIs(t *testing.T) {
	out := make(chan int, 5)
	for i := range 5 {
		out <- i
	}
	close(out)
	var got [][]int
	for batch := range hopper.Batches(out, 3, 0) {
		got = append(got, batch)
	}
	if d := cmp.Diff([][]int{{0, 1, 2}, {3, 4}}, got); d != "" {
		t.Errorf("batches (-want +got):\n%s", d)
	}
}

func TestLeavingTheLoopOverBatchesLosesNothing(t *testing.T) {
	out := make(chan int, 10)
	for i := range 10 {
		out <- i
	}
	close(out)
	var got []int
	for batch := range hopper.Batches(out, 4, time.Minute) {
		got = append(got, batch...)
		break
	}
	for v := range out {
		got = append(got, v)
	}
	if d := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, got); d != "" {
		t.Errorf("items (-want +got):\n%s", d)
	}
}

func TestEachBatchIsTheCallersOwn(t *testing.T) {
	out := make(chan int, 4)
	for i := range 4 {
		out <- i
	}
	close(out)
	var all [][]int
	for batch := range hopper.Batches(out, 2, 0) {
		all = append(all, batch)
	}
	if d := cmp.Diff([][]int{{0, 1}, {2, 3}}, all); d != "" {
		t.Errorf("batches (-want +got):\n%s", d)
	}
}

func TestBatchesOfNoItemsPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	hopper.Batches(make(chan int), 0, time.Second)
}

// Sizes of items in memory.

// Promise 4, B3: of []byte the capacity counts.
func TestTheCapacityOfASliceCounts(t *testing.T) {
	const maxMemory = 64 << 10
	for _, c := range []struct {
		name  string
		item  func(i int) []byte
		bytes int
	}{
		{"a short slice of a larger array", func(int) []byte { return make([]byte, 100, 4096) }, 4096},
		{"the beginning of a buffer", func(int) []byte { return make([]byte, 32<<10)[:100] }, 32 << 10},
		{"an empty slice of a larger array", func(int) []byte { return make([]byte, 0, 1000) }, 1000},
		{"a slice without room", func(int) []byte { return make([]byte, 100) }, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, out, p := pipe[[]byte](t, 0, hopper.MaxMemory(maxMemory))
				const n = 500
				for i := range n {
					in <- c.item(i)
				}
				synctest.Wait()

				fits := max(1, maxMemory/(c.bytes+24))
				s := checkStats(t, p)
				if int(s.InMemory) != min(n, fits) || s.MemoryBytes != int64(s.InMemory)*int64(c.bytes+24) {
					t.Errorf("%d items in %d bytes of memory, want %d items of %d bytes",
						s.InMemory, s.MemoryBytes, min(n, fits), c.bytes+24)
				}
				close(in)
				expectEnd(t, p, out, 0, n, c.item)
			})
		})
	}
}

// B3, to the letter: the heap.
func TestSlicesOfLargeBuffersDoNotFillTheHeap(t *testing.T) {
	const maxMemory = 1 << 20
	before, _ := heap()
	in, _, p := pipe[[]byte](t, 0, hopper.MaxMemory(maxMemory))
	defer p.Close()
	for range 2000 {
		in <- make([]byte, 64<<10)[:100]
	}
	after, _ := heap()
	if grown := after - before; grown > maxMemory+3<<20 {
		t.Errorf("the heap grew by %d bytes where MaxMemory is %d", grown, maxMemory)
	}
}

// B4: other goroutines derive contexts from one that stands in waiting items.
// Measured by walking into it, that ends the process: concurrent map iteration
// and map write.
func TestAContextInAnItemIsNotWalkedInto(t *testing.T) {
	type job struct {
		ctx context.Context
		n   int
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, out, p := pipe[job](t, 0)

	var others sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				_, cancel := context.WithCancel(ctx) // a child is noted in its parent
				cancel()
			}
		})
	}
	const n = 2000
	for i := range n {
		in <- job{ctx, i}
	}
	close(done)
	others.Wait()
	close(in)

	for i := range n {
		if got := <-out; got.ctx != ctx || got.n != i {
			t.Fatalf("item %d is %+v", i, got)
		}
	}
	expectEnd(t, p, out, 0, 0, func(int) job { return job{} })
}
