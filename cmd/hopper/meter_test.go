package main

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"example.com/hopper"
)

// metered returns a meter after two samples, a second apart.
func metered(a, b sample) *meter {
	a.at = time.Unix(100, 0)
	b.at = a.at.Add(time.Second)
	m := newMeter(a, 0)
	m.add(b)
	return m
}

func TestTheOutlookForeseesTheEnd(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct {
		a, b sample
		want string
	}{
		"draining": {sample{}, sample{out: 10 * mib, waiting: 90 * mib, room: -1}, "drains in 9s"},
		"filling up": {sample{}, sample{in: 50 * mib, waiting: 90 * mib, room: 100 * mib,
			Stats: hopper.Stats{DiskBytes: 25 * mib}}, "full in 4s"},
		"in hours": {sample{}, sample{in: 50 * mib, waiting: 90 * mib, room: 10 * mib,
			Stats: hopper.Stats{DiskBytes: 1 << 10}}, "full in 3h"},
		"in minutes":    {sample{}, sample{out: mib, waiting: 90 * mib, room: -1}, "drains in 2m"},
		"room unknown":  {sample{}, sample{in: 50 * mib, waiting: 90 * mib, room: -1}, ""},
		"for ever":      {sample{}, sample{out: 1, waiting: 90 * mib}, "drains in >99h"},
		"nothing waits": {sample{}, sample{in: mib, out: mib}, ""},
		"blocked":       {sample{}, sample{waiting: mib, Stats: hopper.Stats{Blocked: true}}, "blocked"},
		"at a limit, but on its way": {sample{},
			sample{in: mib, waiting: mib, room: -1, Stats: hopper.Stats{Blocked: true}}, ""},
	} {
		if got := metered(test.a, test.b).outlook(); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestRatesAreThoseOfTheLastSecond(t *testing.T) {
	m := newMeter(sample{at: time.Unix(100, 0)}, 0)
	for i := 1; i <= 100; i++ { // 10 MB in the first five seconds, then nothing for five
		m.add(sample{at: time.Unix(100, 0).Add(time.Duration(i) * 100 * time.Millisecond),
			in: 200_000 * int64(min(i, 50))})
		want := 2e6
		if i > 60 {
			want = 0
		}
		if got := m.rate(inBytes); (i <= 50 || i > 60) && math.Abs(got-want) > 1 {
			t.Errorf("after %d tenths: %v bytes a second, want %v", i, got, want)
		}
	}
}

func TestTheShareOfAFileIsTold(t *testing.T) {
	m := metered(sample{}, sample{out: 25})
	m.total = 100
	if got := m.share(); got != "25% 3s left" {
		t.Errorf("%q", got)
	}
	m.total = 0
	if got := m.share(); got != "" {
		t.Errorf("of no file: %q", got)
	}
}

func TestTheStatusFitsTheTerminalAndSaysWhatMattersFirst(t *testing.T) {
	s := sample{in: 5 << 30, out: 4 << 30, waiting: 1 << 30, room: 100 << 30,
		Stats: hopper.Stats{DiskBytes: 600 << 20, MemoryBytes: 16 << 20}}
	m := metered(sample{in: 4<<30 + 900<<20, out: 4<<30 - 10<<20}, s)
	for i := range 100 {
		s.at = m.now().at.Add(time.Second)
		s.in += 200 << 20
		s.out += 10 << 20
		s.DiskBytes += 100 << 20
		s.waiting += int64(i) << 20
		m.add(s)
	}

	for _, test := range []struct {
		width int
		want  []string
	}{
		{200, []string{"in ", "out ", "200M/s", "10.0M/s", "wait 5.83G", "full in 17m", "disk ", "mem 16.0M", "#"}},
		{159, []string{"in ", "out ", "200M/s", "10.0M/s", "wait 5.83G", "full in 17m", "disk ", "mem ", "#"}},
		{79, []string{"200M/s", "10.0M/s", "wait 5.83G", "full in 17m"}},
		{39, []string{"wait 5.83G", "full in 17m"}},
		{23, []string{"wait 5.83G  full in 17m"}},
		{19, []string{"wait 5.83G"}},
		{5, []string{"wait "}},
		{0, nil},
	} {
		m.levels = ascii
		got := m.fit(test.width)
		if n := utf8.RuneCountInString(got); n > test.width {
			t.Errorf("%d columns: %d are used: %q", test.width, n, got)
		}
		for _, text := range test.want {
			if !strings.Contains(got, text) {
				t.Errorf("%d columns: %q lacks %q", test.width, got, text)
			}
		}
	}
}

func TestASparklineHasALevelForEachValue(t *testing.T) {
	values := []float64{0, 1, 2, 4, 8}
	if got := sparkline(values, 10, ascii); got != " :-=#" {
		t.Errorf("%q", got)
	}
	if got := sparkline(values, 2, blocks); got != "▅█" {
		t.Errorf("the last two: %q", got)
	}
	if got := sparkline([]float64{0, 0}, 10, blocks); got != "  " {
		t.Errorf("nothing: %q", got)
	}
}
