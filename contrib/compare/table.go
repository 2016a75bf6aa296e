package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// A table compares peers on one work, at some capacities of their channels.
type table struct {
	work       string
	capacities []int
	base       string // the peer that the others are compared with
	peers      []string
	mem        int // bytes that each may hold
	figures    []figure
}

// A figure is a column of a table: the median of what it is of each run, beside
// the base's run of the same round.
type figure struct {
	name   string
	format string
	of     func(r, base result, w work) float64
}

var (
	speed = figure{"items/s ÷ %s", "%.2f", func(r, base result, _ work) float64 {
		return base.Seconds / r.Seconds
	}}
	perItem = figure{"ns an item", "%.0f", func(r, _ result, w work) float64 {
		return r.Seconds / float64(w.items) * 1e9
	}}
	half = figure{"median, ns", "%.0f", func(r, _ result, _ work) float64 {
		return r.Half * 1e9
	}}
	most = figure{"99 %, ns", "%.0f", func(r, _ result, _ work) float64 {
		return r.Most * 1e9
	}}
	halfOf = figure{"median ÷ %s", "%.2f", func(r, base result, _ work) float64 {
		return r.Half / base.Half
	}}
	cpu = figure{"CPU ÷ %s", "%.2f", func(r, base result, _ work) float64 {
		return r.CPU / base.CPU
	}}
	memory = figure{"peak RSS, MiB", "%.0f", func(r, _ result, _ work) float64 {
		return float64(r.PeakRSS) / (1 << 20)
	}}
	diskUse = figure{"disk ÷ data", "%.2f", func(r, _ result, w work) float64 {
		return float64(r.PeakDisk) / float64(w.items*w.payload)
	}}
	diskLeft = figure{"disk left, MiB", "%.1f", func(r, _ result, _ work) float64 {
		return float64(r.DiskLeft) / (1 << 20)
	}}
)

// cell returns a figure of a peer's runs, of which the last may be missing.
func (f figure) cell(runs, base []result, w work) string {
	var values []float64
	for i, r := range runs {
		values = append(values, f.of(r, base[i], w))
	}
	slices.Sort(values)
	return fmt.Sprintf(f.format, values[len(values)/2])
}

var tables = []table{
	{work: "w1", capacities: []int{0, 1, 16, 64, 256, 1024}, base: "channel", mem: 2 << 20,
		peers:   []string{"forward", "hopper", "chanx", "pumpedqueue"},
		figures: []figure{perItem, speed, cpu}},
	{work: "w2", capacities: []int{256}, base: "fastqueue", mem: 2 << 20,
		peers: []string{"hopper", "diskqueue", "dque", "wal", "chanx", "infinite", "pumpedqueue",
			"largechannel"},
		figures: []figure{perItem, speed, cpu, memory, diskUse}},
	{work: "w3", capacities: []int{256}, base: "fastqueue", mem: 2 << 20,
		peers:   []string{"hopper", "diskqueue", "dque", "wal", "chanx", "largechannel"},
		figures: []figure{perItem, speed, cpu, memory, diskUse}},
	{work: "w4", capacities: []int{256}, base: "channel", mem: 2 << 20,
		peers:   []string{"hopper", "fastqueue", "diskqueue", "chanx", "pumpedqueue"},
		figures: []figure{perItem, speed, cpu, memory}},
	{work: "w5", capacities: []int{256}, base: "fastqueue", mem: 2 << 20, peers: []string{"hopper"},
		figures: []figure{perItem, speed, cpu, memory, diskUse, diskLeft}},
	{work: "latency", capacities: []int{0, 64}, base: "channel", mem: 2 << 20,
		peers: []string{"forward", "hopper", "chanx", "pumpedqueue", "fastqueue", "diskqueue",
			"wal"},
		figures: []figure{half, most, halfOf, cpu}},
}

const (
	defaultRuns = 5
	quickPart   = 0.02
)

// A session is how often, and how much of, the work is done.
type session struct {
	runs int
	part float64 // of the items
	log  io.Writer
}

