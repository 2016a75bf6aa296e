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

// A figure is a column of a table.
type figure struct {
	name string
	of   func(r, base result, w work) string
}

var (
	speed = figure{"items/s ÷ %s", func(r, base result, _ work) string {
		return fmt.Sprintf("%.2f", base.Seconds/r.Seconds)
	}}
	perItem = figure{"ns an item", func(r, _ result, w work) string {
		return fmt.Sprintf("%.0f", r.Seconds/float64(w.items)*1e9)
	}}
	cpu = figure{"CPU ÷ %s", func(r, base result, _ work) string {
		return fmt.Sprintf("%.2f", r.CPU/base.CPU)
	}}
	memory = figure{"peak RSS, MiB", func(r, _ result, _ work) string {
		return fmt.Sprint(r.PeakRSS >> 20)
	}}
	diskUse = figure{"disk ÷ data", func(r, _ result, w work) string {
		if r.PeakDisk == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", float64(r.PeakDisk)/float64(w.items*w.payload))
	}}
	diskLeft = figure{"disk left, MiB", func(r, _ result, _ work) string {
		return fmt.Sprintf("%.1f", float64(r.DiskLeft)/(1<<20))
	}}
)

var tables = []table{
	{work: "w1", capacities: []int{0, 1, 16, 64, 256, 1024}, base: "channel", mem: 2 << 20,
		peers:   []string{"forward", "hopper", "chanx", "pumpedqueue"},
		figures: []figure{perItem, speed, cpu}},
	{work: "w2", capacities: []int{256}, base: "fastqueue", mem: 2 << 20,
		peers:   []string{"hopper", "dque", "wal", "chanx", "infinite", "pumpedqueue", "largechannel"},
		figures: []figure{perItem, speed, cpu, memory, diskUse}},
	{work: "w3", capacities: []int{256}, base: "fastqueue", mem: 2 << 20,
		peers:   []string{"hopper", "dque", "wal", "chanx", "largechannel"},
		figures: []figure{perItem, speed, cpu, memory, diskUse}},
	{work: "w4", capacities: []int{256}, base: "channel", mem: 2 << 20,
		peers:   []string{"hopper", "fastqueue", "chanx", "pumpedqueue"},
		figures: []figure{perItem, speed, cpu, memory}},
	{work: "w5", capacities: []int{256}, base: "fastqueue", mem: 2 << 20, peers: []string{"hopper"},
		figures: []figure{perItem, speed, cpu, memory, diskUse, diskLeft}},
}

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

// write runs a table and writes it in Markdown.
func (t table) write(out io.Writer, s session) error {
	w, err := workNamed(t.work)
	if err != nil {
		return err
	}
	w = s.scaled(w)
	fmt.Fprintf(out, "### %s: %s\n\n", w.name, w.what)
	fmt.Fprintf(out, "%d items; medians of %d runs. "+
		"`cd contrib/compare && go run . -runs %[2]d -part %v %s`\n\n", w.items, s.runs, s.part, w.name)

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
				cells = append(cells, f.of(results[name], results[t.base], w))
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

// measure runs each peer in turn, several times, and returns the medians.
func (t table) measure(w work, capacity int, s session) (map[string]result, error) {
	all := make(map[string][]result)
	for n := range s.runs {
		for _, name := range append([]string{t.base}, t.peers...) {
			fmt.Fprintf(s.log, "%s, capacity %d, run %d of %d: %s\n",
				w.name, capacity, n+1, s.runs, name)
			r, err := runApart(w, name, capacity, t.mem)
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", name, w.name, err)
			}
			all[name] = append(all[name], r)
		}
	}

	medians := make(map[string]result)
	for name, results := range all {
		medians[name] = median(results)
	}
	return medians, nil
}

func median(results []result) (m result) {
	of := func(value func(r result) float64) float64 {
		var values []float64
		for _, r := range results {
			values = append(values, value(r))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	m.Seconds = of(func(r result) float64 { return r.Seconds })
	m.CPU = of(func(r result) float64 { return r.CPU })
	m.PeakRSS = int64(of(func(r result) float64 { return float64(r.PeakRSS) }))
	m.PeakDisk = int64(of(func(r result) float64 { return float64(r.PeakDisk) }))
	m.DiskLeft = int64(of(func(r result) float64 { return float64(r.DiskLeft) }))
	return m
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
