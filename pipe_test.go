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
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper"
	"example.com/hopper/codec"
	"example.com/hopper/spill"
	"example.com/hopper/spill/segment"
)

var _ expvar.Var = (*hopper.Pump)(nil)

// pipe starts a pump between two new channels.
func pipe[T any](t *testing.T, capacity int, opts ...hopper.Option) (chan<- T, <-chan T, *hopper.Pump) {
	t.Helper()
	in, out := make(chan T, capacity), make(chan T, capacity)
	p, err := hopper.Pipe(out, in, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return in, out, p
}

// checkStats fails unless the conservation equation holds in a snapshot.
func checkStats(t *testing.T, p *hopper.Pump) hopper.Stats {
	t.Helper()
	s := p.Stats()
	if s.Received+s.Resumed != s.Delivered+s.InMemory+s.OnDisk+s.Lost {
		t.Fatalf("Received + Resumed != Delivered + InMemory + OnDisk + Lost in %+v", s)
	}
	return s
}

// fill sends items until in blocks for good, and returns their number. It is to be called in a bubble.
func fill[T any](t *testing.T, in chan<- T, next func(i int) T) (n int) {
	t.Helper()
	for {
		select {
		case in <- next(n):
			n++
			continue
		default:
		}
		time.Sleep(time.Millisecond) // of the bubble: longer than out is waited for
		synctest.Wait()
		select {
		case in <- next(n):
			n++
		default:
			return n
		}
	}
}

// expect receives n items and compares each with what it should be.
func expect[T any](t *testing.T, out <-chan T, from, to int, want func(i int) T) {
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

func expectClosed[T any](t *testing.T, out <-chan T) {
	t.Helper()
	if v, ok := <-out; ok {
		t.Fatalf("got %v where out should be closed", v)
	}
}

func line(size int) func(i int) []byte {
	return func(i int) []byte {
		b := bytes.Repeat([]byte{'.'}, size)
		copy(b, fmt.Sprintf("line %d of a log", i))
		return b
	}
}

func number(i int) uint64 { return uint64(i) }

func files(t *testing.T, dir string) (names []string) {
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

// Promise 1.
func TestItemsLeaveInTheOrderReceivedThroughMemoryAndDisk(t *testing.T) {
	for _, capacity := range []int{0, 1, 64} {
		for _, memory := range []int64{0, 100, 8 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("cap=%d/memory=%d", capacity, memory), func(t *testing.T) {
				const n = 60_000
				in, out, p := pipe[uint64](t, capacity, hopper.MaxMemory(memory), hopper.SegmentSize(32<<10))
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
				expectClosed(t, out)
				if err := p.Wait(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// Promise 2.
func TestTheEquationHoldsInEverySnapshot(t *testing.T) {
	const n = 200_000
	in, out, p := pipe[uint64](t, 16, hopper.MaxMemory(4<<10))
	var watchers sync.WaitGroup
	for range 2 {
		watchers.Go(func() {
			var before hopper.Stats
			for {
				s := checkStats(t, p)
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
		})
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

// Promise 2, at every point at which a pump can be stopped.
func TestNothingIsLostWhereverThePumpIsStopped(t *testing.T) {
	const n = 40
	for at := range n {
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
				s := checkStats(t, p)
				left := uint64(at - at/3)
				if s.InMemory != 0 || s.OnDisk+s.Lost != left {
					t.Fatalf("%d items left after Close: %+v", left, s)
				}
				expectClosed(t, out)
				if !resume {
					if wantErr := left > 0; wantErr != (err != nil) {
						t.Fatalf("Close with %d items left: %v", left, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				in, out, p = pipe[uint64](t, 0, opts...)
				if s := checkStats(t, p); s.Resumed != left {
					t.Fatalf("resumed %d of %d items", s.Resumed, left)
				}
				in2 := in
				go func() { in2 <- number(at); close(in2) }()
				expect(t, out, at/3, at+1, number)
				expectClosed(t, out)
				if err := p.Wait(); err != nil {
					t.Fatal(err)
				}
			})
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
				if err := p.Wait(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// Promise 4.
func TestWaitingItemsTakeAtMostMaxMemory(t *testing.T) {
	const maxMemory, header = 64 << 10, 24
	for _, size := range []int{0, 1, 100, 5000, maxMemory - header, maxMemory - header + 1, 200 << 10} {
		t.Run(fmt.Sprintf("size=%d", size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, out, p := pipe[[]byte](t, 0, hopper.MaxMemory(maxMemory))
				item := line(size)
				n := min(20_000, (8<<20)/(size+header))
				for i := range n {
					in <- item(i)
				}
				synctest.Wait()
				s := checkStats(t, p)
				fits := min(n, maxMemory/(size+header))
				if fits == 0 {
					fits = 1 // the head
				}
				if int(s.InMemory) != fits || s.MemoryBytes != int64(fits*(size+header)) {
					t.Errorf("%d items in %d bytes of memory, want %d items of %d bytes", s.InMemory, s.MemoryBytes, fits, size+header)
				}
				close(in)
				expect(t, out, 0, n, item)
				expectClosed(t, out)
			})
		})
	}
}

// Promise 4: whatever the backlog.
func TestTheHeapStaysFlatWhileTheBacklogGrows(t *testing.T) {
	const n, size = 300_000, 256
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	in, out, p := pipe[[]byte](t, 0)
	item := line(size)
	for i := range n {
		in <- item(i)
	}
	if grown := int64(heap()) - int64(before); grown > 5<<20 {
		t.Errorf("the heap grew by %d bytes with %+v", grown, p.Stats())
	}
	close(in)
	expect(t, out, 0, n, item)
	expectClosed(t, out)
}

// Promise 5.
func TestAtMaxDiskThePumpStopsReceivingAndGoesOnDelivering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxDisk = 256 << 10
		dir := t.TempDir()
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxDisk(maxDisk), hopper.MaxMemory(4<<10))
		item := func(i int) []byte { // does not compress
			b, r := make([]byte, 1000), rand.New(rand.NewPCG(uint64(i), 0))
			for k := range b {
				b[k] = byte(r.Uint32())
			}
			return b
		}
		sent, got := 0, 0
		for range 5 {
			sent += fill(t, in, func(i int) []byte { return item(sent + i) })
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
		expect(t, out, got, sent, item)
		expectClosed(t, out)
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}

func dirSize(t *testing.T, dir string) (size int64) {
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

// Promise 5, where the file system itself is full.
func TestOnAFullFileSystemEveryItemAcceptedComesOut(t *testing.T) {
	dir := mountTmpfs(t, "1m")
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(filepath.Join(dir, "q")), hopper.KeepFree(0), hopper.MaxMemory(4<<10),
			hopper.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		item := noise(1000)
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		sent := fill(t, in, item)
		if s := checkStats(t, p); !s.Blocked {
			t.Fatalf("in blocks at %+v", s)
		}
		if !strings.Contains(log.String(), "no space left on device") {
			t.Fatalf("no ENOSPC in the log:\n%s", log.String())
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // in the bubble's time: it goes on by itself
		more := fill(t, in, func(i int) []byte { return item(sent + i) })
		if more < 100 {
			t.Errorf("only %d items went in after room came back", more)
		}
		sent += more
		close(in)
		expect(t, out, 0, sent, item)
		expectClosed(t, out)
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	})
	if names := files(t, filepath.Join(dir, "q")); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

// A lockedBuffer is a bytes.Buffer that several goroutines use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// noise makes items that don't compress.
func noise(size int) func(i int) []byte {
	return func(i int) []byte {
		b, r := make([]byte, size), rand.New(rand.NewPCG(uint64(i), 1))
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		return b
	}
}

// Promise 6, with a file system that is frozen: whatever writes to it hangs.
func TestAHungDiskDelaysNeitherDeliveryNorStatsNorClose(t *testing.T) {
	dir, freeze, thaw := mountFreezable(t)
	in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxMemory(64<<10), hopper.KeepFree(0))
	item := line(1000)
	freeze()
	defer thaw()
	sent := 0
	for timeout := time.After(5 * time.Second); ; sent++ { // until the pump is blocked by the disk
		select {
		case in <- item(sent):
			continue
		case <-timeout:
			t.Fatal("the pump goes on receiving")
		default:
		}
		if checkStats(t, p).Blocked {
			break
		}
		runtime.Gosched()
		sent--
	}
	expect(t, out, 0, sent/2, item)
	for checkStats(t, p).Delivered < uint64(sent/2) {
		runtime.Gosched() // the snapshot is of some moments ago
	}
	start := time.Now()
	err := p.Close()
	var left *hopper.UndeliveredError
	if !errors.As(err, &left) || left.Items == 0 {
		t.Errorf("Close: %v", err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("Close took %v", d)
	}
}

// Promise 7.
func TestClosingInDeliversEverythingThenClosesOut(t *testing.T) {
	for _, n := range []int{0, 1, 10, 100_000} {
		in, out, p := pipe[uint64](t, 1, hopper.MaxMemory(1<<10))
		for i := range n {
			in <- number(i)
		}
		close(in)
		expect(t, out, 0, n, number)
		expectClosed(t, out)
		if err := p.Wait(); err != nil {
			t.Errorf("Wait after %d items: %v", n, err)
		}
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
	make1 := func(i int) *tree {
		return &tree{Name: fmt.Sprint(i), Children: []*tree{{Name: "child"}}, Empty: []byte{}}
	}
	for _, memory := range []int64{0, 1 << 20} {
		in, out, p := pipe[*tree](t, 0, hopper.MaxMemory(memory))
		var sent []*tree
		for i := range 100 {
			sent = append(sent, make1(i))
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
				in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(16), hopper.WithCodec(moody{fault}))
				sent := fill(t, in, number)
				if sent != 8 {
					t.Fatalf("%d items went in, want 8: up to the one that can't be encoded", sent)
				}
				if s := checkStats(t, p); !s.Blocked || s.Received != 8 {
					t.Errorf("%+v", s)
				}
				go func() {
					for i := sent; i < 1000; i++ {
						in <- number(i)
					}
					close(in)
				}()
				expect(t, out, 0, 1000, number)
				expectClosed(t, out)
				if err := p.Wait(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// picky is a codec that can't decode some items.
type picky struct{ codec.Codec[uint64] }

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

// What waits in front of an item that can't be decoded is kept by its own number.
func TestAnItemThatCantBeDecodedCostsNoOtherWhenThePumpIsStopped(t *testing.T) {
	plain, err := codec.For[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	for got := range 60 {
		dir := t.TempDir()
		opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(64), hopper.WithCodec(picky{plain}), hopper.SkipUndecodable()}
		in, out, p := pipe[uint64](t, 0, opts...)
		for i := range 60 {
			in <- number(i)
		}
		want := func(i int) uint64 { // 50 and 51 are passed over, once they have been in the log
			if i >= 50 {
				i += 2
			}
			return uint64(i)
		}
		expect(t, out, 0, min(got, 58), want)
		p.Close()
		_, out, p = pipe[uint64](t, 0, opts...)
		expect(t, out, min(got, 58), 58, want)
		p.Close()
	}
}

func TestAnItemThatCantBeDecodedIsReportedAndTheRestGoesOn(t *testing.T) {
	plain, err := codec.For[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(0), hopper.WithCodec(picky{plain}))
	for i := range 1000 {
		in <- number(i)
	}
	close(in)
	for i := range 1000 {
		if i%100 != 50 && i%100 != 51 {
			expect(t, out, i, i+1, number)
		}
	}
	expectClosed(t, out)
	err = p.Wait()
	var corrupt *spill.CorruptError
	if !errors.As(err, &corrupt) || corrupt.First != 50 || corrupt.Items != 1 || !errors.Is(err, spill.ErrCorrupt) {
		t.Errorf("Wait: %v", err)
	}
	if s := checkStats(t, p); s.Lost != 20 {
		t.Errorf("%+v", s)
	}
}

// The pump must notice that nothing waits any more, though nothing was delivered.
func TestAPumpEndsWhenTheLastItemsCantBeDecoded(t *testing.T) {
	plain, err := codec.For[uint64]()
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(p *hopper.Pump, in chan<- uint64){
		"close(in)": func(p *hopper.Pump, in chan<- uint64) { close(in) },
		"Shutdown":  func(p *hopper.Pump, in chan<- uint64) { go p.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(0), hopper.WithCodec(picky{plain}))
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

// Promise 10.
func TestTheDiskIsGivenBackAsItemsAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.SegmentSize(64<<10), hopper.MaxMemory(8<<10))
		item := noise(1000)
		const n = 4000
		for i := range n {
			in <- item(i)
		}
		synctest.Wait()
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
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new", "dir")
		in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.MaxMemory(0))
		item := noise(1000)
		for i := range 2000 {
			in <- item(i)
		}
		synctest.Wait()
		names := files(t, dir)
		if len(names) == 0 {
			t.Fatal("nothing on disk")
		}
		if runtime.GOOS != "windows" {
			for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Dir(dir): 0o700, filepath.Join(dir, names[0]): 0o600} {
				fi, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if got := fi.Mode().Perm(); got != want {
					t.Errorf("%s has mode %o, want %o", path, got, want)
				}
			}
		}
		close(in)
		expect(t, out, 0, 2000, item)
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheTemporaryDirectoryIsRemovedAtTheEnd(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, end := range []string{"drain", "close"} {
		in, out, p := pipe[uint64](t, 0, hopper.MaxMemory(0))
		for i := range 200_000 {
			in <- number(i)
		}
		if len(files(t, tmp)) != 1 {
			t.Fatalf("%q: want one directory", files(t, tmp))
		}
		if end == "drain" {
			close(in)
			expect(t, out, 0, 200_000, number)
			expectClosed(t, out)
			<-p.Done()
		} else if err := p.Close(); err == nil {
			t.Error("Close says nothing of the items that are lost")
		}
		if names := files(t, tmp); len(names) > 0 {
			t.Errorf("%s: left behind: %q", end, names)
		}
	}
}

func TestPipeRefusesWhatMakesNoSense(t *testing.T) {
	type withFunc struct {
		Name string
		cb   func()
	}
	_ = withFunc{cb: func() {}}
	ch := make(chan int)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(opts ...hopper.Option) error {
		p, err := hopper.Pipe(make(chan int), make(chan int), opts...)
		if err == nil {
			p.Close()
		}
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nil out":          {second(hopper.Pipe(nil, ch)), "out is a nil channel"},
		"nil in":           {second(hopper.Pipe(ch, nil)), "in is a nil channel"},
		"one channel":      {second(hopper.Pipe(ch, ch)), "the same channel"},
		"nil context":      {second(hopper.PipeContext[int](nil, make(chan int), ch)), "nil context"}, //lint:ignore SA1012 the point of the test
		"negative memory":  {start(hopper.MaxMemory(-1)), "MaxMemory(-1)"},
		"negative disk":    {start(hopper.MaxDisk(-2)), "MaxDisk(-2)"},
		"negative free":    {start(hopper.KeepFree(-3)), "KeepFree(-3)"},
		"negative segment": {start(hopper.SegmentSize(-4)), "SegmentSize(-4)"},
		"resume, no dir":   {start(hopper.Resume()), "Resume needs Dir"},
		"empty dir":        {start(hopper.Dir("")), `Dir("")`},
		"dir is a file":    {start(hopper.Dir(file)), "not a directory"},
		"dir under a file": {start(hopper.Dir(filepath.Join(file, "x"))), "not a directory"},
		"codec of other T": {start(hopper.WithCodec(codec.Bytes{})), "does not fit a channel of int"},
		"nil codec":        {start(hopper.WithCodec[int](nil)), "WithCodec(nil)"},
		"nil logger":       {start(hopper.WithLogger(nil)), "WithLogger(nil)"},
		"zero option":      {start(hopper.Option{}), "zero Option"},
		"func in T":        {second(hopper.Pipe(make(chan withFunc), make(chan withFunc))), "codec: withFunc.cb is a func(), which is no data"},
		"T is a func":      {second(hopper.Pipe(make(chan func()), make(chan func()))), "func()"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, c.err, c.want)
		}
	}
}

func second(_ *hopper.Pump, err error) error { return err }

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
			err = p.Wait()
			var left *hopper.UndeliveredError
			if !errors.Is(err, hopper.ErrOutClosed) || !errors.As(err, &left) || !left.Kept || left.Items != uint64(prior) {
				t.Fatalf("Wait: %v, want ErrOutClosed and %d items kept", err, prior)
			}
			checkStats(t, p)
			_, again, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
			expect(t, again, 0, prior, number)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
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
		var left *hopper.UndeliveredError
		if err := p.Wait(); !errors.Is(err, hopper.ErrOutClosed) || !errors.As(err, &left) || !left.Kept || left.Items != 10 || len(in) != 0 {
			t.Fatalf("Wait: %v, and %d items not received; want ErrOutClosed, 10 items kept and none not received", err, len(in))
		}
		_, again, p := pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
		expect(t, again, 0, 10, number)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
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
		var left *hopper.UndeliveredError
		if !errors.Is(err, hopper.ErrStopped) || !errors.Is(err, cause) || !errors.As(err, &left) || left.Items != 1 || left.Kept {
			t.Errorf("Wait: %v", err)
		}
		expectClosed(t, out)
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
			var left *hopper.UndeliveredError
			if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &left) || left.Items != 70 {
				t.Errorf("Shutdown: %v", err)
			}
			if s := checkStats(t, p); s.Delivered != 30 || s.Lost != 70 {
				t.Errorf("%+v", s)
			}
		})
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

func TestResumeDeliversTheBacklogFirst(t *testing.T) {
	for _, memory := range []int64{0, 1 << 10, 1 << 20} {
		for _, n := range []int{1, 100, 30_000} {
			t.Run(fmt.Sprintf("memory=%d/n=%d", memory, n), func(t *testing.T) {
				opts := []hopper.Option{hopper.Dir(t.TempDir()), hopper.Resume(), hopper.MaxMemory(memory), hopper.SegmentSize(32 << 10)}
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
				expect(t, out, got, sent, item)
				expectClosed(t, out)
				if err := p.Wait(); err != nil {
					t.Error(err)
				}
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
	if err == nil || !strings.Contains(err.Error(), "uint64") || !strings.Contains(err.Error(), "string") {
		t.Errorf("Pipe: %v, want an error that names uint64 and string", err)
	}
	if _, err := hopper.Pipe(make(chan uint64), make(chan uint64), hopper.Dir(dir)); !errors.Is(err, spill.ErrNotResumed) {
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

func TestItemsOfEverySizeComeThrough(t *testing.T) {
	sizes := []int{0, 1, 127, 128, 1000, 65_000, 65_500, 65_508, 65_509, 65_510, 65_511, 65_512, 65_513, 65_536, 131_024, 131_025, 1 << 20, 3 << 20, 0, 5}
	for _, opts := range [][]hopper.Option{
		{hopper.MaxMemory(0)},
		{hopper.MaxMemory(100 << 10)},
		{hopper.MaxMemory(0), hopper.SegmentSize(1)},
		{hopper.MaxMemory(0), hopper.SegmentSize(1 << 20), hopper.MaxDisk(2 << 20)},
		{hopper.MaxMemory(0), hopper.MaxDisk(0)},
		{hopper.MaxMemory(0), hopper.MaxDisk(100 << 10)},
	} {
		in, out, p := pipe[[]byte](t, 0, opts...)
		item := func(i int) []byte { return noise(sizes[i%len(sizes)])(i) }
		n := 3 * len(sizes)
		go func() {
			for i := range n {
				in <- item(i)
			}
			close(in)
		}()
		expect(t, out, 0, n, item)
		expectClosed(t, out)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
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

func TestStringIsStatsAsJSON(t *testing.T) {
	in, _, p := pipe[int](t, 0)
	defer p.Close()
	in <- 1
	var s hopper.Stats
	if err := json.Unmarshal([]byte(p.String()), &s); err != nil {
		t.Fatal(err)
	}
}

func TestDamageOnDiskIsReportedExactlyAndTheRestGoesOn(t *testing.T) {
	dir := t.TempDir()
	opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(0)}
	in, _, p := pipe[[]byte](t, 0, opts...)
	item := noise(1000)
	const n = 1000
	for i := range n {
		in <- item(i)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	names := files(t, dir)
	i := slices.IndexFunc(names, func(s string) bool { return strings.HasSuffix(s, ".sz") && dirSize(t, filepath.Join(dir, s)) > 500_000 })
	path := filepath.Join(dir, names[i])
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
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
	var want [][]byte
	for i := range n {
		if uint64(i) < damage.First || uint64(i) >= damage.First+damage.Items {
			want = append(want, item(i))
		}
	}
	if d := cmp.Diff(len(want), len(got)); d != "" {
		t.Fatal(d)
	}
	for i := range want {
		if !bytes.Equal(want[i], got[i]) {
			t.Fatalf("item %d differs", i)
		}
	}
	if s := checkStats(t, p); s.Lost != damage.Items {
		t.Errorf("%+v, %d items lost", s, damage.Items)
	}
}

// command runs a program that the test needs, and skips the test where it can't be run.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Skipf("skipped: needs root on Linux and %s: %v: %s", name, err, out)
	}
}

// mountTmpfs mounts a small file system for the duration of the test.
func mountTmpfs(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	return dir
}

// mountFreezable mounts a file system on which freeze makes every write hang until thaw.
func mountFreezable(t *testing.T) (dir string, freeze, thaw func()) {
	t.Helper()
	dir = t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	command(t, "truncate", "-s", "64M", image)
	command(t, "mkfs.ext4", "-q", "-F", image)
	command(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	freeze = func() { command(t, "fsfreeze", "-f", dir) }
	thaw = func() { exec.Command("fsfreeze", "-u", dir).Run() }
	return dir, freeze, thaw
}

// reallocating appends as the contract allows, to a buffer of its own.
type reallocating struct{}

func (reallocating) Append(dst []byte, v []byte) ([]byte, error) { return slices.Concat(dst, v), nil }
func (reallocating) Decode(src []byte) ([]byte, error)           { return bytes.Clone(src), nil }

func TestACodecMayReallocate(t *testing.T) {
	const n = 200
	item := line(40 << 10)
	in, out, p := pipe[[]byte](t, n, hopper.WithCodec(reallocating{}), hopper.MaxMemory(0))
	for i := range 2 * n { // half of them through the log
		in <- item(i)
	}
	close(in)
	expect(t, out, 0, 2*n, item)
	expectClosed(t, out)
	if err := p.Wait(); err != nil {
		t.Error(err)
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
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000010.sz"), []byte("nothing that anybody understands"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, out, p = pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	in <- 10 // its number does not follow those of the others
	expect(t, out, 0, 5, number)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	in, out, p = pipe[uint64](t, 0, hopper.Dir(dir), hopper.Resume())
	close(in)
	expect(t, out, 5, 11, number)
	expectClosed(t, out)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAStopKeepsMaxDisk(t *testing.T) {
	t.Run("of items that are small beside their lengths", func(t *testing.T) {
		keepsMaxDisk(t, 1<<20, func(i int) byte { return noise(1)(i)[0] }, 0)
	})
	t.Run("with items taken from the log's memory", func(t *testing.T) {
		keepsMaxDisk(t, 160<<10, noise(1<<10), 2, hopper.MaxMemory(0))
	})
}

// keepsMaxDisk stops a pump that has received as much as it would, again after some was delivered.
func keepsMaxDisk[T any](t *testing.T, maxDisk int64, item func(i int) T, delivered int, opts ...hopper.Option) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		in, out, p := pipe[T](t, 0, append(opts, hopper.Dir(dir), hopper.Resume(), hopper.MaxDisk(maxDisk))...)
		fill(t, in, item)
		for range delivered {
			<-out
		}
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
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		opts := []hopper.Option{hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(80), hopper.WithCodec(fickle{5})}
		in, _, p := pipe[uint64](t, 0, opts...)
		for i := range 20 { // ten of them stay in the window
			in <- number(i)
		}
		var lost *hopper.UndeliveredError
		if err := p.Close(); !errors.As(err, &lost) || lost.Items != 1 || lost.Kept {
			t.Fatalf("Close: %v, want 1 item lost", err)
		}
		in, out, p := pipe[uint64](t, 0, opts...)
		close(in)
		expect(t, out, 0, 5, number)
		expect(t, out, 6, 20, number)
		if s := checkStats(t, p); s.Resumed != 20 || s.Lost != 1 || p.Wait() != nil {
			t.Errorf("%+v, %v", s, p.Wait())
		}
	})
}

func ExamplePipe() {
	type Event struct {
		ID   int
		Text string
	}
	in := make(chan Event, 16)  // producers send here
	out := make(chan Event, 16) // and the consumer, which used to range over in, here

	pump, err := hopper.Pipe(out, in) // the destination comes first
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for i := range 3 {
			in <- Event{i, "hello"} // does not wait for the consumer
		}
		close(in)
	}()
	for e := range out {
		fmt.Println(e.ID, e.Text)
	}
	if err := pump.Wait(); err != nil { // nil: everything was delivered
		log.Fatal(err)
	}
	// Output:
	// 0 hello
	// 1 hello
	// 2 hello
}

// A service that sheds load, but only when disk and memory are full.
func ExamplePipe_shedding() {
	in, out := make(chan string, 64), make(chan string)
	pump, err := hopper.Pipe(out, in, hopper.MaxMemory(64<<10), hopper.MaxDisk(1<<20))
	if err != nil {
		log.Fatal(err)
	}
	accepted, shed := 0, 0
	for range 100_000 {
		select {
		case in <- strings.Repeat("x", 1000):
			accepted++
		default: // in is full, since the pump is at a limit
			shed++
		}
	}
	close(in)
	received := 0
	for range out {
		received++
	}
	fmt.Println(accepted+shed, received == accepted, pump.Wait())
	// Output: 100000 true <nil>
}

func ExamplePump_Shutdown() {
	in, out := make(chan int), make(chan int)
	pump, err := hopper.Pipe(out, in)
	if err != nil {
		log.Fatal(err)
	}
	in <- 1
	in <- 2
	fmt.Println("got", <-out)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err = pump.Shutdown(ctx) // nobody receives the second item in time
	var left *hopper.UndeliveredError
	if errors.As(err, &left) {
		fmt.Println("undelivered:", left.Items, "kept:", left.Kept)
	}
	// Output:
	// got 1
	// undelivered: 1 kept: false
}

func ExampleResume() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	in, out := make(chan string), make(chan string)
	pump, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume())
	if err != nil {
		log.Fatal(err)
	}
	in <- "first"
	in <- "second"
	fmt.Println("close:", pump.Close()) // nil: nothing is lost

	// The next start of the program.
	in, out = make(chan string), make(chan string)
	pump, err = hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume())
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		in <- "third"
		close(in)
	}()
	for s := range out {
		fmt.Println(s)
	}
	fmt.Println("wait:", pump.Wait())
	// Output:
	// close: <nil>
	// first
	// second
	// third
	// wait: <nil>
}

// Restarts near the cap: what a stop keeps fits under MaxDisk too.
func TestTheCapHoldsThroughAHundredRestarts(t *testing.T) {
	const maxDisk = 128 << 10
	dir := t.TempDir()
	item := noise(500)
	sent, got := 0, 0
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			in, out, p := pipe[[]byte](t, 0, hopper.Dir(dir), hopper.Resume(), hopper.MaxDisk(maxDisk), hopper.MaxMemory(16<<10))
			sent += fill(t, in, func(i int) []byte { return item(sent + i) })
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
	expect(t, out, got, sent, item)
	expectClosed(t, out)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestMain lets the test binary be the process that TestKilledAtAnyMoment kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HOPPER_TEST_CHILD_DIR"); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child sends numbers for ever from the one on, and prints those delivered.
func child(dir string) {
	in, out := make(chan uint64), make(chan uint64)
	p, err := hopper.Pipe(out, in, hopper.Dir(dir), hopper.Resume(), hopper.MaxMemory(8<<10), hopper.SegmentSize(64<<10), hopper.MaxDisk(512<<10))
	if err != nil {
		log.Fatal(err)
	}
	var first uint64
	if _, err := fmt.Sscan(os.Getenv("HOPPER_TEST_CHILD_FIRST"), &first); err != nil {
		log.Fatal(err)
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
}

// Killed with SIGKILL at any moment, the next start delivers what was on disk: in order, without a gap, and
// of what had been delivered before no more than a segment and the window.
func TestKilledAtAnyMomentTheBacklogOnDiskComesBack(t *testing.T) {
	rounds := 15
	if os.Getenv("HOPPER_SOAK") != "" {
		rounds = 1000
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	next := uint64(0) // the first number that no child has sent
	for round := range rounds {
		stored := storedNumbers(t, dir)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HOPPER_TEST_CHILD_DIR="+dir, fmt.Sprintf("HOPPER_TEST_CHILD_FIRST=%d", next))
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(pipe)
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
