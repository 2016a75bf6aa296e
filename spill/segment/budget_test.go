package segment

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"example.com/hopper/spill"
)

// members joins n stores that use so many bytes each.
func members(b *Budget, used ...int64) (all []*account, woken []*atomic.Int32) {
	for _, n := range used {
		w := new(atomic.Int32)
		a := b.join(func() { w.Add(1) })
		a.add(n)
		all, woken = append(all, a), append(woken, w)
	}
	return all, woken
}

func TestOfABudgetEachIsSureOfHalfAnEqualPart(t *testing.T) {
	for name, test := range map[string]struct {
		used  []int64 // of a budget of 1000; the first one claims
		claim int64
		want  bool
	}{
		"all of it, alone":                        {[]int64{0}, 1000, true},
		"more than all, alone":                    {[]int64{0}, 1001, false},
		"up to what the other is sure of":         {[]int64{0, 0}, 750, true},
		"what the other is sure of":               {[]int64{0, 0}, 751, false},
		"what the other has not used beyond that": {[]int64{100, 400}, 500, true},
		"more": {[]int64{100, 400}, 501, false},
		"what it is sure of, beside a greedy one": {[]int64{0, 750}, 250, true},
		"what is not there":                       {[]int64{0, 990}, 11, false},
		"its part, where the other has too much":  {[]int64{0, 990}, 10, true},
		"one of ten, beside a greedy one":         {[]int64{0, 550, 0, 0, 0, 0, 0, 0, 0, 0}, 50, true},
		"more than its part":                      {[]int64{0, 550, 0, 0, 0, 0, 0, 0, 0, 0}, 51, false},
	} {
		all, _ := members(NewBudget(1000), test.used...)
		if got := all[0].claim(test.claim); got != test.want {
			t.Errorf("%s: granted %v, want %v", name, got, test.want)
		}
	}
}

func TestWhatAStoreClaimsCountsUntilItIsSettled(t *testing.T) {
	b := NewBudget(1000)
	all, _ := members(b, 0, 0)
	if !all[0].claim(700) || all[1].claim(301) {
		t.Fatal("a claim does not count")
	}
	all[0].add(200) // of it, is written
	all[0].settle(10)
	if got := b.Usage(); got != 200 {
		t.Errorf("Usage() = %d, want 200", got)
	}
	if all[1].claim(751) || !all[1].claim(740) {
		t.Error("what was claimed and not used is not given back")
	}
}

func TestARefusedStoreIsNotifiedOnceWhenThereIsRoom(t *testing.T) {
	b := NewBudget(1000)
	all, woken := members(b, 700, 200)
	if all[1].claim(200) {
		t.Fatal("200 of 100 were granted")
	}
	for _, step := range []struct {
		free, want int64
	}{{50, 0}, {50, 1}, {100, 1}} {
		if all[0].add(-step.free); int64(woken[1].Load()) != step.want {
			t.Fatalf("%d bytes later it was notified %d times, want %d", step.free, woken[1].Load(), step.want)
		}
	}

	if !all[1].claim(200) || all[1].claim(5000) {
		t.Fatal("claims")
	}
	all[0].leave()
	if woken[0].Load() != 0 || woken[1].Load() != 1 {
		t.Errorf("a store is notified of room that is not enough")
	}
}

func TestAfterLiftEverythingIsGranted(t *testing.T) {
	b := NewBudget(10)
	all, _ := members(b, 10)
	if all[0].claim(1) {
		t.Fatal("granted")
	}
	all[0].lift()
	if !all[0].claim(100) {
		t.Error("refused after Lift")
	}
}

