package hopperprom_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"example.com/hopper"
	hopperprom "example.com/hopper/contrib/prometheus"
)

// fixed is a pipe whose figures stand still, and that counts who asks.
type fixed struct {
	stats hopper.Stats
	asked int
}

func (f *fixed) Stats() hopper.Stats { f.asked++; return f.stats }

func sample() *fixed {
	return &fixed{stats: hopper.Stats{
		Received: 100, Resumed: 20, Delivered: 70, InMemory: 10, OnDisk: 35, Lost: 5, Unacked: 3,
		MemoryBytes: 1234, DiskBytes: 5678, Segments: 2, Spilled: 60, HighWater: 90,
		Oldest: time.Unix(1700000000, 500_000_000), Blocked: true, Reason: "full",
		BlockedFor: 90 * time.Second,
	}}
}

func registry(t *testing.T, c *hopperprom.Collector) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEachFigureIsExported(t *testing.T) {
	var c hopperprom.Collector
	f := sample()
	c.Add("logs", f, hopperprom.Limits{MaxMemory: 1 << 20, MaxDisk: 1 << 30})
	want := `
# HELP hopper_blocked Whether the pipe is not receiving: 1 at a limit, or while the disk refuses.
# TYPE hopper_blocked gauge
hopper_blocked{pipe="logs"} 1
# HELP hopper_blocked_time_seconds_total Time that the pipe has not been receiving.
# TYPE hopper_blocked_time_seconds_total counter
hopper_blocked_time_seconds_total{pipe="logs"} 90
# HELP hopper_delivered_items_total Items sent to out.
# TYPE hopper_delivered_items_total counter
hopper_delivered_items_total{pipe="logs"} 70
# HELP hopper_disk_limit_bytes Disk space that the backlog may take.
# TYPE hopper_disk_limit_bytes gauge
hopper_disk_limit_bytes{pipe="logs"} 1.073741824e+09
# HELP hopper_disk_usage_bytes Disk space that the backlog takes.
# TYPE hopper_disk_usage_bytes gauge
hopper_disk_usage_bytes{pipe="logs"} 5678
# HELP hopper_lost_items_total Items lost, by damage on disk or by a stop without Resume.
# TYPE hopper_lost_items_total counter
hopper_lost_items_total{pipe="logs"} 5
# HELP hopper_memory_limit_bytes Memory that waiting items may take.
# TYPE hopper_memory_limit_bytes gauge
hopper_memory_limit_bytes{pipe="logs"} 1.048576e+06
# HELP hopper_memory_usage_bytes Memory that waiting items take.
# TYPE hopper_memory_usage_bytes gauge
hopper_memory_usage_bytes{pipe="logs"} 1234
# HELP hopper_queue_high_water Most items that have ever waited.
# TYPE hopper_queue_high_water gauge
hopper_queue_high_water{pipe="logs"} 90
# HELP hopper_queue_oldest_timestamp_seconds When the oldest waiting item was received. There is none while nothing waits.
# TYPE hopper_queue_oldest_timestamp_seconds gauge
hopper_queue_oldest_timestamp_seconds{pipe="logs"} 1.7000000005e+09
# HELP hopper_queue_size Items that wait, in memory or on disk.
# TYPE hopper_queue_size gauge
hopper_queue_size{pipe="logs",tier="disk"} 35
hopper_queue_size{pipe="logs",tier="memory"} 10
# HELP hopper_received_items_total Items received from in.
# TYPE hopper_received_items_total counter
hopper_received_items_total{pipe="logs"} 100
# HELP hopper_resumed_items_total Items found at the start, kept by an earlier pipe.
# TYPE hopper_resumed_items_total counter
hopper_resumed_items_total{pipe="logs"} 20
# HELP hopper_segment_count Files of the backlog.
# TYPE hopper_segment_count gauge
hopper_segment_count{pipe="logs"} 2
# HELP hopper_spilled_items_total Items that have gone to the log on disk.
# TYPE hopper_spilled_items_total counter
hopper_spilled_items_total{pipe="logs"} 60
# HELP hopper_unacked_size Items delivered and not yet acknowledged.
# TYPE hopper_unacked_size gauge
hopper_unacked_size{pipe="logs"} 3
`
	r := registry(t, &c)
	if err := testutil.GatherAndCompare(r, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if f.asked != 1 {
		t.Errorf("a scrape asks a pipe %d times, want once", f.asked)
	}
}

func TestWhatIsNotThereIsNotExported(t *testing.T) {
	var c hopperprom.Collector
	c.Add("idle", &fixed{}, hopperprom.Limits{})
	for _, name := range []string{"hopper_queue_oldest_timestamp_seconds",
		"hopper_memory_limit_bytes", "hopper_disk_limit_bytes"} {
		if n, err := testutil.GatherAndCount(registry(t, &c), name); n != 0 || err != nil {
			t.Errorf("%d series %s: %v", n, name, err)
		}
	}
}

func TestTheLinterHasNothingToSayButOfTheSegments(t *testing.T) {
	var c hopperprom.Collector
	c.Add("logs", sample(), hopperprom.Limits{MaxMemory: 1, MaxDisk: 1})
	problems, err := testutil.GatherAndLint(registry(t, &c))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if p.Metric != "hopper_segment_count" {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// With real pipes at work, the equation holds in every scrape.
func TestTheEquationHoldsAmongTheSeriesOfAScrape(t *testing.T) {
	in, out, p, err := hopper.Make[int](8, hopper.MaxMemory(4<<10))
	if err != nil {
		t.Fatal(err)
	}
	var c hopperprom.Collector
	c.Add("work", p, hopperprom.Limits{})
	r := registry(t, &c)

	var work sync.WaitGroup
	work.Go(func() {
		defer close(in)
		for i := range 200_000 {
			in <- i
		}
	})
	work.Go(func() {
		for range out {
		}
	})
	for done := false; !done; {
		select {
		case <-p.Done():
			done = true
		default:
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		v := values(families)
		came := v["hopper_received_items_total"] + v["hopper_resumed_items_total"]
		went := v["hopper_delivered_items_total"] + v["hopper_queue_size"] + v["hopper_lost_items_total"]
		if came != went {
			t.Fatalf("%v items came, %v are accounted for", came, went)
		}
	}
	work.Wait()
}

// values adds up the series of each name.
func values(families []*dto.MetricFamily) map[string]float64 {
	v := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			v[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return v
}

func TestPipesComeAndGo(t *testing.T) {
	var c hopperprom.Collector
	r := registry(t, &c)
	server := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	defer server.Close()
	scrape := func() string {
		resp, err := http.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	c.Add("a", sample(), hopperprom.Limits{})
	c.Add("b", sample(), hopperprom.Limits{})
	if text := scrape(); !strings.Contains(text, `hopper_received_items_total{pipe="a"} 100`) ||
		!strings.Contains(text, `hopper_received_items_total{pipe="b"} 100`) {
		t.Errorf("two pipes: %s", text)
	}
	c.Remove("a")
	c.Remove("nobody")
	if text := scrape(); strings.Contains(text, `pipe="a"`) || !strings.Contains(text, `pipe="b"`) {
		t.Errorf("after one was removed: %s", text)
	}

	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(string), `a pipe "b" already`) {
			t.Errorf("a second pipe of the same name: %v", r)
		}
	}()
	c.Add("b", sample(), hopperprom.Limits{})
}
