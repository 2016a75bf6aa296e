package backlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/hopper/spill"
	"example.com/hopper/spill/storetest"
)

// text is a codec of strings that refuses, panics or misbehaves where the
// string says so.
type text struct{}

func (text) Append(dst []byte, v string) ([]byte, error) {
	switch {
	case strings.HasPrefix(v, "refuse"):
		return dst, errors.New("refused")
	case strings.HasPrefix(v, "panic"):
		panic("no luck")
	case strings.HasPrefix(v, "shorter"):
		return dst[:0], nil
	case strings.HasPrefix(v, "other"):
		return append(make([]byte, len(dst)), v...), nil
	}
	return append(dst, v...), nil
}

func (text) Decode(src []byte) (string, error) {
	if strings.HasPrefix(string(src), "unreadable") {
		return "", errors.New("unreadable")
	}
	return string(src), nil
}

// open opens a backlog of strings of which none stays in the window.
func open(t *testing.T, m *storetest.Memory, change func(*Config[string])) *Backlog[string] {
	t.Helper()
	cfg := Config[string]{Codec: text{}, Keep: true, Logger: slog.New(slog.DiscardHandler), Start: time.Now()}
	if change != nil {
		change(&cfg)
	}

	log, found, err := spill.Open(t.Context(), spill.Config{
		Store: m.Store(), Label: "text", Keep: cfg.Keep, Wake: make(chan struct{}, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log, cfg.Found = log, found
	return New(cfg)
}

// take returns what comes out of the backlog until it is empty or broken.
func take(b *Backlog[string]) (got []string) {
	for !b.Empty() && b.Err() == nil {
		if head := b.Head(); head != nil {
			got = append(got, *head)
			b.Pop(1)
		} else {
			synctest.Wait() // for the log to read
		}
	}
	return got
}

func pushAll(b *Backlog[string], items ...string) {
	for _, v := range items {
		b.Push(v)
	}
}

// bubble runs f in a bubble, and checks the equation at its end.
func bubble(t *testing.T, f func(t *testing.T) *Backlog[string]) {
	synctest.Test(t, func(t *testing.T) {
		b := f(t)
		got := b.Tally()
		if got.Received+got.Resumed != got.Delivered+got.InMemory+got.OnDisk+got.Lost {
			t.Errorf("the equation does not hold: %+v", got)
		}
	})
}

func TestWhatACodecWontEncodeComesOutInItsPlace(t *testing.T) {
	items := []string{"a", "refuse", "b", "panic", "shorter", "other than given", "c", "refuse again"}
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), nil)
		pushAll(b, items...)
		if got := b.Tally(); got.InMemory != 5 || got.OnDisk != 3 || got.Spilled != 3 {
			t.Errorf("%+v, want 5 items in memory and 3 in the log", got)
		}
		if d := cmp.Diff(items, take(b)); d != "" {
			t.Errorf("items (-want +got):\n%s", d)
		}
		if got := b.Tally(); got.MemoryBytes != 0 || got.Delivered != 8 {
			t.Errorf("%+v, want nothing left", got)
		}
		b.Close(t.Context())
		return b
	})
}

func TestParkedItemsThatFillTheMemoryStopReceiving(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), func(c *Config[string]) { c.MaxMemory = 1000; c.MayPark = true })
		pushAll(b, strings.Repeat("x", 700), strings.Repeat("y", 100)) // the second is past three quarters
		if got := b.Tally(); got.InMemory != 1 || got.OnDisk != 1 || !b.Room() {
			t.Errorf("%+v, room %v, want one item in memory, one in the log, and room", got, b.Room())
		}

		for b.Room() {
			b.Push("refuse " + strings.Repeat("z", 50))
		}
		var full *ParkedError
		if err := b.Refusal(); !errors.As(err, &full) || full.Items != b.lot.len() || full.Unwrap() == nil {
			t.Errorf("Refusal: %v", err)
		}
		if n := b.lot.len(); n < 2 || n > 4 {
			t.Errorf("%d items are parked beside 716 bytes of 1000", n)
		}
		for range 2 {
			b.Head()
			b.Pop(1)
		}
		if !b.Room() || b.Refusal() != nil {
			t.Errorf("no room after deliveries: %v", b.Refusal())
		}
		b.Close(t.Context())
		return b
	})
}