func (s session) scaled(w work) work {
	w.items = max(1, int(float64(w.items)*s.part))
	return w
}

// runsOf returns how many runs of a work there are: of a long one, three at
// most.
func (s session) runsOf(w work) int {
	if w.long {
		return min(s.runs, 3)
	}
	return s.runs
}

// flags returns the flags that ask for this session, each with a space after
// it.
func (s session) flags() string {
	switch {
	case s.runs == defaultRuns && s.part == 1:
		return ""
	case s.runs == 1 && s.part == quickPart:
		return "-quick "
	}
	return fmt.Sprintf("-runs %d -part %v ", s.runs, s.part)
}

// write runs a table and writes it in Markdown.
func (t table) write(out io.Writer, s session) error {
	w, err := workNamed(t.work)
	if err != nil {
		return err
	}
	w = s.scaled(w)
	fmt.Fprintf(out, "### %s: %s\n\n", w.name, w.what)
	fmt.Fprintf(out, "%d items; medians of runs: %d. `cd contrib/compare && go run . %s%s`\n\n",
		w.items, s.runsOf(w), s.flags(), w.name)

	head := []string{"peer", "capacity"}
	for _, f := range t.figures {
		head = append(head, strings.ReplaceAll(f.name, "%s", t.base))
	}
	row(out, head...)
	row(out, slices.Repeat([]string{"---"}, len(head))...)
	for _, capacity := range t.capacities {
		results, err := t.measure(w, capacity, s)
		if err != nil {
			return err
		}
		for _, name := range append([]string{t.base}, t.peers...) {
			cells := []string{name, fmt.Sprint(capacity)}
			for _, f := range t.figures {
				cells = append(cells, f.cell(results[name], results[t.base], w))
			}
			row(out, cells...)
		}
	}
	fmt.Fprintln(out)
	return nil
}

func row(out io.Writer, cells ...string) {
	fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
}

// measure runs the peers in turn, round by round, and returns each one's runs.
func (t table) measure(w work, capacity int, s session) (map[string][]result, error) {
	all := make(map[string][]result)
	for n := range s.runsOf(w) {
		for _, name := range append([]string{t.base}, t.peers...) {
			p, err := peerNamed(name)
			if err != nil {
				return nil, err
			}
			if p.slow && n > 0 {
				continue
			}

			fmt.Fprintf(s.log, "%s, capacity %d, run %d of %d: %s\n",
				w.name, capacity, n+1, s.runsOf(w), name)
			r, err := runApart(w, name, capacity, t.mem)
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", name, w.name, err)
			}
			all[name] = append(all[name], r)
		}
	}
	return all, nil
}

// runApart does the work in a process of its own, so that its memory is that of
// one peer.
func runApart(w work, name string, capacity, memory int) (r result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.Command(self, "one", w.name, name, strconv.Itoa(w.items), strconv.Itoa(capacity),
		strconv.Itoa(memory))
	cmd.Env = append(os.Environ(), selfEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

// selfEnv tells a test binary that it is to be this command.
const selfEnv = "HOPPER_COMPARE"

// runOne is that process.
func runOne(args []string, out io.Writer) error {
	if len(args) != 5 {
		return fmt.Errorf("one needs a work, a peer, items, capacity and memory")
	}
	w, err := workNamed(args[0])
	if err != nil {
		return err
	}
	p, err := peerNamed(args[1])
	if err != nil {
		return err
	}
	var numbers [3]int
	for i := range numbers {
		if numbers[i], err = strconv.Atoi(args[2+i]); err != nil {
			return err
		}
	}
	if w.stall && !p.stalls || w.disk && !p.disk {
		return fmt.Errorf("%s is not for %s", w.name, p.name)
	}

	w.items = numbers[0]
	r, err := run(w, p, numbers[1], numbers[2])
	if err != nil {
		r.Err = err.Error()
	}
	return json.NewEncoder(out).Encode(r)
}

func workNamed(name string) (work, error) {
	for _, w := range works {
		if w.name == name {
			return w, nil
		}
	}
	return work{}, fmt.Errorf("there is no work %q: see `list`", name)
}
