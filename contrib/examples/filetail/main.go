// Filetail ships a log file to an HTTP sink, line by line and in order. While
// the sink stalls, lines wait in a pipe, and the log may be rotated meanwhile.
// At least once: a line is done when the sink has answered 2xx. Neither kill -9
// nor a restart loses one that was written to the log.
//
//	go run ./filetail -log app.log -to http://localhost:8080/lines -dir /var/spool/app
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"example.com/hopper"
	"example.com/hopper/codec"
	"example.com/hopper/spill/segment"
)

func main() {
	path := flag.String("log", "app.log", "follow this file")
	url := flag.String("to", "http://localhost:8080/lines", "POST lines to this address")
	dir := flag.String("dir", "spool", "directory of the backlog and the position")
	grace := flag.Duration("grace", 5*time.Second, "time to deliver what waits after SIGTERM")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *path, *url, *dir, *grace); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, path, url, dir string, grace time.Duration) error {
	done, err := loadPosition(dir)
	if err != nil {
		return err
	}
	read, err := lastRead(dir, done)
	if err != nil {
		return err
	}
	in, out, pump, err := hopper.Make[line](0, hopper.Dir(dir), hopper.Resume(), hopper.ManualAck())
	if err != nil {
		return err
	}
	defer pump.Close()

	shipping, abandon := context.WithCancel(context.Background())
	shipped := make(chan error, 1)
	go func() {
		s := shipper{pump: pump, url: url, dir: dir, done: done}
		shipped <- s.ship(shipping, out)
	}()
	t := tailer{path: path, at: read, in: in}
	go t.follow(ctx) // until ctx ends

	select {
	case err = <-shipped: // the position can't be saved
	case <-ctx.Done():
		deadline, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if late := pump.Shutdown(deadline); late != nil {
			log.Print(late) // the lines are kept for the next start
		}
		abandon()
		err = <-shipped
	}
	abandon()
	return errors.Join(err, pump.Close())
}

// A position says how far the log was read: behind line Seq, which ends at End
// in the file whose first line has the hash File.
type position struct {
	Seq  uint64
	File uint64
	End  int64
}

// A line knows the position behind it.
type line struct {
	position
	Text string
}

// lastRead returns the position behind the last line in the backlog, where the
// log is read on. What a crash has cost the backlog is thereby read again.
func lastRead(dir string, done position) (position, error) {
	decoder, err := codec.For[line]()
	if err != nil {
		return position{}, err
	}

	last := done
	for item, err := range segment.Items(dir) {
		if err != nil {
			log.Print(err) // lines are damaged: the pump will say which
			continue
		}
		l, err := decoder.Decode(item.Bytes)
		if err != nil {
			return position{}, fmt.Errorf("read the backlog: %w", err)
		}
		if l.Seq > last.Seq {
			last = l.position
		}
	}
	return last, nil
}

func loadPosition(dir string) (position, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return position{}, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "position"))
	if errors.Is(err, os.ErrNotExist) {
		return position{}, nil
	} else if err != nil {
		return position{}, err
	}
	var p position
	return p, json.Unmarshal(b, &p)
}

func (p position) save(dir string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "position")
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

type shipper struct {
	pump *hopper.Pump
	url  string
	dir  string
	done position // behind the last line that the sink has taken
}

// ship posts lines in batches. First the sink has them, then the position says
// so, then the backlog lets go of them: a crash in between repeats some lines,
// and loses none.
func (s *shipper) ship(ctx context.Context, out <-chan line) error {
	for batch := range hopper.Batches(out, 500, 50*time.Millisecond) {
		var body bytes.Buffer
		last := s.done
		for _, l := range batch {
			if l.Seq > s.done.Seq { // else it comes again, after a crash
				body.WriteString(l.Text)
				last = l.position
			}
		}

		if body.Len() > 0 {
			if !post(ctx, s.url, body.Bytes()) {
				return nil
			}
			if err := last.save(s.dir); err != nil {
				return err
			}
			s.done = last
		}
		s.pump.Ack(len(batch))
	}
	return nil
}

// post tries until the sink has taken the lines, and reports false if ctx ends
// before.
func post(ctx context.Context, url string, body []byte) bool {
	client := http.Client{Timeout: 10 * time.Second}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			log.Print(err)
		} else if resp, err := client.Do(req); err != nil {
			log.Print(err)
		} else if resp.Body.Close(); resp.StatusCode/100 == 2 {
			return true
		} else {
			log.Printf("the sink answers %s", resp.Status)
		}

		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
}
