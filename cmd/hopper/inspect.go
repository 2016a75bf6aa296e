package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"example.com/hopper/spill"
	"example.com/hopper/spill/segment"
)

// runInspect lists segments.
func runInspect(args []string, std stdio) error {
	fs := flagSet("inspect")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 1); err != nil {
		return err
	}
	l, err := list(fs.Arg(0))
	if err != nil {
		return err
	}
	if *asJSON {
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		return e.Encode(l)
	}
	return l.writeTable(std.out)
}

// A listing is what inspect shows, as JSON. Sizes are in bytes.
type listing struct {
	Dir       string `json:"dir"`
	Next      uint64 `json:"next"`       // first item that has not been delivered
	Items     uint64 `json:"items"`      // that have not been delivered
	RestBytes int64  `json:"rest_bytes"` // taken from the segments by a stopped run; comes first
	RestError string `json:"rest_error,omitempty"`
	Segments  []row  `json:"segments"`
}

type row struct {
	Path     string  `json:"path"`
	First    uint64  `json:"first"`
	End      uint64  `json:"end"` // behind the last item
	Items    uint64  `json:"items"`
	Bytes    int64   `json:"bytes"`
	Unpacked int64   `json:"unpacked_bytes"`
	Ratio    float64 `json:"ratio"` // of the bytes in the file to those unpacked
	Label    string  `json:"type"`
	State    string  `json:"state"`
	Error    string  `json:"error,omitempty"`
}

func list(dir string) (listing, error) {
	found, err := segment.Inspect(dir)
	if err != nil {
		return listing{}, err
	}
	rest, err := loadRest(dir)
	l := listing{
		Dir: dir, Next: found.Next, Items: found.Items, RestBytes: int64(len(rest)),
		Segments: []row{},
	}
	if err != nil {
		l.RestError = err.Error()
	}
	for _, s := range found.Segments {
		l.Segments = append(l.Segments, newRow(s))
	}
	return l, nil
}

func newRow(s segment.SegmentInfo) row {
	r := row{
		Path: s.Path, First: s.First, End: s.End, Items: s.End - s.First,
		Bytes: s.Bytes, Unpacked: s.FrameBytes, Label: s.Label, State: s.State,
	}
	if r.Unpacked > 0 {
		r.Ratio = float64(r.Bytes) / float64(r.Unpacked)
	}
	if s.Err != nil {
		r.Error = s.Err.Error()
	}
	return r
}

func (l listing) writeTable(w io.Writer) error {
	switch {
	case l.RestError != "":
		fmt.Fprintln(w, l.RestError)
	case l.RestBytes > 0:
		fmt.Fprintf(w, "%s: %v that come first\n",
			filepath.Join(l.Dir, restName), size(l.RestBytes))
	}
	if len(l.Segments) == 0 {
		_, err := fmt.Fprintf(w, "%s: no segments\n", l.Dir)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SEGMENT\tFIRST\tEND\tITEMS\tON DISK\tUNPACKED\tRATIO\tSTATE\tTYPE")
	total := row{}
	for _, r := range l.Segments {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\n", filepath.Base(r.Path), r.First, r.End, r.sums())
		total.Items += r.Items
		total.Bytes += r.Bytes
		total.Unpacked += r.Unpacked
	}
	if total.Unpacked > 0 {
		total.Ratio = float64(total.Bytes) / float64(total.Unpacked)
	}
	fmt.Fprintf(t, "total\t\t\t%s\n", total.sums())
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d items to be delivered, from %d on\n", l.Items, l.Next)
	return err
}

// sums returns the columns from ITEMS on.
func (r row) sums() string {
	label, _, _ := strings.Cut(r.Label, "\n")
	if r.Error != "" {
		label += " (" + r.Error + ")"
	}
	line := fmt.Sprintf("%d\t%v\t%v\t%.2f\t%s\t%s",
		r.Items, size(r.Bytes), size(r.Unpacked), r.Ratio, r.State, label)
	return strings.TrimRight(line, "\t ")
}

// runCat writes a backlog to stdout.
func runCat(args []string, std stdio) error {
	fs := flagSet("cat")
	lines := fs.Bool("lines", false, "")
	if err := parse(fs, args, 1); err != nil {
		return err
	}
	w := bufio.NewWriterSize(std.out, 64<<10)
	rest, damage := loadRest(fs.Arg(0))
	w.Write(rest) // the error stays for Flush
	if *lines && len(rest) > 0 {
		w.WriteByte('\n')
	}
	for item, err := range segment.Items(fs.Arg(0)) {
		if errors.Is(err, spill.ErrCorrupt) {
			damage = errors.Join(damage, err)
			continue
		}
		if err == nil {
			_, err = w.Write(item.Bytes)
		}
		if err == nil && *lines {
			err = w.WriteByte('\n')
		}
		if err != nil {
			return errors.Join(damage, err)
		}
	}
	return errors.Join(damage, w.Flush())
}

// errDamaged has been told in detail.
var errDamaged = errors.New("the backlog is damaged")

// runVerify checks a backlog.
func runVerify(args []string, std stdio) error {
	fs := flagSet("verify")
	if err := parse(fs, args, 1); err != nil {
		return err
	}
	dir := fs.Arg(0)
	var places int
	var lost uint64
	rest, err := loadRest(dir)
	report(err, std)
	if err != nil {
		places++
	}
	l, err := segment.Verify(dir, func(e *spill.CorruptError) {
		report(e, std)
		places++
		lost += e.Items
	})
	switch {
	case err != nil:
		return err
	case places > 0:
		return fmt.Errorf("%w, places: %d: %d of %d items lost", errDamaged, places, lost, l.Items)
	}
	if l.Empty() && len(rest) == 0 {
		return fmt.Errorf("%s holds no backlog: there is nothing to verify", dir)
	}

	var bytes int64
	for _, s := range l.Segments {
		bytes += s.Bytes
	}
	first := ""
	if len(rest) > 0 {
		first = fmt.Sprintf("%v that come first, ", size(len(rest)))
	}
	_, err = fmt.Fprintf(std.out, "%s: all is well: %s%d items to be delivered, %d segments, %v\n",
		dir, first, l.Items, len(l.Segments), size(bytes))
	return err
}