func TestAnItemThatCantBeDecoded(t *testing.T) {
	items := []string{"a", "unreadable 1", "b", "unreadable 2", "unreadable 3", "c"}
	for _, test := range []struct {
		keep, skip bool
		want       []string
		lost       uint64
	}{
		{keep: true, want: []string{"a"}},
		{keep: true, skip: true, want: []string{"a", "b", "c"}, lost: 3},
		{want: []string{"a", "b", "c"}, lost: 3},
	} {
		t.Run(fmt.Sprintf("keep %v, skip %v", test.keep, test.skip), func(t *testing.T) {
			bubble(t, func(t *testing.T) *Backlog[string] {
				m := storetest.NewMemory()
				b := open(t, m, func(c *Config[string]) { c.Keep, c.Skip = test.keep, test.skip })
				pushAll(b, items...)
				if d := cmp.Diff(test.want, take(b)); d != "" {
					t.Errorf("items (-want +got):\n%s", d)
				}
				if got := b.Tally().Lost; got != test.lost || len(b.Losses()) != int(test.lost) {
					t.Errorf("%d items are lost, want %d: %v", got, test.lost, b.Losses())
				}

				var broken *DecodeError
				if ends := test.lost == 0; errors.As(b.Err(), &broken) != ends || ends && broken.Seq != 1 {
					t.Errorf("Err: %v", b.Err())
				}
				end := b.Close(t.Context())
				if want := uint64(len(items)-len(test.want)) - test.lost; end.Kept.Waiting != want || end.Lost != (Undelivered{}) {
					t.Errorf("%+v, want %d items kept", end, want)
				}
				return b
			})
		})
	}
}

func TestDamageDoesNotCostParkedItems(t *testing.T) {
	items := []string{"a", "refuse 1", "b", "c", "refuse 2", "refuse 3", "d"}
	bubble(t, func(t *testing.T) *Backlog[string] {
		m := storetest.NewMemory()
		b := open(t, m, nil)
		pushAll(b, items...)
		time.Sleep(3 * time.Second)
		b.Rest() // all is written
		synctest.Wait()
		m.Corrupt(0)

		if d := cmp.Diff([]string{"refuse 1", "refuse 2", "refuse 3"}, take(b)); d != "" {
			t.Errorf("items (-want +got):\n%s", d)
		}
		ranges := ""
		for _, err := range b.Losses() {
			var lost *spill.CorruptError
			if errors.As(err, &lost) {
				ranges += fmt.Sprintf("%d+%d ", lost.First, lost.Items)
			}
		}
		if want := "0+1 2+2 6+1 "; ranges != want || b.Tally().Lost != 4 {
			t.Errorf("lost: %s(%d), want %s", ranges, b.Tally().Lost, want)
		}
		b.Close(t.Context())
		return b
	})
}

func TestAStopCountsWhatIsKeptAndWhatIsLost(t *testing.T) {
	for _, test := range []struct {
		name       string
		keep, full bool
		kept, lost uint64
	}{
		{name: "kept", keep: true, kept: 6, lost: 2},
		{name: "kept, but the store refuses", keep: true, full: true, lost: 8},
		{name: "not kept", lost: 8 + 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) *Backlog[string] {
				m := storetest.NewMemory()
				b := open(t, m, func(c *Config[string]) { c.Keep = test.keep; c.MaxMemory = 60 })
				pushAll(b, "in", "memory", "refuse 1", "a", "b", "refuse 2", "c", "d")
				if test.full {
					m.Fail(storetest.Append, 1000, errors.New("no space"))
				}
				if !test.keep {
					b.Drop(2)
					b.Drop(1)
				}

				end := b.Close(t.Context())
				if end.Kept.Waiting != test.kept || end.Lost.Waiting != test.lost {
					t.Errorf("%+v, want %d kept and %d lost", end, test.kept, test.lost)
				}
				if got := b.Tally(); got.Lost != test.lost || got.OnDisk != test.kept || got.InMemory != 0 {
					t.Errorf("%+v", got)
				}
				if test.keep == (end.Err == nil) {
					t.Errorf("error: %v", end.Err)
				}
				return b
			})
		})
	}
}

func TestWhatIsKeptComesBackInOrder(t *testing.T) {
	items := []string{"in", "memory", "a", "b", "c"}
	for delivered := range len(items) {
		bubble(t, func(t *testing.T) *Backlog[string] {
			m := storetest.NewMemory()
			b := open(t, m, func(c *Config[string]) { c.MaxMemory = 60 })
			pushAll(b, items...)
			for range delivered {
				for b.Head() == nil {
					synctest.Wait()
				}
				b.Pop(1)
			}
			if end := b.Close(t.Context()); end.Lost != (Undelivered{}) || end.Err != nil {
				t.Errorf("Close: %+v", end)
			}

			b = open(t, m, nil)
			if got := b.Tally().Resumed; got != uint64(len(items)-delivered) {
				t.Errorf("%d items are found after %d were delivered", got, delivered)
			}
			if d := cmp.Diff(items[delivered:], take(b)); d != "" {
				t.Errorf("after %d (-want +got):\n%s", delivered, d)
			}
			b.Close(t.Context())
			return b
		})
	}
}

