package hopperotel_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/otlptranslator"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/hopper"
	hopperotel "example.com/hopper/contrib/otel"
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

// newPipes returns pipes with a reader of what they export.
func newPipes(t *testing.T, r metric.Reader) *hopperotel.Pipes {
	t.Helper()
	provider := metric.NewMeterProvider(metric.WithReader(r))
	p, err := hopperotel.New(provider.Meter("hopper"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// collect returns the value of each series, by name and attributes.
func collect(t *testing.T, r *metric.ManualReader) map[string]float64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}

	all := make(map[string]float64)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			for attrs, v := range points(m.Data) {
				all[m.Name+"["+m.Unit+"]"+attrs] = v
			}
		}
	}
	return all
}

func points(data metricdata.Aggregation) map[string]float64 {
	all := make(map[string]float64)
	switch d := data.(type) {
	case metricdata.Sum[int64]:
		addPoints(all, d.DataPoints)
	case metricdata.Sum[float64]:
		addPoints(all, d.DataPoints)
	case metricdata.Gauge[int64]:
		addPoints(all, d.DataPoints)
	case metricdata.Gauge[float64]:
		addPoints(all, d.DataPoints)
	}
	return all
}

func addPoints[N int64 | float64](all map[string]float64, points []metricdata.DataPoint[N]) {
	for _, p := range points {
		var attrs []string
		for _, a := range p.Attributes.ToSlice() {
			attrs = append(attrs, string(a.Key)+"="+a.Value.AsString())
		}
		all["{"+strings.Join(attrs, ",")+"}"] = float64(p.Value)
	}
}

func TestEachFigureIsExported(t *testing.T) {
	r := metric.NewManualReader()
	p := newPipes(t, r)
	f := sample()
	p.Add("logs", f, hopperotel.Limits{MaxMemory: 1 << 20, MaxDisk: 1 << 30})
	want := map[string]float64{
		"hopper.received.items[{item}]{pipe=logs}":         100,
		"hopper.resumed.items[{item}]{pipe=logs}":          20,
		"hopper.delivered.items[{item}]{pipe=logs}":        70,
		"hopper.lost.items[{item}]{pipe=logs}":             5,
		"hopper.spilled.items[{item}]{pipe=logs}":          60,
		"hopper.queue.size[{item}]{pipe=logs,tier=memory}": 10,
		"hopper.queue.size[{item}]{pipe=logs,tier=disk}":   35,
		"hopper.queue.high_water[{item}]{pipe=logs}":       90,
		"hopper.queue.oldest.timestamp[s]{pipe=logs}":      1700000000.5,
		"hopper.unacked.size[{item}]{pipe=logs}":           3,
		"hopper.memory.usage[By]{pipe=logs}":               1234,
		"hopper.memory.limit[By]{pipe=logs}":               1 << 20,
		"hopper.disk.usage[By]{pipe=logs}":                 5678,
		"hopper.disk.limit[By]{pipe=logs}":                 1 << 30,
		"hopper.segment.count[{segment}]{pipe=logs}":       2,
		"hopper.blocked[]{pipe=logs}":                      1,
		"hopper.blocked.time[s]{pipe=logs}":                90,
	}
	if d := cmp.Diff(want, collect(t, r)); d != "" {
		t.Errorf("exported (-want +got):\n%s", d)
	}
	if f.asked != 1 {
		t.Errorf("a collection asks a pipe %d times, want once", f.asked)
	}
}

func TestPipesComeAndGo(t *testing.T) {
	r := metric.NewManualReader()
	p := newPipes(t, r)
	p.Add("a", &fixed{}, hopperotel.Limits{})
	p.Add("b", &fixed{}, hopperotel.Limits{})
	for name := range collect(t, r) {
		for _, absent := range []string{"oldest", "limit"} {
			if strings.Contains(name, absent) {
				t.Errorf("exported: %s", name)
			}
		}
	}

	p.Remove("a")
	p.Remove("nobody")
	got := collect(t, r)
	for name := range got {
		if strings.Contains(name, "pipe=a") {
			t.Errorf("exported after it was removed: %s", name)
		}
	}
	if len(got) == 0 {
		t.Error("nothing is exported of the other")
	}
	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(string), `a pipe "b" already`) {
			t.Errorf("a second pipe of the same name: %v", r)
		}
	}()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, r); len(got) != 0 {
		t.Errorf("exported after Close: %v", got)
	}
	p.Add("b", &fixed{}, hopperotel.Limits{})
}

// What the OpenTelemetry exporter for Prometheus makes of the names is what
// contrib/prometheus exports.
func TestTranslatedToPrometheusTheNamesAreThoseOfItsCollector(t *testing.T) {
	translated := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(translated), otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
		otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		t.Fatal(err)
	}
	newPipes(t, exporter).Add("logs", sample(), hopperotel.Limits{MaxMemory: 1, MaxDisk: 1})

	direct := prometheus.NewRegistry()
	var c hopperprom.Collector
	direct.MustRegister(&c)
	c.Add("logs", sample(), hopperprom.Limits{MaxMemory: 1, MaxDisk: 1})

	if d := cmp.Diff(names(t, direct), names(t, translated)); d != "" {
		t.Errorf("names (-contrib/prometheus +translated):\n%s", d)
	}
}

// names returns the names and types of what is registered.
func names(t *testing.T, r *prometheus.Registry) []string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, f := range families {
		kind := f.GetType()
		if kind == dto.MetricType_UNTYPED {
			t.Errorf("%s has no type", f.GetName())
		}
		all[f.GetName()+" "+kind.String()] = true
	}
	return slices.Sorted(maps.Keys(all))
}
