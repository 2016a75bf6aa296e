//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/hopper/spill/segment"
)

// The tests run this program as a child, so that it can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("INGEST_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A sink is the slower service. It counts each event, or stalls.
type sink struct {
	*httptest.Server
	mu      sync.Mutex
	stalled bool
	events  map[string]int
}

func startSink(t *testing.T) *sink {
	s := &sink{events: make(map[string]int)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled || err != nil {
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	s.events[string(body)]++
}

func (s *sink) stall(stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = stalled
}

// missing returns how many of events the sink has not got.
func (s *sink) missing(events []string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if s.events[e] == 0 {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// A child is the program, running.
type child struct {
	*exec.Cmd
	url string
}

func start(t *testing.T, s *sink, dir string, args ...string) *child {
	t.Helper()
	args = append([]string{"-listen", "localhost:0", "-to", s.URL, "-dir", dir}, args...)
	c := &child{Cmd: exec.Command(os.Args[0], args...)}
	c.Env = append(os.Environ(), "INGEST_CHILD=1")
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)

	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "listening on "); ok {
			c.url = "http://" + addr
			break
		}
	}
	if c.url == "" {
		t.Fatal("the program does not listen")
	}
	go io.Copy(io.Discard, stderr)
	return c
}

func (c *child) kill() {
	c.Process.Kill()
	c.Wait()
}

// post sends an event and returns an error unless it is answered 202.
func (c *child) post(event string) error {
	resp, err := http.Post(c.url+"/events", "text/plain", strings.NewReader(event))
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%.20q is answered %s", event, resp.Status)
	}
	return nil
}

// send posts events named prefix 0 to prefix n-1 and returns them. All must be
// accepted.
func (c *child) send(t *testing.T, prefix string, n int) (accepted []string) {
	t.Helper()
	for i := range n {
		event := fmt.Sprintf("%s %d", prefix, i)
		if err := c.post(event); err != nil {
			t.Fatal(err)
		}
		accepted = append(accepted, event)
	}
	return accepted
}

func (c *child) status(t *testing.T, path string) int {
	t.Helper()
	resp, err := http.Get(c.url + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// onDisk returns how many events are in the backlog's files.
func onDisk(dir string) (n int) {
	for _, err := range segment.Items(dir) {
		if err == nil {
			n++
		}
	}
	return n
}

func TestKillLosesNoEventThatWasSynced(t *testing.T) {
	s, dir := startSink(t), t.TempDir()
	s.stall(true)

	var accepted []string
	for round := range 3 {
		c := start(t, s, dir, "-sync", "50ms")
		accepted = append(accepted, c.send(t, fmt.Sprintf("round %d, event", round), 200)...)
		eventually(t, "all events are on disk", func() bool { return onDisk(dir) >= len(accepted) })

		// More are coming in when it is killed. They may be lost: it was too
		// soon.
		first, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for c.post("too late") == nil {
				select {
				case first <- struct{}{}:
				default:
				}
			}
		}()
		<-first
		c.kill()
		<-ended
	}

	s.stall(false)
	c := start(t, s, dir)
	accepted = append(accepted, c.send(t, "last", 10)...)
	eventually(t, "the sink has all events", func() bool { return s.missing(accepted) == 0 })
}

func TestSIGTERMStopsInGoodOrderAndTheNextStartDelivers(t *testing.T) {
	s, dir := startSink(t), t.TempDir()
	s.stall(true)
	c := start(t, s, dir, "-notice", "2s", "-grace", "100ms")
	accepted := c.send(t, "event", 500)
	if got := c.status(t, "/ready"); got != http.StatusOK {
		t.Errorf("/ready before SIGTERM: %d", got)
	}
	if got := c.status(t, "/stats"); got != http.StatusOK {
		t.Errorf("/stats: %d", got)
	}

	// It is on its way out, and says so while it still accepts.
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "/ready is 503", func() bool {
		return c.status(t, "/ready") == http.StatusServiceUnavailable
	})
	accepted = append(accepted, c.send(t, "late event", 1)...)
	if err := c.Wait(); err != nil {
		t.Fatalf("a stop that keeps its backlog: %v", err)
	}

	s.stall(false)
	start(t, s, dir)
	eventually(t, "the sink has all events", func() bool { return s.missing(accepted) == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for event, n := range s.events {
		if n != 1 {
			t.Errorf("%q came %d times", event, n)
		}
	}
}

func TestAnEventThatIsTooLargeIsRefused(t *testing.T) {
	c := start(t, startSink(t), t.TempDir())
	err := c.post(strings.Repeat("x", maxEvent+1))
	if err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("got %v, want a 400", err)
	}
}
