// Ingest is an HTTP service that answers at once and delivers later. A POST to
// /events is answered 202 when the pipe has taken the event; events go to a
// slower service, in order and at least once. GET /ready is 503 while the pipe
// is not receiving and after SIGTERM, and GET /stats is the pipe's Stats.
//
// SIGTERM ends it in good order: /ready says so for -notice, then it stops
// accepting, delivers what waits until -grace is over, and keeps the rest,
// which the next start delivers first. From -sync after its 202, plus the time
// of one fsync, an event survives kill -9 and a power cut too.
//
//	go run ./ingest -listen :8080 -to http://localhost:9090/slow -dir /var/spool/ingest
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/hopper"
)

const (
	maxEvent = 1 << 20     // bytes
	patience = time.Second // for a pipe that is at a limit, before a 503
)

func main() {
	var c config
	listen := flag.String("listen", "localhost:8080", "serve on this address")
	flag.StringVar(&c.url, "to", "http://localhost:9090/", "POST events to this address")
	flag.StringVar(&c.dir, "dir", "spool", "directory of the backlog")
	flag.DurationVar(&c.sync, "sync", 100*time.Millisecond, "time between two syncs to disk")
	flag.DurationVar(&c.notice, "notice", 2*time.Second, "time for load balancers to see /ready")
	flag.DurationVar(&c.grace, "grace", 10*time.Second, "time to deliver what waits, after that")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", l.Addr())
	if err := run(ctx, l, c); err != nil {
		log.Fatal(err)
	}
}

type config struct {
	url, dir            string
	sync, notice, grace time.Duration
}

// run serves until ctx ends. It returns nil if every event was delivered, or is
// kept in c.dir.
func run(ctx context.Context, l net.Listener, c config) error {
	in, out, pump, err := hopper.Make[[]byte](0,
		hopper.Dir(c.dir), hopper.Resume(), hopper.ManualAck(), hopper.SyncEvery(c.sync))
	if err != nil {
		return err
	}
	defer pump.Close()

	forwarding, abandon := context.WithCancel(context.Background())
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		forward(forwarding, c.url, pump, out)
	}()

	s := &service{in: in, pump: pump}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case <-ctx.Done():
		s.stopping.Store(true)
		time.Sleep(c.notice)
	case <-pump.Done(): // the backlog can't be decoded, say
	case err = <-failed:
	}

	// First the senders, then the pipe. What is kept is no failure.
	deadline, cancel := context.WithTimeout(context.Background(), c.grace)
	defer cancel()
	err = errors.Join(err, server.Shutdown(deadline))
	if late := pump.Shutdown(deadline); late != nil {
		log.Print(late)
	}
	abandon()
	<-forwarded
	return errors.Join(err, pump.Close())
}

type service struct {
	in       chan<- []byte
	pump     *hopper.Pump
	stopping atomic.Bool
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", s.post)
	mux.HandleFunc("GET /ready", s.ready)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, s.pump)
	})
	return mux
}

func (s *service) post(w http.ResponseWriter, r *http.Request) {
	event, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	select {
	case s.in <- event:
		w.WriteHeader(http.StatusAccepted)
	case <-time.After(patience):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "busy: "+s.pump.Stats().Reason, http.StatusServiceUnavailable)
	case <-s.pump.Done():
		http.Error(w, "stopping", http.StatusServiceUnavailable)
	case <-r.Context().Done(): // the sender has hung up
	}
}

func (s *service) ready(w http.ResponseWriter, _ *http.Request) {
	switch stats := s.pump.Stats(); {
	case s.stopping.Load():
		http.Error(w, "stopping", http.StatusServiceUnavailable)
	case stats.Blocked:
		http.Error(w, stats.Reason, http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ready")
	}
}

// forward posts each event until it is taken, and then acknowledges it. An
// event in hand when ctx ends is kept.
func forward(ctx context.Context, url string, pump *hopper.Pump, out <-chan []byte) {
	client := &http.Client{Timeout: 10 * time.Second}
	for event := range out {
		for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			err := post(ctx, client, url, event)
			if err == nil {
				break
			}
			log.Printf("trying again: %v", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
		pump.Ack(1)
	}
}

func post(ctx context.Context, client *http.Client, url string, event []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