func TestTheOldestItemHasTheTimeItWasReceivedOrStored(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		m := storetest.NewMemory()
		b := open(t, m, nil)
		pushAll(b, "old")
		stopped := time.Now()
		b.Close(t.Context())
		time.Sleep(time.Hour)

		b = open(t, m, nil)
		start := time.Now()
		if got := b.Oldest(); !got.Equal(stopped) {
			t.Errorf("the oldest is of %v, want when it was stored, %v", got, stopped)
		}
		time.Sleep(time.Minute)
		b.Tick(time.Since(start))
		b.Push("new")
		for b.Head() == nil {
			synctest.Wait()
		}
		if got := b.Oldest(); !got.Equal(stopped) {
			t.Errorf("the oldest is of %v at its delivery, want %v", got, stopped)
		}
		b.Pop(1)
		if got := b.Oldest(); !got.Equal(start.Add(time.Minute)) {
			t.Errorf("then it is of %v, want %v", got, start.Add(time.Minute))
		}
		take(b)
		if got := b.Oldest(); !got.IsZero() {
			t.Errorf("none waits, but the oldest is of %v", got)
		}
		b.Close(context.Background())
		return b
	})
}

// The times of items in the window are exact, however many came before them.
func TestTheOldestItemOfALongWindowHasTheTimeItWasReceived(t *testing.T) {
	const n = 2000
	bubble(t, func(t *testing.T) *Backlog[string] {
		start := time.Now()
		b := open(t, storetest.NewMemory(), func(c *Config[string]) { c.MaxMemory = 1 << 20; c.Start = start })
		b.Push("x")
		for range n { // it never gets empty
			b.Push("x")
			b.Pop(1)
		}
		for i := range n {
			b.Tick(time.Duration(i+1) * minMark)
			b.Push("x")
		}

		b.Pop(1)
		for i := range n {
			want := start.Add(time.Duration(i+1) * minMark)
			if got := b.Oldest(); !got.Equal(want) {
				t.Fatalf("item %d was received at %v, want %v", i, got.Sub(start), want.Sub(start))
			}
			b.Pop(1)
		}
		b.Close(t.Context())
		return b
	})
}

func TestWhatWaitsInMemoryIsCounted(t *testing.T) {
	const place = 16 // bytes of a string's header
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), func(c *Config[string]) {
			c.MaxMemory, c.MayPark = 400, true
		})
		pushAll(b, "12345", "12345", "12345") // the window may have 300
		if got, want := b.unlogged(), int64(3*(5+place+maxPrefix)); got != want {
			t.Errorf("they would take %d bytes in the log, want %d", got, want)
		}

		pushAll(b, strings.Repeat("x", 300), "refuse me")
		parked := int64(len("refuse me") + place + placeBytes)
		if got, want := b.Tally().MemoryBytes, 3*(5+place)+parked; got != want {
			t.Errorf("%d bytes in memory, want %d", got, want)
		}
		if got, want := b.windowLimit(), min(300, 400-parked); got != want {
			t.Errorf("the window may take %d bytes, want %d", got, want)
		}

		for b.Room() {
			b.Push("refuse me")
		}
		if got := b.Tally().MemoryBytes; got < 400 || got-parked >= 400 {
			t.Errorf("there is no room at %d bytes", got)
		}
		if got, want := b.windowLimit(), 400-b.lot.bytes; got != want {
			t.Errorf("the window may take %d bytes, want %d", got, want)
		}
		take(b)
		b.Close(t.Context())
		return b
	})
}

// There is no room from exactly MaxMemory on.
func TestParkedItemsMayFillTheMemoryAndNoMore(t *testing.T) {
	const each = int64(len("refuse") + 16 + placeBytes)
	for _, test := range []struct {
		memory int64
		room   bool
	}{{3 * each, false}, {3*each + 1, true}} {
		bubble(t, func(t *testing.T) *Backlog[string] {
			b := open(t, storetest.NewMemory(), func(c *Config[string]) { c.MaxMemory = test.memory })
			b.Push(strings.Repeat("x", 1000)) // so that the window takes nothing
			pushAll(b, "refuse", "refuse", "refuse")
			if got := b.Room(); got != test.room {
				t.Errorf("with %d bytes allowed and %d parked Room is %v", test.memory, b.lot.bytes, got)
			}
			take(b)
			b.Close(t.Context())
			return b
		})
	}
}

