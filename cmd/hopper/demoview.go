package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A curve is one row of the picture: how something has been over time.
type curve struct {
	lane, label string // which stand in front of it
	unit        func(int64) string
	values      []float64
}

// A view draws a demo: in a terminal a picture that changes, elsewhere a line a
// second.
type view struct {
	d      *demo
	w      io.Writer
	levels []rune
	rows   [][]curve // of each lane: the producer's rate, the memory, the disk
	sent   []int64   // of each lane, when it was last looked at
	last   time.Time
	drawn  int // lines that stand there
	width  int // of the terminal when they were drawn
}

func (d *demo) newView(w io.Writer) *view {
	v := &view{d: d, w: w, levels: ascii, last: time.Now(), sent: make([]int64, len(d.lanes))}
	if isUTF8() {
		v.levels = blocks
	}
	bytes := func(n int64) string { return short(n) }
	for _, l := range d.lanes {
		rows := []curve{
			{lane: l.name, label: "producer",
				unit: func(n int64) string { return count(n) + "/s" }},
			{label: "memory", unit: bytes},
		}
		if l.disk != nil {
			rows = append(rows, curve{label: "disk", unit: bytes})
		}
		v.rows = append(v.rows, rows)
	}
	return v
}

// show draws until the demo is done or is to be stopped, which it reports.
func (d *demo) show(std stdio, done <-chan struct{}) (interrupted bool) {
	v := d.newView(std.out)
	live := isTerminal(std.out) && isSmart()
	say(v.w, fmt.Sprintf("The same producer three times: %s items/s of %d bytes. "+
		"Its consumer stalls for %.0f s.",
		count(demoRate), demoBytes, (stallTo-stallFrom)*d.length.Seconds()))

	tick := time.NewTicker(demoEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-std.signals:
			return true
		case <-done:
			v.look()
			if live {
				v.draw()
			}
			return false
		}

		v.look()
		if live {
			v.draw()
		} else if n%10 == 0 {
			fmt.Fprintln(v.w, v.line())
		}
	}
}

// look adds what is the case now to each curve.
func (v *view) look() {
	now := time.Now()
	dt := max(now.Sub(v.last), 1)
	v.last = now
	for i, l := range v.d.lanes {
		sent := l.sent.Load()
		if rate := &v.rows[i][0]; dt < demoEvery/2 && len(rate.values) > 0 { // too short to tell
			rate.add(rate.values[len(rate.values)-1])
		} else {
			rate.add(float64(sent-v.sent[i]) / dt.Seconds())
		}
		v.sent[i] = sent

		memory := l.memory()
		l.peakMemory = max(l.peakMemory, memory)
		v.rows[i][1].add(float64(memory))
		if l.disk != nil {
			disk := l.disk()
			l.peakDisk = max(l.peakDisk, disk)
			v.rows[i][2].add(float64(disk))
		}
	}
}

func (c *curve) add(value float64) { c.values = append(c.values, value) }

func (c *curve) now() int64 { return int64(c.values[len(c.values)-1]) }

// consumer says what the consumers do.
func (v *view) consumer() string {
	switch at := v.d.at(); {
	case at < stallFrom:
		return "keep up"
	case at < stallTo:
		return "stand still"
	}
	return "catch up"
}

// line tells of all lanes, in one line.
func (v *view) line() string {
	at := time.Since(v.d.start).Seconds()
	texts := []string{fmt.Sprintf("%3.0fs  consumers %s", at, v.consumer())}
	for i, l := range v.d.lanes {
		text := l.name + ": " + v.rows[i][0].unit(v.rows[i][0].now())
		if l.waits.Load() {
			text = l.name + ": producer waits"
		}
		for _, c := range v.rows[i][1:] {
			text += ", " + c.label + " " + c.unit(c.now())
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " | ")
}

// draw draws the picture in place of the one before. If the terminal has become
// narrower that one stays above.
func (v *view) draw() {
	width := terminalWidth(v.w) - 1
	lines := []string{"", fit(fmt.Sprintf("%.1f s: consumers %s", time.Since(v.d.start).Seconds(),
		v.consumer()), width)}
	for i, l := range v.d.lanes {
		for k := range v.rows[i] {
			lines = append(lines, v.row(&v.rows[i][k], l.waits.Load() && k == 0, width))
		}
	}

	up := ""
	if v.drawn > 0 && width >= v.width {
		up = fmt.Sprintf("\x1b[%dA", v.drawn)
	}
	v.drawn, v.width = len(lines), width
	io.WriteString(v.w, up+"\r"+strings.Join(lines, "\x1b[K\n")+"\x1b[K\n")
}

// row draws a curve between its name and what it is now. The curves of one kind
// have one scale: what takes little memory looks like it.
func (v *view) row(c *curve, waits bool, width int) string {
	now := c.unit(c.now())
	if waits {
		now = "waits"
	}
	const names, numbers = 23, 8
	columns := width - names - numbers
	if columns < 10 {
		return fit(strings.TrimSpace(c.lane+" "+c.label)+" "+now, width)
	}

	values := c.sampled(columns)
	line := sparklineTo(values, v.most(c.label), v.levels)
	line += strings.Repeat(" ", columns-len(values))
	return fmt.Sprintf("%-13s%-9s %s %s", c.lane, c.label, line, now)
}

// most returns the largest value of all curves of that label.
func (v *view) most(label string) (most float64) {
	for _, rows := range v.rows {
		for _, c := range rows {
			if c.label == label {
				for _, value := range c.values {
					most = max(most, value)
				}
			}
		}
	}
	return most
}

// sampled returns the values of all the time so far, in so many columns at
// most.
func (c *curve) sampled(columns int) []float64 {
	if len(c.values) <= columns {
		return c.values
	}
	values := make([]float64, columns)
	for i := range values {
		from, to := i*len(c.values)/columns, (i+1)*len(c.values)/columns
		for _, value := range c.values[from:max(to, from+1)] {
			values[i] = max(values[i], value)
		}
	}
	return values
}

// say writes a line of text, which breaks between words where a terminal has no
// more room.
func say(w io.Writer, text string) {
	if isTerminal(w) {
		text = wrap(text, terminalWidth(w))
	}
	fmt.Fprintln(w, text)
}

func wrap(text string, width int) string {
	var lines strings.Builder
	n := 0
	for i, word := range strings.Split(text, " ") {
		if n+1+len(word) > width && n > 0 {
			lines.WriteByte('\n')
			n = 0
		} else if i > 0 {
			lines.WriteByte(' ')
			n++
		}
		lines.WriteString(word)
		n += len(word)
	}
	return lines.String()
}

// fit cuts a line off where there is no more room.
func fit(line string, width int) string {
	runes := []rune(line)
	return string(runes[:min(len(runes), max(width, 0))])
}