// Random claims from several goroutines never come to more than there is.
func TestManyStoresKeepToABudget(t *testing.T) {
	b := NewBudget(10_000)
	all, _ := members(b, make([]int64, 5)...)
	var total atomic.Int64
	var stores sync.WaitGroup
	for i, a := range all {
		stores.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			used := int64(0)
			for range 5000 {
				n := r.Int64N(500)
				switch {
				case r.IntN(3) == 0 && used > 0:
					n = min(n, used)
					used -= n
					total.Add(-n)
					a.add(-n)
				case a.claim(n):
					if got := total.Add(n); got > b.Disk() {
						t.Errorf("%d bytes are in use, of %d", got, b.Disk())
						return
					}
					used += n
					a.add(n)
					a.settle(0)
				}
			}
			total.Add(-used)
			a.leave()
		})
	}
	stores.Wait()
	if b.Usage() != 0 || len(b.members) != 0 || len(b.refused) != 0 {
		t.Errorf("%d bytes, %d members and %d refused are left", b.Usage(), len(b.members), len(b.refused))
	}
}

func TestTheBudgetCountsWhatTheFilesTake(t *testing.T) {
	b := NewBudget(64 << 10)
	dir := t.TempDir()
	s := New(Config{Dir: dir, SegmentSize: 4 << 10, MaxBytes: -1, Budget: b})
	if _, err := s.Open(t.Context(), "x", true); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if got, want := b.Usage(), sizeOfSegments(t, dir); got != want {
			t.Errorf("%s: Usage() = %d, the files take %d", when, got, want)
		}
		if got := s.Usage().Bytes; got != b.Usage() {
			t.Errorf("%s: the store takes %d, the budget says %d", when, got, b.Usage())
		}
	}

	item := make([]byte, 1000)
	rand.NewChaCha8([32]byte{}).Read(item)
	n := uint64(0)
	for {
		stored, err := s.Append(t.Context(), []*spill.Batch{spill.NewBatch("x", n, item)})
		check("after an append")
		if stored == 0 {
			if err == nil || sizeOfSegments(t, dir) < 60<<10 {
				t.Fatalf("with %d bytes: %v", b.Usage(), err)
			}
			break
		}
		n++
	}
	if err := s.Trim(t.Context(), n/2); err != nil {
		t.Fatal(err)
	}
	check("after a trim")
	if err := s.Sync(t.Context(), n/2+1); err != nil {
		t.Fatal(err)
	}
	check("after a sync")

	if err := s.Close(t.Context(), true, n/2+1, n); err != nil {
		t.Fatal(err)
	}
	if b.Usage() != 0 || sizeOfSegments(t, dir) == 0 {
		t.Errorf("after Close Usage() = %d; the files take %d", b.Usage(), sizeOfSegments(t, dir))
	}
	s = New(Config{Dir: dir, MaxBytes: -1, Budget: b})
	if _, err := s.Open(t.Context(), "x", true); err != nil {
		t.Fatal(err)
	}
	check("after it was opened again")
	if err := s.Close(t.Context(), false, n, n); err != nil {
		t.Fatal(err)
	}
}

func sizeOfSegments(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.sz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		bytes += fi.Size()
	}
	return bytes
}

// What a budget counts as it goes along is what there is.
func TestABudgetsCountsAreExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := NewBudget(10_000)
	var all []*account
	for range 10_000 {
		n := random.Int64N(2000)
		switch op := random.IntN(6); {
		case op == 0 && len(all) < 20:
			all = append(all, b.join(func() {}))
		case len(all) == 0:
		case op == 1:
			i := random.IntN(len(all))
			all[i].leave()
			all = slices.Delete(all, i, i+1)
		case op == 2:
			a := all[random.IntN(len(all))]
			a.add(n - min(1000, a.used))
		case op == 3:
			all[random.IntN(len(all))].settle(n)
		default:
			all[random.IntN(len(all))].claim(n)
		}

		taken, secured := b.taken, b.secured
		if b.countLocked(); taken != b.taken || secured != b.secured {
			t.Fatalf("counted %d and %d, there are %d and %d", taken, secured, b.taken, b.secured)
		}
	}
}

// BenchmarkBudget is a claim while a thousand stores wait for what is taken.
func BenchmarkBudget(b *testing.B) {
	budget := NewBudget(1 << 20)
	var all []*account
	for range 1000 {
		all = append(all, budget.join(func() {}))
	}
	for _, a := range all {
		a.add(budget.disk / 1000)
	}
	for i := 0; b.Loop(); i++ {
		all[i%1000].claim(64 << 10)
	}
}