// What is acknowledged in time is never written, nor is what was found kept.
func TestWhatIsDoneIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		m := storetest.NewMemory()
		b := open(t, m, func(c *Config[string]) { c.Acks, c.Journal = true, true })
		item := strings.Repeat("x", 10_000)
		for i := range 200 {
			if !b.Journal(item) {
				t.Fatal("it is parked")
			}
			b.Passed(1)
			b.Ack(uint64(i + 1))
			b.Settle()
			synctest.Wait()
		}
		if u := b.log.Usage(); u.Bytes != 0 || m.Calls(storetest.Append) != 0 {
			t.Errorf("%d bytes are stored, in %d calls", u.Bytes, m.Calls(storetest.Append))
		}

		for range 3 {
			b.Push(item)
		}
		b.Close(t.Context())
		b = open(t, m, nil)
		if got := take(b); len(got) != 3 {
			t.Errorf("%d items are found, want 3", len(got))
		}
		b.Settle()
		synctest.Wait()
		if u := b.log.Usage(); u.Bytes != 0 {
			t.Errorf("%d bytes are left of what was found, when all is done", u.Bytes)
		}
		b.Close(t.Context())
		return b
	})
}

// What is durable is known exactly: by its end, and by what is done of it.
func TestASyncCoversWhatIsReceivedAndWhatIsDone(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), func(c *Config[string]) { c.Acks, c.Journal = true, true })
		expect := func(what string, done, stored, unsynced bool) {
			t.Helper()
			if b.Done() != done || b.Stored() != stored || b.Unsynced() != unsynced {
				t.Errorf("%s: done %v, stored %v, unsynced %v; want %v, %v, %v", what,
					b.Done(), b.Stored(), b.Unsynced(), done, stored, unsynced)
			}
		}
		sync := func() {
			t.Helper()
			b.Sync()
			if synctest.Wait(); !b.Synced() {
				t.Error("not synced")
			}
		}
		pass := func() {
			b.Journal("x")
			b.Passed(1)
		}

		expect("at the start", true, false, false)
		pass()
		b.Ack(1)
		expect("acknowledged before it was stored", true, false, false)

		pass()
		pass()
		expect("delivered", false, false, true)
		sync()
		expect("synced", false, true, false)
		b.Ack(2)
		expect("acknowledged", false, true, true)
		sync()
		expect("synced again", false, true, false)
		pass()
		expect("another delivered", false, true, true)
		sync()
		b.Ack(4)
		expect("all acknowledged", true, true, true)
		sync()

		b.Push("waits")
		if b.Done() {
			t.Error("done, while an item waits")
		}
		b.Head()
		b.Pop(1)
		if b.Done() {
			t.Error("done, while an item is not acknowledged")
		}
		b.Ack(5)
		b.Close(t.Context())
		return b
	})
}

func TestALateSyncIsWhyNothingIsReceived(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), func(c *Config[string]) { c.Journal = true })
		b.Push("x")
		for _, late := range []bool{true, false} {
			b.Overdue(late)
			if err := b.Refusal(); b.Room() == late || errors.Is(err, ErrUnsynced) != late {
				t.Errorf("late %v: room %v, %v", late, b.Room(), err)
			}
		}
		b.Close(t.Context())
		return b
	})
}

func TestAFewItemsComeFromTheLogAtATime(t *testing.T) {
	const place = 16 // bytes of a string's header
	for _, test := range []struct {
		memory int64
		window int
	}{{0, 1}, {10 * (1 + place), 10}, {10*(1+place) + 1, 11}, {1 << 20, refillItems}} {
		bubble(t, func(t *testing.T) *Backlog[string] {
			m := storetest.NewMemory()
			b := open(t, m, nil)
			for range 300 {
				b.Push("x")
			}
			b.Close(t.Context())

			b = open(t, m, func(c *Config[string]) { c.MaxMemory = test.memory })
			for b.Head() == nil {
				synctest.Wait()
			}
			if n := b.window.len(); n != test.window {
				t.Errorf("with %d bytes of memory %d items are decoded, want %d", test.memory, n,
					test.window)
			}
			if got := take(b); len(got) != 300 {
				t.Errorf("%d items", len(got))
			}
			b.Close(t.Context())
			return b
		})
	}
}

