// Database writes readings, CSV lines of a sensor's name and a value on its
// standard input, into SQLite. It writes batches, since a transaction costs the
// same for one row as for a thousand. While the database is locked or slow,
// readings wait in a pipe, and the sensors do not.
//
// A batch is acknowledged after its commit. A crash in between brings it back,
// so each reading has an ID and is inserted once.
//
//	sensors | go run ./database -db readings.db -dir /var/spool/readings
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"example.com/hopper"
)

func main() {
	path := flag.String("db", "readings.db", "the database")
	dir := flag.String("dir", "spool", "directory of the backlog")
	grace := flag.Duration("grace", 5*time.Second, "time to write what waits after SIGTERM")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *path, os.Stdin, *dir, *grace); err != nil {
		log.Fatal(err)
	}
}

type reading struct {
	ID     string // made on receipt: it says whether a reading is in the database
	Time   time.Time
	Sensor string
	Value  float64
}

const schema = `
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS readings (
	id     TEXT PRIMARY KEY,
	time   TEXT NOT NULL,
	sensor TEXT NOT NULL,
	value  REAL NOT NULL
) WITHOUT ROWID`

// run writes readings until they end or ctx does. It returns nil if all of them
// are in the database; those that are not are kept in dir.
func run(
	ctx context.Context, path string, input io.Reader, dir string, grace time.Duration,
) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("prepare %s: %w", path, err)
	}

	in, out, pump, err := hopper.Make[reading](64,
		hopper.Dir(dir), hopper.Resume(), hopper.ManualAck(),
		hopper.SyncEvery(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer pump.Close()

	writing, abandon := context.WithCancel(context.Background())
	written := make(chan struct{})
	go func() {
		defer close(written)
		write(writing, db, pump, out)
	}()
	go feed(in, input, pump.Done())

	select {
	case <-pump.Done(): // the readings have ended, and all are in the database
	case <-ctx.Done():
		deadline, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		pump.Shutdown(deadline)
	}
	abandon()
	<-written
	return pump.Wait()
}

// feed sends readings, and closes in at the end.
func feed(in chan<- reading, lines io.Reader, done <-chan struct{}) {
	defer close(in)
	r := csv.NewReader(lines)
	r.FieldsPerRecord = 2
	for {
		fields, err := r.Read()
		value := 0.0
		if err == nil {
			value, err = strconv.ParseFloat(fields[1], 64)
		}

		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return
		case errors.As(err, new(*csv.ParseError)), errors.Is(err, strconv.ErrSyntax):
			log.Printf("skipping a line that is no reading: %v", err)
			continue
		default:
			log.Printf("reading ends early: %v", err)
			return
		}

		select {
		case in <- reading{rand.Text(), time.Now(), fields[0], value}:
		case <-done:
			return
		}
	}
}

// write commits batches, each until that succeeds or ctx ends.
func write(ctx context.Context, db *sql.DB, pump *hopper.Pump, out <-chan reading) {
	for batch := range hopper.Batches(out, 500, 100*time.Millisecond) {
		for err := insert(ctx, db, batch); err != nil; err = insert(ctx, db, batch) {
			log.Printf("trying again: %v", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return // the batch is not acknowledged: it is kept
			}
		}
		pump.Ack(len(batch))
	}
}

// insert commits all of a batch or none of it.
func insert(ctx context.Context, db *sql.DB, batch []reading) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit

	stmt, err := tx.PrepareContext(ctx,
		`INSERT INTO readings (id, time, sensor, value) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	for _, r := range batch {
		_, err := stmt.ExecContext(ctx, r.ID, r.Time.UTC().Format(time.RFC3339Nano),
			r.Sensor, r.Value)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}
