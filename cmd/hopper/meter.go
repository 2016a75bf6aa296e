package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	ratesOver = time.Second // that far back the rates look
	history   = 64          // samples of the backlog that are drawn at most
	lineWidth = 120         // columns of a line that is not for a terminal
)

// A meter tells how a pipe is doing, from samples: momentary rates, what is to
// come of it, and how the backlog has been.
type meter struct {
	first   sample
	recent  []sample // of the time that rates are taken over, the oldest a little older
	backlog []float64
	total   int64 // bytes to be read in all, if that is known; else 0
	levels  []rune
}

func newMeter(start sample, total int64) *meter {
	m := &meter{first: start, recent: []sample{start}, total: total, levels: ascii}
	if isUTF8() {
		m.levels = blocks
	}
	return m
}

func (m *meter) add(s sample) {
	m.recent = append(m.recent, s)
	for len(m.recent) > 2 && s.at.Sub(m.recent[1].at) >= ratesOver {
		m.recent = m.recent[1:]
	}
	m.backlog = append(m.backlog, float64(s.waiting))
	if len(m.backlog) > history {
		m.backlog = m.backlog[1:]
	}
}

func (m *meter) now() sample { return m.recent[len(m.recent)-1] }

// rate returns how fast something of a sample grows now, a second.
func (m *meter) rate(of func(s sample) int64) float64 {
	a, b := m.recent[0], m.now()
	dt := b.at.Sub(a.at).Seconds()
	if dt <= 0 {
		return 0
	}
	return float64(of(b)-of(a)) / dt
}

func inBytes(s sample) int64   { return s.in }
func outBytes(s sample) int64  { return s.out }
func diskBytes(s sample) int64 { return s.DiskBytes }

// outlook says what is to come of the backlog.
func (m *meter) outlook() string {
	s := m.now()
	in, out, disk := m.rate(inBytes), m.rate(outBytes), m.rate(diskBytes)
	switch {
	case s.waiting == 0:
		return ""
	case s.Blocked && in == 0:
		return "blocked"
	case out > in:
		return "drains in " + duration(float64(s.waiting)/(out-in))
	case in > out && disk > 0 && s.room >= 0:
		return "full in " + duration(float64(s.room)/disk)
	}
	return ""
}

// share says how much of the input has come out, and how long the rest takes.
func (m *meter) share() string {
	if m.total == 0 {
		return ""
	}
	out := m.now().out - m.first.out
	text := fmt.Sprintf("%d%%", min(100, out*100/m.total))
	if rate := m.rate(outBytes); rate > 0 && out < m.total {
		text += " " + duration(float64(m.total-out)/rate) + " left"
	}
	return text
}

// fit returns the line to be shown, at most so many columns wide. What matters
// less is left out where there is no room. Sizes are in powers of 1024, their
// unit one letter.
func (m *meter) fit(width int) string {
	s := m.now()
	parts := []part{
		{4, "in " + short(s.in)},
		{2, short(int64(m.rate(inBytes))) + "/s"},
		{5, "out " + short(s.out)},
		{3, short(int64(m.rate(outBytes))) + "/s"},
		{0, "wait " + short(s.waiting)},
		{8, ""}, // for the history
		{1, m.outlook()},
		{1, m.share()},
		{6, "disk " + short(s.DiskBytes)},
		{7, "mem " + short(s.MemoryBytes)},
	}

	for least := 8; ; least-- {
		line := join(parts, least)
		left := width - utf8.RuneCountInString(line)
		if left >= 0 || least == 0 {
			return m.withHistory(parts, line, left, least)
		}
	}
}

// withHistory returns the line, with the history of the backlog where there is
// room for some of it.
func (m *meter) withHistory(parts []part, line string, left, least int) string {
	const some = 6
	if width := min(left-2, history); width >= some {
		parts[5] = part{0, sparkline(m.backlog, width, m.levels)}
		return join(parts, least)
	}
	return fit(line, utf8.RuneCountInString(line)+min(left, 0))
}

// A part of a line stands where there is room for all that is at least as
// important: 0 is the most important.
type part struct {
	rank int
	text string
}

func join(parts []part, least int) string {
	var texts []string
	for _, p := range parts {
		if p.rank <= least && p.text != "" {
			texts = append(texts, p.text)
		}
	}
	return strings.Join(texts, "  ")
}

// summary tells of the whole run.
func (m *meter) summary() string {
	s := m.now()
	took := s.at.Sub(m.first.at).Seconds()
	rate := int64(0)
	if took > 0 {
		rate = int64(float64(s.out-m.first.out) / took)
	}
	text := fmt.Sprintf("in %s  out %s in %s, %s/s",
		short(s.in), short(s.out), duration(took), short(rate))
	if s.waiting > 0 {
		text += "  wait " + short(s.waiting)
	}
	return text
}

func short(bytes int64) string { return strings.TrimSuffix(size(bytes).String(), "iB") }

// duration writes the time in its largest unit.
func duration(seconds float64) string {
	switch {
	case seconds < 59.5:
		return fmt.Sprintf("%.0fs", seconds)
	case seconds < 59.5*60:
		return fmt.Sprintf("%.0fm", seconds/60)
	case seconds < 99*3600:
		return fmt.Sprintf("%.0fh", seconds/3600)
	}
	return ">99h"
}