// A parked item may stand anywhere among those that are lost.
func TestLossesGoAroundParkedItems(t *testing.T) {
	for _, test := range []struct {
		first, items uint64
		lost         uint64
		torn         string
	}{
		{0, 1, 1, "-"},
		{0, 2, 1, "-"},
		{0, 3, 1, "2+1"},
		{0, 4, 1, "2+2"},
		{1, 1, 0, "-"},
		{1, 2, 0, "2+1"},
		{2, 2, 2, "-"},
	} {
		bubble(t, func(t *testing.T) *Backlog[string] {
			b := open(t, storetest.NewMemory(), nil)
			pushAll(b, "a", "refuse", "b", "c")
			b.suffer(&spill.CorruptError{First: test.first, Items: test.items, Err: errors.New("gone")})

			torn := "-"
			if b.torn != nil {
				torn = fmt.Sprintf("%d+%d", b.torn.First, b.torn.Items)
			}
			if n := b.Tally().Lost; n != test.lost || torn != test.torn {
				t.Errorf("%d+%d: %d are lost, and then %s; want %d and %s", test.first, test.items,
					n, torn, test.lost, test.torn)
			}
			b.Close(t.Context())
			return b
		})
	}
}

// The loss of a parked item is told once: by the stop that has lost it.
func TestAParkedItemThatAStopHasLostIsPassedOver(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		m := storetest.NewMemory()
		b := open(t, m, nil)
		pushAll(b, "a", "refuse", "b")
		if end := b.Close(t.Context()); end.Lost.Waiting != 1 {
			t.Errorf("%+v", end)
		}

		b = open(t, m, nil)
		if d := cmp.Diff([]string{"a", "b"}, take(b)); d != "" {
			t.Errorf("items (-want +got):\n%s", d)
		}
		if n := len(b.Losses()); n > 0 || b.Tally().Lost != 1 {
			t.Errorf("%d losses are told, %d counted", n, b.Tally().Lost)
		}
		b.Close(t.Context())
		return b
	})
}

// Nobody has told of the loss of an item that was parked when a process
// crashed.
func TestAParkedItemThatACrashHasLostIsALoss(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		m := storetest.NewMemory()
		old := open(t, m, nil)
		pushAll(old, "a", "refuse", "b")
		time.Sleep(3 * time.Second)
		old.Rest() // all is written
		synctest.Wait()
		m.Crash()

		b := open(t, m, nil)
		if d := cmp.Diff([]string{"a", "b"}, take(b)); d != "" {
			t.Errorf("items (-want +got):\n%s", d)
		}
		if n := len(b.Losses()); n != 1 || b.Tally().Lost != 1 {
			t.Errorf("%d losses are told, %d counted, want 1", n, b.Tally().Lost)
		}
		b.Close(t.Context())
		old.Close(t.Context()) // its goroutines end
		return b
	})
}

func TestAnItemOfNoBytesIsEncoded(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), nil)
		b.Push("")
		if got := b.Tally(); got.OnDisk != 1 {
			t.Errorf("%+v, want it in the log", got)
		}
		take(b)
		b.Close(t.Context())
		return b
	})
}

func TestAStopWithoutFaultsSaysNothing(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		var log strings.Builder
		b := open(t, storetest.NewMemory(), func(c *Config[string]) {
			c.Keep = false
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		pushAll(b, "a", "b")
		if b.Close(t.Context()); log.Len() > 0 {
			t.Errorf("logged: %s", &log)
		}
		return b
	})
}

// The marks that tell the items' ages take part of the window's memory.
func TestManyMarksTakeOfTheWindow(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), func(c *Config[string]) { c.MaxMemory = 100_000 })
		b.ages.marks = make([]mark, 1000)
		if got, want := b.windowLimit(), int64(100_000-(1000*16-1<<10)); got != want {
			t.Errorf("the window may take %d bytes, want %d", got, want)
		}
		b.Close(t.Context())
		return b
	})
}

// Promise 4.
func TestTheTimesOfItemsThatAreGoneTakeNoMemory(t *testing.T) {
	bubble(t, func(t *testing.T) *Backlog[string] {
		b := open(t, storetest.NewMemory(), func(c *Config[string]) { c.MaxMemory = 1 << 20 })
		for i := range 10 * manyMark {
			b.Tick(time.Duration(i) * minMark)
			b.Push("a")
		}
		for !b.Empty() {
			b.Pop(len(b.Heads(1000)))
		}
		b.Oldest()
		if n := cap(b.ages.marks); n > manyMark {
			t.Errorf("there is room for %d marks, want at most %d", n, manyMark)
		}
		b.Close(t.Context())
		return b
	})
}
