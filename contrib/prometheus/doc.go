// Package hopperprom exports the figures of hopper's pipes as Prometheus
// metrics.
//
// A [Collector] asks each pipe for one snapshot per scrape, so that the figures
// of a pipe belong to one moment: in every scrape
//
//	hopper_received_items_total + hopper_resumed_items_total ==
//	  hopper_delivered_items_total + sum(hopper_queue_size) + hopper_lost_items_total
//
// A scrape never blocks a pump, nor does a pump block a scrape. The names are
// those that the OpenTelemetry metrics of contrib/otel get when they are
// translated.
package hopperprom
