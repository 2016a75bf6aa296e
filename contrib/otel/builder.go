package hopperotel

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// A builder makes instruments, and keeps what goes wrong for the end.
type builder struct {
	m   metric.Meter
	all []metric.Observable
	err error
}

func (b *builder) made(i metric.Observable, err error) {
	b.all = append(b.all, i)
	b.err = errors.Join(b.err, err)
}

func (b *builder) counter(name, help string) metric.Int64ObservableCounter {
	i, err := b.m.Int64ObservableCounter(name, metric.WithUnit("{item}"),
		metric.WithDescription(help))
	b.made(i, err)
	return i
}

func (b *builder) upDown(name, unit, help string) metric.Int64ObservableUpDownCounter {
	i, err := b.m.Int64ObservableUpDownCounter(name,
		metric.WithUnit(unit), metric.WithDescription(help))
	b.made(i, err)
	return i
}

func (b *builder) gauge(name, unit, help string) metric.Int64ObservableGauge {
	i, err := b.m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
	b.made(i, err)
	return i
}

func (b *builder) seconds(name, help string) metric.Float64ObservableCounter {
	i, err := b.m.Float64ObservableCounter(name, metric.WithUnit("s"), metric.WithDescription(help))
	b.made(i, err)
	return i
}

func (b *builder) timestamp(name, help string) metric.Float64ObservableGauge {
	i, err := b.m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(help))
	b.made(i, err)
	return i
}
