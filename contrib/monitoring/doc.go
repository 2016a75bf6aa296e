// Package monitoring holds a Grafana dashboard and Prometheus alerts for the
// series of contrib/prometheus, and the tests of both. There is no code in it.
package monitoring
