package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/hopper"
)

// readings returns n numbered lines for standard input.
func readings(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "sensor-%d,%d.5\n", i%7, i)
	}
	return b.String()
}

// soon returns a context that ends when a test has taken far too long.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// open opens the database for a second connection, beside the program's.
func open(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// wantRows checks that the values are 0.5 to n - 0.5, each once.
func wantRows(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	var rows, values int
	var least, most float64
	err := db.QueryRow(`SELECT count(*), count(DISTINCT value), min(value), max(value) FROM readings`).
		Scan(&rows, &values, &least, &most)
	if err != nil {
		t.Fatal(err)
	}
	if rows != n || values != n || least != 0.5 || most != float64(n)-0.5 {
		t.Fatalf("%d rows with %d values from %v to %v, want %d from 0.5 to %v",
			rows, values, least, most, n, float64(n)-0.5)
	}
}

func TestAllReadingsAreWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "readings.db")
	input := strings.NewReader(readings(0, 2000) + "no number,x\n" + readings(2000, 3000))
	if err := run(soon(t), path, input, t.TempDir(), 0); err != nil {
		t.Fatal(err)
	}
	wantRows(t, open(t, path), 3000)
}

// ended is a reader that tells when it has been read to its end.
type ended struct {
	*strings.Reader
	end func()
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil {
		e.end()
	}
	return n, err
}

func TestReadingsOutliveALockedDatabaseAndARestart(t *testing.T) {
	const n = 5_000
	path, dir := filepath.Join(t.TempDir(), "readings.db"), t.TempDir()
	db := open(t, path)
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}

	// Somebody locks the database. All readings are taken all the same, and
	// stay in the backlog when the program is stopped.
	other, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	input := &ended{strings.NewReader(readings(0, n)), stop}
	err = run(ctx, path, input, dir, 10*time.Millisecond)
	var undelivered *hopper.UndeliveredError
	if !errors.As(err, &undelivered) || !undelivered.Kept {
		t.Fatalf("with a locked database: %v, want a receipt for readings that are kept", err)
	}
	if got := undelivered.Items + undelivered.Unacked; got != n {
		t.Fatalf("%d readings are kept, want %d", got, n)
	}

	// It lets go, and they are written, before the new ones.
	if _, err := other.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	err = run(soon(t), path, strings.NewReader(readings(n, n+10)), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, n+10)
}

func TestABatchThatWasCommittedAndNotAcknowledgedIsInsertedOnce(t *testing.T) {
	path, dir := filepath.Join(t.TempDir(), "readings.db"), t.TempDir()
	db := open(t, path)
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}

	// The program ends between Commit and Ack.
	in, out, pump, err := hopper.Make[reading](0,
		hopper.Dir(dir), hopper.Resume(), hopper.ManualAck())
	if err != nil {
		t.Fatal(err)
	}
	go feed(in, strings.NewReader(readings(0, 100)), pump.Done())
	for batch := range hopper.Batches(out, 100, time.Minute) {
		if err := insert(t.Context(), db, batch); err != nil {
			t.Fatal(err)
		}
		break
	}
	if err := pump.Close(); err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, 100)

	more := strings.NewReader(readings(100, 200))
	if err := run(soon(t), path, more, dir, 0); err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, 200)
}
