// Command compare runs hopper and its peers on the same work, each run in a
// process of its own, and writes what comes of it: a table in Markdown, or the
// picture in hopper's README.
//
//	go run . list                            works and peers
//	go run . [flags] w1|w2|w3|w4|w5|latency  one table
//	go run . [flags] figures                 all tables, as in docs/figures.md
//	go run . plot >FILE.svg                  the picture
//
// See README.md for what it does not say.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
)

func main() {
	_ = flag.CommandLine.Parse(nil) // a peer's library registers flags of its own, and wants that
	if err := command(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func command(args []string, out, log io.Writer) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(log)
	s := session{log: log}
	flags.IntVar(&s.runs, "runs", defaultRuns, "runs of each peer, of which the median is taken")
	flags.Float64Var(&s.part, "part", 1, "part of the items that is sent")
	quick := flags.Bool("quick", false, fmt.Sprintf("short for -runs 1 -part %v", quickPart))
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		s.runs, s.part = 1, quickPart
	}
	if s.runs < 1 || s.part <= 0 {
		return fmt.Errorf("-runs %d -part %v: both must be positive", s.runs, s.part)
	}

	switch name := flags.Arg(0); name {
	case "list":
		list(out)
		return nil
	case "one":
		return runOne(flags.Args()[1:], out)
	case "trace":
		return runTrace(flags.Args()[1:], out)
	case "plot":
		return plot(out, s)
	case "figures":
		return figures(out, s)
	default:
		for _, t := range tables {
			if t.work == name {
				return t.write(out, s)
			}
		}
		return fmt.Errorf("%q: say list, plot, figures or the name of a work", name)
	}
}

func list(out io.Writer) {
	for _, w := range works {
		fmt.Fprintf(out, "%s  %s, %d items\n", w.name, w.what, w.items)
	}
	for _, p := range peers {
		where := "memory"
		if p.disk {
			where = "disk"
		}
		fmt.Fprintf(out, "%-12s  %s\n", p.name, where)
	}
}

func figures(out io.Writer, s session) error {
	fmt.Fprintf(out, `# Figures

Made by `+"`cd contrib/compare && go run . %sfigures`"+` with %s on %s/%s, %d CPUs. Each run
has one producer and one consumer, in a process of its own; the memory allowed is 2 MiB, and peak
RSS is that of the whole process. The peers take turns, and a ratio is the median of the ratios
within each round. Absolute values drift with the machine: the ratios are what counts. See
[contrib/compare](../contrib/compare/README.md) for what they do not say.

`, s.flags(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	for _, t := range tables {
		if err := t.write(out, s); err != nil {
			return err
		}
	}
	return nil
}
