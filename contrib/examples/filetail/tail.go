package main

import (
	"bufio"
	"context"
	"errors"
	"hash/fnv"
	"io"
	"log"
	"os"
	"time"
)

const poll = 50 * time.Millisecond

// A tailer follows a log by its name, through rotations: path is renamed to
// path.1 and made again, or truncated.
type tailer struct {
	path string
	at   position
	in   chan<- line
}

// follow sends lines from position at on, until ctx ends.
func (t *tailer) follow(ctx context.Context) {
	if t.isAt(t.path + ".1") { // it was rotated since
		if err := t.readFile(ctx, t.path+".1"); err != nil {
			log.Print(err)
		}
	}
	for ctx.Err() == nil {
		if err := t.readFile(ctx, t.path); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				log.Print(err)
			}
			sleep(ctx)
		}
	}
}

// isAt reports whether path is the file that t.at is in.
func (t *tailer) isAt(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	first, err := bufio.NewReader(f).ReadString('\n')
	return err == nil && hash(first) == t.at.File
}

// readFile sends the lines of a file that follow t.at, and returns when the
// file no longer has this name, or was truncated.
func (t *tailer) readFile(ctx context.Context, path string) error {
	known := t.isAt(path)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if !known {
		t.at.File, t.at.End = 0, 0
	}
	if _, err := f.Seek(t.at.End, io.SeekStart); err != nil {
		return err
	}

	r, text, gone := bufio.NewReader(f), "", false
	for ctx.Err() == nil {
		part, err := r.ReadString('\n')
		text += part
		switch {
		case err == nil:
			t.send(ctx, text)
			text = ""
		case err != io.EOF:
			return err
		case gone: // nobody has added to it since
			if text != "" {
				t.send(ctx, text+"\n")
			}
			return nil
		default:
			gone = !t.isCurrent(f, int64(len(text)))
			sleep(ctx)
		}
	}
	return nil
}

// isCurrent reports whether f still has the name of the log, and all that was
// read of it.
func (t *tailer) isCurrent(f *os.File, partial int64) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(t.path)
	return err == nil && os.SameFile(open, named) && open.Size() >= t.at.End+partial
}

func (t *tailer) send(ctx context.Context, text string) {
	next := t.at
	next.Seq++
	next.End += int64(len(text))
	if next.File == 0 {
		next.File = hash(text)
	}

	select {
	case t.in <- line{next, text}:
		t.at = next
	case <-ctx.Done():
	}
}

func hash(first string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(first))
	return h.Sum64()
}

func sleep(ctx context.Context) {
	select {
	case <-time.After(poll):
	case <-ctx.Done():
	}
}
