package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// sinks are the tenants' slow services. They all stall at first.
type sinks struct {
	*httptest.Server
	mu      sync.Mutex
	running bool
	got     map[string][][]byte // events by tenant
}

func startSinks(t *testing.T) *sinks {
	s := &sinks{got: make(map[string][][]byte)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sinks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	event, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || err != nil {
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	name := r.URL.Path[1:]
	s.got[name] = append(s.got[name], event)
}

func (s *sinks) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = true
}

// have reports whether a tenant's sink has exactly these events, in order.
func (s *sinks) have(name string, events [][]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got[name]
	if len(got) != len(events) {
		return false
	}
	for i := range got {
		if !bytes.Equal(got[i], events[i]) {
			return false
		}
	}
	return true
}

// event returns bytes that can't be compressed.
func event(r *rand.Rand) []byte {
	b := make([]byte, 8<<10)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func send(t *testing.T, url string, event []byte) (status int) {
	t.Helper()
	resp, err := http.Post(url, "application/octet-stream", bytes.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestAGreedyTenantIsShedAndTheOthersAreNot(t *testing.T) {
	const disk = 8 << 20
	to, dir := startSinks(t), t.TempDir()
	s, err := open(dir, to.URL+"/", disk)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(s)
	defer front.Close()
	random := rand.New(rand.NewPCG(1, 2))
	accepted := make(map[string][][]byte)

	// With all sinks stalled, one tenant sends until it is refused.
	for {
		e := event(random)
		status := send(t, front.URL+"/t0", e)
		if status == http.StatusTooManyRequests {
			break
		}
		if status != http.StatusAccepted {
			t.Fatalf("answered %d", status)
		}
		accepted["t0"] = append(accepted["t0"], e)
		if len(accepted["t0"]) > 2*disk/len(e) {
			t.Fatal("the greedy tenant is never refused")
		}
	}

	// The others have what is guaranteed to them, disk / 2n.
	for i := 1; i < tenants; i++ {
		name := fmt.Sprintf("t%d", i)
		for range disk / (2 * tenants) / (8 << 10) * 3 / 4 {
			e := event(random)
			if status := send(t, front.URL+"/"+name, e); status != http.StatusAccepted {
				t.Fatalf("tenant %s is answered %d after %d events", name, status, len(accepted[name]))
			}
			accepted[name] = append(accepted[name], e)
		}
	}
	if used := s.budget.Usage(); used > disk {
		t.Errorf("the budget of %d bytes is exceeded: %d", disk, used)
	}

	// The sinks recover: all that was accepted arrives, and the greedy tenant
	// is welcome again.
	to.run()
	deadline := time.Now().Add(30 * time.Second)
	for name, events := range accepted {
		for !to.have(name, events) {
			if time.Now().After(deadline) {
				t.Fatalf("tenant %s: not all of %d events have arrived", name, len(events))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if status := send(t, front.URL+"/t0", event(random)); status != http.StatusAccepted {
		t.Errorf("the greedy tenant is answered %d when its backlog is gone", status)
	}
	if err := s.close(30 * time.Second); err != nil {
		t.Error(err)
	}
	if used := s.budget.Usage(); used != 0 {
		t.Errorf("%d bytes are in use at the end", used)
	}
}

func TestAStrangerIsRefused(t *testing.T) {
	s, err := open(t.TempDir(), startSinks(t).URL+"/", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close(0)
	front := httptest.NewServer(s)
	defer front.Close()
	if status := send(t, front.URL+"/nobody", nil); status != http.StatusNotFound {
		t.Errorf("answered %d", status)
	}
}
