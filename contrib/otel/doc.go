// Package hopperotel exports the figures of hopper's pipes as OpenTelemetry
// metrics.
//
// Pipes asks each pipe for one snapshot per collection, so that the figures of
// a pipe belong to one moment: in every collection
//
//	hopper.received.items + hopper.resumed.items ==
//	  hopper.delivered.items + sum(hopper.queue.size) + hopper.lost.items
//
// A collection never blocks a pump, nor does a pump block a collection. The
// names follow OpenTelemetry's conventions; translated to Prometheus they are
// those of contrib/prometheus.
package hopperotel
