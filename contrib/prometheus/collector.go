package hopperprom

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/hopper"
)

// Statser is what a Collector asks: a [*hopper.Pump], or whatever stands for
// several.
type Statser interface{ Stats() hopper.Stats }

// Limits are what a pipe was set to, in bytes. Those that are 0 are not
// exported.
type Limits struct {
	MaxMemory int64
	MaxDisk   int64
}

// A Collector exports the figures of any number of pipes, each with its name as
// the label "pipe". It implements [prometheus.Collector]. All methods are safe
// for concurrent use. The zero Collector has no pipes.
type Collector struct {
	mu    sync.Mutex
	pipes map[string]pipe
}

type pipe struct {
	stats  Statser
	limits Limits
}

// Add exports a pipe under a name from the next scrape on. It panics if the
// name is taken. A pipe that has ended keeps its last figures until it is
// removed.
func (c *Collector) Add(name string, p Statser, limits Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.pipes[name]; taken {
		panic(fmt.Sprintf("hopperprom: there is a pipe %q already: "+
			"remove it first, or choose another name", name))
	}
	if c.pipes == nil {
		c.pipes = make(map[string]pipe)
	}
	c.pipes[name] = pipe{p, limits}
}

// Remove ends the export of a pipe. It does nothing if there is none of that
// name.
func (c *Collector) Remove(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pipes, name)
}

// A series is what one figure is exported as.
type series struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s hopper.Stats, l Limits) (v float64, exported bool)
	tier  string // the value of that label, if there is one
}

func newSeries(
	kind prometheus.ValueType, name, help string, value func(s hopper.Stats) float64,
) series {
	return series{
		desc: prometheus.NewDesc(name, help, []string{"pipe"}, nil), kind: kind,
		value: func(s hopper.Stats, _ Limits) (float64, bool) { return value(s), true },
	}
}

func counter(name, help string, value func(s hopper.Stats) float64) series {
	return newSeries(prometheus.CounterValue, name, help, value)
}

func gauge(name, help string, value func(s hopper.Stats) float64) series {
	return newSeries(prometheus.GaugeValue, name, help, value)
}

func limit(name, help string, value func(l Limits) int64) series {
	s := gauge(name, help, nil)
	s.value = func(_ hopper.Stats, l Limits) (float64, bool) {
		return float64(value(l)), value(l) > 0
	}
	return s
}

var queueSize = prometheus.NewDesc("hopper_queue_size",
	"Items that wait, in memory or on disk.", []string{"pipe", "tier"}, nil)

func tier(name string, value func(s hopper.Stats) float64) series {
	s := gauge("", "", value)
	s.desc, s.tier = queueSize, name
	return s
}

// all is what is exported of each pipe. promlint takes hopper_segment_count for
// a part of a histogram; that is what OpenTelemetry's hopper.segment.count is
// translated to.
var all = []series{
	counter("hopper_received_items_total", "Items received from in.",
		func(s hopper.Stats) float64 { return float64(s.Received) }),
	counter("hopper_resumed_items_total", "Items found at the start, kept by an earlier pipe.",
		func(s hopper.Stats) float64 { return float64(s.Resumed) }),
	counter("hopper_delivered_items_total", "Items sent to out.",
		func(s hopper.Stats) float64 { return float64(s.Delivered) }),
	counter("hopper_lost_items_total", "Items lost, by damage on disk or by a stop without Resume.",
		func(s hopper.Stats) float64 { return float64(s.Lost) }),
	counter("hopper_spilled_items_total", "Items that have gone to the log on disk.",
		func(s hopper.Stats) float64 { return float64(s.Spilled) }),
	tier("memory", func(s hopper.Stats) float64 { return float64(s.InMemory) }),
	tier("disk", func(s hopper.Stats) float64 { return float64(s.OnDisk) }),
	gauge("hopper_unacked_size", "Items delivered and not yet acknowledged.",
		func(s hopper.Stats) float64 { return float64(s.Unacked) }),
	gauge("hopper_memory_usage_bytes", "Memory that waiting items take.",
		func(s hopper.Stats) float64 { return float64(s.MemoryBytes) }),
	limit("hopper_memory_limit_bytes", "Memory that waiting items may take.",
		func(l Limits) int64 { return l.MaxMemory }),
	gauge("hopper_disk_usage_bytes", "Disk space that the backlog takes.",
		func(s hopper.Stats) float64 { return float64(s.DiskBytes) }),
	limit("hopper_disk_limit_bytes", "Disk space that the backlog may take.",
		func(l Limits) int64 { return l.MaxDisk }),
	gauge("hopper_segment_count", "Files of the backlog.",
		func(s hopper.Stats) float64 { return float64(s.Segments) }),
	gauge("hopper_queue_high_water", "Most items that have ever waited.",
		func(s hopper.Stats) float64 { return float64(s.HighWater) }),
	gauge("hopper_blocked",
		"Whether the pipe is not receiving: 1 at a limit, or while the disk refuses.",
		func(s hopper.Stats) float64 {
			if s.Blocked {
				return 1
			}
			return 0
		}),
	counter("hopper_blocked_time_seconds_total", "Time that the pipe has not been receiving.",
		func(s hopper.Stats) float64 { return s.BlockedFor.Seconds() }),
	{
		desc: prometheus.NewDesc("hopper_queue_oldest_timestamp_seconds",
			"When the oldest waiting item was received. There is none while nothing waits.",
			[]string{"pipe"}, nil),
		kind: prometheus.GaugeValue,
		value: func(s hopper.Stats, _ Limits) (float64, bool) {
			return float64(s.Oldest.UnixNano()) / 1e9, !s.Oldest.IsZero()
		},
	},
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, s := range all {
		if s.tier != "disk" { // it has the same as "memory"
			descs <- s.desc
		}
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	pipes := maps.Clone(c.pipes)
	c.mu.Unlock()

	for _, name := range slices.Sorted(maps.Keys(pipes)) {
		p := pipes[name]
		stats := p.stats.Stats() // once, so that all belongs to one moment
		for _, s := range all {
			v, exported := s.value(stats, p.limits)
			if !exported {
				continue
			}
			labels := []string{name}
			if s.tier != "" {
				labels = append(labels, s.tier)
			}
			metrics <- prometheus.MustNewConstMetric(s.desc, s.kind, v, labels...)
		}
	}
}
