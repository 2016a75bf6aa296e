package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// The scene of the picture: a producer of so many lines a second, and a
// consumer that stalls.
const (
	sceneRate    = 50_000
	sceneBytes   = 1024
	sceneEvery   = 100 * time.Millisecond
	sceneStall   = 1 * time.Second // the stall begins
	sceneGoOn    = 6 * time.Second // and ends
	sceneProduce = 8 * time.Second // the producer ends
)

// A moment of a scene.
type moment struct {
	At   float64 // seconds
	RSS  int64   // bytes, of the process
	Sent int64   // items
}

// runTrace plays the scene with a peer and writes its moments.
func runTrace(args []string, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("trace needs a peer and a part of the time")
	}
	p, err := peerNamed(args[0])
	if err != nil {
		return err
	}
	var part float64
	if _, err := fmt.Sscan(args[1], &part); err != nil {
		return err
	}
	moments, err := play(p, part)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(moments)
}

func play(p peer, part float64) ([]moment, error) {
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) * part) }
	s := setting{capacity: 64, memory: 1 << 20, payload: sceneBytes}
	if p.disk {
		dir, err := os.MkdirTemp("", "compare-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		s.dir = dir
	}
	q, err := p.bytes(s)
	if err != nil {
		return nil, err
	}

	start := time.Now()
	var sent atomic.Int64
	go sendAtRate(q.in, &sent, start, scale(sceneProduce))
	received := make(chan struct{})
	go func() {
		defer close(received)
		stalled := false
		for range q.out {
			if at := time.Since(start); !stalled && at >= scale(sceneStall) {
				stalled = true
				time.Sleep(scale(sceneGoOn) - at)
			}
		}
	}()

	var moments []moment
	look := func() {
		moments = append(moments, moment{time.Since(start).Seconds() / part, rss(), sent.Load()})
	}
	for tick := time.Tick(scale(sceneEvery)); ; look() {
		select {
		case <-tick:
		case <-received:
			look()
			if q.close != nil {
				return moments, q.close()
			}
			return moments, nil
		}
	}
}

// sendAtRate sends lines until the time is over, sceneRate a second if it is
// not made to wait. What it has missed it does not make up for.
func sendAtRate(in chan<- []byte, sent *atomic.Int64, start time.Time, until time.Duration) {
	defer close(in)
	l := newLines(sceneBytes)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; time.Since(start) < until; {
		<-tick.C
		for range sceneRate / 100 {
			in <- l.item(i)
			sent.Add(1)
			i++
		}
	}
}

// A line of the picture.
type drawn struct {
	peer, label, color string
	moments            []moment
}

// plot plays the scene with each peer and draws what came of it.
func plot(out io.Writer, s session) error {
	all := []drawn{
		{peer: "chanx", label: "unbounded channel in memory", color: "#d9480f"},
		{peer: "hopper", label: "hopper.Pipe", color: "#1971c2"},
		{peer: "channel", label: "bare channel", color: "#868e96"},
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i := range all {
		fmt.Fprintf(s.log, "plot: %s\n", all[i].peer)
		cmd := exec.Command(self, "trace", all[i].peer, fmt.Sprint(s.part))
		cmd.Env = append(os.Environ(), selfEnv+"=1")
		cmd.Stderr = os.Stderr
		b, err := cmd.Output()
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &all[i].moments); err != nil {
			return err
		}
	}
	_, err = io.WriteString(out, draw(all))
	return err
}

const (
	pictureWidth, pictureHeight = 860, 330
	panelWidth, panelHeight     = 330, 200
	panelTop                    = 62
)

func draw(all []drawn) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" `+
		`font-family="system-ui, sans-serif" font-size="13">`+"\n", pictureWidth, pictureHeight)
	fmt.Fprintf(&b, "<title>Memory stays flat while the backlog grows and drains</title>\n")
	fmt.Fprintf(&b, "<style>text{fill:#495057}.axis{stroke:#868e96;stroke-width:1;fill:none}"+
		"@media (prefers-color-scheme:dark){text{fill:#ced4da}}</style>\n")

	panel(&b, 60, "Memory of the process, MB", all,
		func(m moment) float64 { return float64(m.RSS) / 1e6 })
	panel(&b, 490, "Items that the producer could send, thousands", all,
		func(m moment) float64 { return float64(m.Sent) / 1e3 })
	x := 60
	for _, d := range all {
		fmt.Fprintf(&b, `<rect x="%d" y="309" width="18" height="4" fill="%s"/>`, x, d.color)
		fmt.Fprintf(&b, `<text x="%d" y="316">%s</text>`+"\n", x+24, d.label)
		x += 40 + 8*len(d.label)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// panel draws one figure of all peers over time.
func panel(b *strings.Builder, left int, title string, all []drawn, value func(moment) float64) {
	end, most := 0.0, 0.0
	for _, d := range all {
		for _, m := range d.moments {
			end, most = max(end, m.At), max(most, value(m))
		}
	}
	most = roundUp(most)
	x := func(at float64) float64 { return float64(left) + at/end*panelWidth }
	y := func(v float64) float64 { return panelTop + panelHeight - v/most*panelHeight }

	fmt.Fprintf(b, `<text x="%d" y="24" font-weight="600">%s</text>`+"\n", left, title)
	from, to := x(sceneStall.Seconds()), x(sceneGoOn.Seconds())
	fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#868e96" `+
		`fill-opacity=".13"/>`+"\n", from, panelTop, to-from, panelHeight)
	fmt.Fprintf(b, `<text x="%.1f" y="%d" font-size="11">the consumer stalls</text>`+"\n",
		x(sceneStall.Seconds())+4, panelTop-6)
	fmt.Fprintf(b, `<path class="axis" d="M%d %dV%dH%d"/>`+"\n",
		left, panelTop, panelTop+panelHeight, left+panelWidth)
	for i := range 5 {
		v := most * float64(i) / 4
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" font-size="11">%.0f</text>`+"\n",
			left-6, y(v)+4, v)
	}
	for at := 0.0; at <= end; at += 2 {
		fmt.Fprintf(b,
			`<text x="%.1f" y="%d" text-anchor="middle" font-size="11">%.0f s</text>`+"\n",
			x(at), panelTop+panelHeight+18, at)
	}
	for _, d := range all {
		var points []string
		for _, m := range d.moments {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(m.At), y(value(m))))
		}
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n",
			d.color, strings.Join(points, " "))
	}
}

// roundUp returns a round number that is not less than v.
func roundUp(v float64) float64 {
	for unit := 1.0; ; unit *= 10 {
		for _, n := range []float64{1, 2, 4, 6, 8} {
			if n*unit >= v {
				return n * unit
			}
		}
	}
}
