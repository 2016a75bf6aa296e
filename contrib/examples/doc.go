// Package examples holds no code. The programs below it show hopper at the work
// that it is for; each is tested against the real thing:
//
//   - database: batches into SQLite, acknowledged after the commit
//   - filetail: a log file to an HTTP sink that stalls; nothing is lost by kill
//     -9
//   - ingest: an HTTP service that answers at once and stops in good order
//   - kafka: lines to Kafka, whatever the broker does
//   - tenants: ten tenants, one of them greedy, under one limit of disk space
package examples
