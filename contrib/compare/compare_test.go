package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(selfEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestEachPeerDoesEachWork(t *testing.T) {
	for _, w := range works {
		for _, p := range peers {
			if w.stall && !p.stalls || w.disk && !p.disk {
				continue
			}
			w.items = 20_000
			if _, err := run(w, p, 16, 64<<10); err != nil {
				t.Errorf("%s on %s: %v", p.name, w.name, err)
			}
		}
	}
}

func TestEachTableIsWritten(t *testing.T) {
	for _, table := range tables {
		var out bytes.Buffer
		args := []string{"-runs", "1", "-part", "0.001", table.work}
		if err := command(args, &out, io.Discard); err != nil {
			t.Errorf("%s: %v", table.work, err)
		}
		rows := strings.Count(out.String(), "\n|")
		if want := 2 + len(table.capacities)*(1+len(table.peers)); rows != want {
			t.Errorf("%s has %d rows, want %d:\n%s", table.work, rows, want, &out)
		}
	}
}

func TestThePictureIsXML(t *testing.T) {
	var out bytes.Buffer
	if err := command([]string{"-part", "0.1", "plot"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "<polyline"); n != 6 {
		t.Errorf("%d lines are drawn, want 6", n)
	}
	for d := xml.NewDecoder(&out); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAMistakeIsNamed(t *testing.T) {
	for _, args := range []string{
		"w9", "-runs 0 w1", "one w1", "one w2 channel 1 1 1", "trace nobody 1", "",
	} {
		if err := command(strings.Fields(args), io.Discard, io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestChangedItemsAreNoticed(t *testing.T) {
	l := newLines(128)
	for _, i := range []int{0, 1, 4095, 4096, 999_999_999} {
		b := l.item(i)
		if n, err := l.number(b); n != i || err != nil {
			t.Errorf("item %d has the number %d: %v", i, n, err)
		}
		b[len(b)-3] ^= 1
		if _, err := l.number(b); err == nil {
			t.Errorf("item %d was changed, and is accepted", i)
		}
	}
	q := &between[uint64]{get: func() (uint64, error) { return 1, nil }}
	err := consume(q, work{items: 1}, func(v uint64) (int, error) { return int(v), nil }, &clock{})
	if err == nil || !strings.Contains(fmt.Sprint(err), "item 1 comes, want 0") {
		t.Errorf("out of order: %v", err)
	}
}

// alter opens a channel whose items fn may change, repeat or drop on their way.
func alter(fn func(v uint64, to chan<- uint64)) func(setting) (*between[uint64], error) {
	return func(setting) (*between[uint64], error) {
		in, out := make(chan uint64), make(chan uint64)
		go func() {
			defer close(out)
			for v := range in {
				fn(v, out)
			}
		}()
		return &between[uint64]{in: in, out: out}, nil
	}
}

func TestAPeerThatFailsEndsTheRun(t *testing.T) {
	refuses := func(setting) (*between[uint64], error) {
		return &between[uint64]{
			put: func(uint64) error { return errors.New("full") },
			get: func() (uint64, error) { select {} },
		}, nil
	}
	for name, test := range map[string]struct {
		open func(setting) (*between[uint64], error)
		want string
	}{
		"changes an item":  {alter(change), "item 1 comes, want 0"},
		"drops the first":  {alter(drop), "item 1 comes, want 0"},
		"repeats the last": {alter(repeat), "more than 10"},
		"refuses an item":  {refuses, "put item 0: full"},
	} {
		_, err := run(work{items: 10, payload: 8}, peer{numbers: test.open}, 0, 1)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("a peer that %s: %v, want %q", name, err, test.want)
		}
	}
}

func change(v uint64, to chan<- uint64) { to <- v + 1 }

func drop(v uint64, to chan<- uint64) {
	if v > 0 {
		to <- v
	}
}

func repeat(v uint64, to chan<- uint64) {
	if to <- v; v == 9 {
		to <- v
	}
}

func TestARatioIsTakenWithinEachRound(t *testing.T) {
	base := []result{{Seconds: 10}, {Seconds: 1}, {Seconds: 100}}
	runs := []result{{Seconds: 20}, {Seconds: 100}, {Seconds: 50}}
	if got := speed.cell(runs, base, work{}); got != "0.50" {
		t.Errorf("the ratio is %s, want 0.50", got)
	}
	if got := speed.cell(runs[:1], base, work{}); got != "0.50" {
		t.Errorf("the ratio of a peer that ran once is %s, want 0.50", got)
	}
}

func TestATableNamesTheFlagsThatMadeIt(t *testing.T) {
	for want, s := range map[string]session{
		"":                    {runs: defaultRuns, part: 1},
		"-quick ":             {runs: 1, part: quickPart},
		"-runs 3 -part 0.25 ": {runs: 3, part: 0.25},
	} {
		if got := s.flags(); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}

func TestOneItemAtATimeIsUnderWay(t *testing.T) {
	for _, p := range peers {
		w := work{items: 1000, payload: 8, alone: true}
		r, err := run(w, p, 16, 64<<10)
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if r.Half <= 0 || r.Most < r.Half || r.Seconds < 500*r.Half {
			t.Errorf("%s: half of the items took %v s, 99 %% %v s, all %v s",
				p.name, r.Half, r.Most, r.Seconds)
		}
	}
}

func TestAPartOfTheTimes(t *testing.T) {
	var c clock
	if got := c.part(0.5); got != 0 {
		t.Errorf("without items half of them took %v s", got)
	}
	for n := range 101 {
		c.under = append(c.under, time.Duration(100-n)*time.Second)
	}
	if half, most := c.part(0.5), c.part(0.99); half != 50 || most != 99 {
		t.Errorf("half took %v s and 99 %% %v s, want 50 and 99", half, most)
	}
}
