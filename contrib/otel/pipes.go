package hopperotel

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/hopper"
)

// Statser is what Pipes asks: a [*hopper.Pump], or whatever stands for several.
type Statser interface{ Stats() hopper.Stats }

// Limits are what a pipe was set to, in bytes. Those that are 0 are not
// exported.
type Limits struct {
	MaxMemory int64
	MaxDisk   int64
}

// Pipes exports the figures of any number of pipes, each with its name as the
// attribute "pipe". All methods are safe for concurrent use.
type Pipes struct {
	registration metric.Registration

	mu    sync.Mutex
	pipes map[string]pipe
}

type pipe struct {
	stats  Statser
	limits Limits
	attrs  metric.MeasurementOption
	memory metric.MeasurementOption
	disk   metric.MeasurementOption
}

// instruments are what is observed of each pipe.
type instruments struct {
	received, resumed, delivered, lost, spilled  metric.Int64ObservableCounter
	queue, unacked, memory, disk, segments       metric.Int64ObservableUpDownCounter
	memoryLimit, diskLimit, highWater, isBlocked metric.Int64ObservableGauge
	blockedTime                                  metric.Float64ObservableCounter
	oldest                                       metric.Float64ObservableGauge
}

// New makes the instruments with the meter. The errors are the meter's.
func New(m metric.Meter) (*Pipes, error) {
	b := builder{m: m}
	i := instruments{
		received: b.counter("hopper.received.items", "Items received from in."),
		resumed: b.counter("hopper.resumed.items",
			"Items found at the start, kept by an earlier pipe."),
		delivered: b.counter("hopper.delivered.items",
			"Items sent to out."),
		lost: b.counter("hopper.lost.items",
			"Items lost, by damage on disk or by a stop without Resume."),
		spilled: b.counter("hopper.spilled.items", "Items that have gone to the log on disk."),

		queue: b.upDown("hopper.queue.size", "{item}", "Items that wait, in memory or on disk."),
		unacked: b.upDown("hopper.unacked.size", "{item}",
			"Items delivered and not yet acknowledged."),
		memory:   b.upDown("hopper.memory.usage", "By", "Memory that waiting items take."),
		disk:     b.upDown("hopper.disk.usage", "By", "Disk space that the backlog takes."),
		segments: b.upDown("hopper.segment.count", "{segment}", "Files of the backlog."),

		memoryLimit: b.gauge("hopper.memory.limit", "By", "Memory that waiting items may take."),
		diskLimit:   b.gauge("hopper.disk.limit", "By", "Disk space that the backlog may take."),
		highWater: b.gauge("hopper.queue.high_water", "{item}",
			"Most items that have ever waited."),
		isBlocked: b.gauge("hopper.blocked", "",
			"Whether the pipe is not receiving: 1 at a limit, or while the disk refuses."),
	}
	i.blockedTime = b.seconds("hopper.blocked.time", "Time that the pipe has not been receiving.")
	i.oldest = b.timestamp("hopper.queue.oldest.timestamp",
		"When the oldest waiting item was received. There is none while nothing waits.")
	if b.err != nil {
		return nil, fmt.Errorf("hopperotel: make the instruments: %w", b.err)
	}

	p := &Pipes{pipes: make(map[string]pipe)}
	registration, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		p.observe(o, &i)
		return nil
	}, b.all...)
	if err != nil {
		return nil, fmt.Errorf("hopperotel: register: %w", err)
	}
	p.registration = registration
	return p, nil
}

// Add exports a pipe under a name from the next collection on. It panics if the
// name is taken. A pipe that has ended keeps its last figures until it is
// removed.
func (p *Pipes) Add(name string, s Statser, limits Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.pipes[name]; taken {
		panic(fmt.Sprintf("hopperotel: there is a pipe %q already: "+
			"remove it first, or choose another name", name))
	}

	label := attribute.String("pipe", name)
	p.pipes[name] = pipe{
		stats: s, limits: limits,
		attrs:  metric.WithAttributes(label),
		memory: metric.WithAttributes(label, attribute.String("tier", "memory")),
		disk:   metric.WithAttributes(label, attribute.String("tier", "disk")),
	}
}

// Remove ends the export of a pipe. It does nothing if there is none of that
// name.
func (p *Pipes) Remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pipes, name)
}

// Close ends the export of all pipes.
func (p *Pipes) Close() error { return p.registration.Unregister() }

func (p *Pipes) observe(o metric.Observer, i *instruments) {
	p.mu.Lock()
	pipes := maps.Clone(p.pipes)
	p.mu.Unlock()

	for _, pipe := range pipes {
		pipe.observe(o, i, pipe.stats.Stats()) // asked once, so that all belongs to one moment
	}
}

func (p *pipe) observe(o metric.Observer, i *instruments, s hopper.Stats) {
	o.ObserveInt64(i.received, int64(s.Received), p.attrs)
	o.ObserveInt64(i.resumed, int64(s.Resumed), p.attrs)
	o.ObserveInt64(i.delivered, int64(s.Delivered), p.attrs)
	o.ObserveInt64(i.lost, int64(s.Lost), p.attrs)
	o.ObserveInt64(i.spilled, int64(s.Spilled), p.attrs)

	o.ObserveInt64(i.queue, int64(s.InMemory), p.memory)
	o.ObserveInt64(i.queue, int64(s.OnDisk), p.disk)
	o.ObserveInt64(i.unacked, int64(s.Unacked), p.attrs)
	o.ObserveInt64(i.memory, s.MemoryBytes, p.attrs)
	o.ObserveInt64(i.disk, s.DiskBytes, p.attrs)
	o.ObserveInt64(i.segments, int64(s.Segments), p.attrs)
	o.ObserveInt64(i.highWater, int64(s.HighWater), p.attrs)
	if p.limits.MaxMemory > 0 {
		o.ObserveInt64(i.memoryLimit, p.limits.MaxMemory, p.attrs)
	}
	if p.limits.MaxDisk > 0 {
		o.ObserveInt64(i.diskLimit, p.limits.MaxDisk, p.attrs)
	}

	blocked := int64(0)
	if s.Blocked {
		blocked = 1
	}
	o.ObserveInt64(i.isBlocked, blocked, p.attrs)
	o.ObserveFloat64(i.blockedTime, s.BlockedFor.Seconds(), p.attrs)
	if !s.Oldest.IsZero() {
		o.ObserveFloat64(i.oldest, float64(s.Oldest.UnixNano())/1e9, p.attrs)
	}
}
