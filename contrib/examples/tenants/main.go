// Tenants takes events for ten tenants and passes each tenant's to a service of
// its own, which may be slow. Each has a pipe, so that none waits for another,
// and all pipes share one limit of disk space. A tenant that has used up its
// part gets a 429; a part of the budget is guaranteed to every tenant, so the
// greediest can't take it from the others.
//
//	go run ./tenants -listen :8080 -to http://localhost:9090/ -dir /var/spool/tenants
//	curl -d 'an event' http://localhost:8080/t3
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"example.com/hopper"
)

const tenants = 10

func main() {
	listen := flag.String("listen", "localhost:8080", "serve on this address")
	url := flag.String("to", "http://localhost:9090/",
		"POST events to this address plus the tenant")
	dir := flag.String("dir", "spool", "directory of the backlogs")
	disk := flag.Int64("disk", 1<<30, "disk space for all tenants together, in bytes")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := open(*dir, *url, *disk)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *listen, Handler: s, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Shutdown(context.Background()) })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
	if err := s.close(10 * time.Second); err != nil {
		log.Fatal(err)
	}
}

// A service has a pipe for each tenant, and one budget for all.
type service struct {
	budget  *hopper.Budget
	tenants map[string]*tenant
	abandon context.CancelFunc // what is being forwarded
}

type tenant struct {
	in        chan<- []byte
	pump      *hopper.Pump
	forwarded chan struct{} // closed: nothing more is
}

func open(dir, url string, disk int64) (*service, error) {
	ctx, abandon := context.WithCancel(context.Background())
	s := &service{hopper.NewBudget(disk), make(map[string]*tenant), abandon}
	for i := range tenants {
		name := fmt.Sprintf("t%d", i)
		in, out, pump, err := hopper.Make[[]byte](0, hopper.Share(s.budget),
			hopper.Dir(filepath.Join(dir, name)), hopper.Resume(), hopper.ManualAck(),
			hopper.MaxMemory(64<<10))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("tenant %s: %w", name, err), s.close(0))
		}

		t := &tenant{in, pump, make(chan struct{})}
		s.tenants[name] = t
		go func() {
			defer close(t.forwarded)
			forward(ctx, url+name, pump, out)
		}()
	}
	return s, nil
}

// close delivers what waits, and keeps what is still there after grace.
func (s *service) close(grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	var all sync.WaitGroup
	for name, t := range s.tenants {
		all.Go(func() {
			if late := t.pump.Shutdown(ctx); late != nil {
				log.Printf("tenant %s: %v", name, late)
			}
		})
	}
	all.Wait()
	s.abandon()

	var err error
	for _, t := range s.tenants {
		<-t.forwarded
		err = errors.Join(err, t.pump.Close()) // nil unless something is lost
	}
	return err
}

// ServeHTTP takes an event: POST /t0 to POST /t9.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := s.tenants[r.URL.Path[1:]]
	if t == nil || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	event, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	if reason := t.offer(r.Context(), event); reason != "" {
		w.Header().Set("Retry-After", "5")
		http.Error(w, reason, http.StatusTooManyRequests)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// offer sends an event unless the pipe is at a limit, and then says at which.
// That the pipe does not take it at once is no reason yet: it may be busy.
func (t *tenant) offer(ctx context.Context, event []byte) (reason string) {
	for {
		select {
		case t.in <- event:
			return ""
		case <-t.pump.Done():
			return "stopping"
		case <-ctx.Done():
			return "the sender has hung up"
		case <-time.After(5 * time.Millisecond):
			if s := t.pump.Stats(); s.Blocked {
				return s.Reason
			}
		}
	}
}

// forward posts each event until it is taken, and then acknowledges it. An
// event in hand when ctx ends is kept.
func forward(ctx context.Context, url string, pump *hopper.Pump, out <-chan []byte) {
	client := &http.Client{Timeout: 10 * time.Second}
	for event := range out {
		wait := 10 * time.Millisecond
		for !post(ctx, client, url, event) {
			select {
			case <-time.After(wait):
				wait = min(2*wait, time.Second)
			case <-ctx.Done():
				return
			}
		}
		pump.Ack(1)
	}
}

func post(ctx context.Context, client *http.Client, url string, event []byte) (taken bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event))
	if err != nil {
		log.Print(err)
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false // the backlog grows: Stats.Oldest is what to watch
	}
	defer resp.Body.Close()
	return resp.StatusCode/100 == 2
}
