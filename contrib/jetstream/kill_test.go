package jetstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/hopper/contrib/jetstream"
	"example.com/hopper/spill"
)

// childURL names the variable that makes a process of this test a child: a user
// of a store that tells on its standard output what it does.
const childURL = "HOPPER_JETSTREAM_CHILD"

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		child(url)
		return
	}
	if url := os.Getenv(fillURL); url != "" {
		filler(url)
		return
	}
	os.Exit(m.Run())
}

const (
	killLease = time.Second
	killItem  = 2000 // bytes
)

// child takes the store over as soon as it can, checks what it finds, and then
// appends, reads and trims until it is killed.
func child(url string) {
	t := &dying{}
	js := connect(t, url)
	ctx := context.Background()
	var s spill.Store
	var r spill.Range
	for {
		s = newStore(t, js, jetstream.Config{StreamName: streamName, Lease: killLease})
		var err error
		if r, err = s.Open(ctx, label, true); err == nil {
			break
		}
		if !errors.Is(err, spill.ErrLocked) {
			t.Fatal(err)
		}
	}

	tell("open", r.Next, r.End)
	expectRange(t, s, r)
	tell("checked", r.Next, r.End)
	next, end := r.Next, r.End
	for round := 0; ; round++ {
		var all []*spill.Batch
		for range 1 + rand.IntN(4) {
			n := 1 + rand.IntN(30) // of a chunk at most
			all = append(all, batch(end, n, killItem))
			end += uint64(n)
		}
		tell("append", end, 0)
		put(t, s, all...)
		tell("stored", end, 0)

		if end-next > 400 { // about a MB stays
			expectRange(t, s, spill.Range{Next: next, End: end - 400})
			next = end - 400
			tell("trim", next, 0)
			if err := errors.Join(s.Trim(ctx, next), s.Sync(ctx, next)); err != nil {
				t.Fatal(err)
			}
			tell("synced", next, 0)
		}
	}
}

func expectRange(t testing.TB, s spill.Store, r spill.Range) {
	if r.Next < r.End {
		expectItems(t, s, r.Next, r.End, killItem)
	}
}

func tell(what string, a, b uint64) { fmt.Println(what, a, b) }

// A dying is the [testing.TB] of a child: what fails ends the process.
type dying struct{ testing.TB }

func (*dying) Helper()          {}
func (*dying) Cleanup(f func()) {}

func (*dying) Context() context.Context { return context.Background() }

func (*dying) Fatal(args ...any) {
	fmt.Println("failed", strings.ReplaceAll(fmt.Sprint(args...), "\n", " "))
	os.Exit(1)
}

func (d *dying) Fatalf(format string, args ...any) { d.Fatal(fmt.Sprintf(format, args...)) }
func (d *dying) Errorf(format string, args ...any) { d.Fatal(fmt.Sprintf(format, args...)) }

// A process is a child, and what it has told.
type process struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startProcess(t *testing.T, url string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childURL+"="+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, bufio.NewScanner(out)}
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for p.out.Scan() { // what it had told
	}
	_ = p.cmd.Wait()
}

// A knowledge is what is known of the store by what its users have told.
type knowledge struct {
	appended, stored uint64 // the last item that was begun, and is sure
	trim, synced     uint64 // up to where items were done
	opened           bool   // the process that is told of has opened the store
	moves            int
}

// learn notes what a process has told.
func (k *knowledge) learn(t *testing.T, told string) {
	t.Helper()
	var what string
	var a, b uint64
	if n, err := fmt.Sscan(told, &what, &a, &b); n < 3 && what != "failed" {
		t.Fatalf("told: %q: %v", told, err)
	}
	k.moves++

	switch what {
	case "open":
		k.opened = true
		if a < k.synced || a > k.trim || b < k.stored || b > max(k.appended, k.stored) {
			t.Fatalf("found items %d to %d, want from %d (or %d) to %d (or %d)", a, b, k.synced, k.trim,
				k.stored, k.appended)
		}
		k.stored, k.appended, k.synced = b, b, a
		k.trim = a
	case "append":
		k.appended = a
	case "stored":
		k.stored = a
	case "trim":
		k.trim = a
	case "synced":
		k.synced = a
	case "failed":
		t.Fatal(told)
	}
}

// TestKillAndTakeover kills a process that uses the store, again and again,
// while another is waiting for it. Whatever a process was told to be stored
// must come to the next, and nothing that was trimmed.
func TestKillAndTakeover(t *testing.T) {
	t.Parallel()
	cycles := 3
	if soak() {
		cycles = 200
	}
	s := startServer(t, onPort(t))
	var known knowledge
	user := startProcess(t, s.ClientURL())
	for cycle := range cycles {
		user.follow(t, &known, func() bool { return known.opened })
		next := startProcess(t, s.ClientURL()) // waits
		most := known.moves + 3 + rand.IntN(60)
		user.follow(t, &known, func() bool { return known.moves >= most })
		user.killAndLearn(t, &known)

		user, known.opened = next, false
		if (cycle+1)%50 == 0 {
			t.Logf("%d cycles, %d items stored", cycle+1, known.stored)
		}
	}
	user.follow(t, &known, func() bool { return known.opened })
}

// follow learns from a process until a condition is met.
func (p *process) follow(t *testing.T, k *knowledge, met func() bool) {
	t.Helper()
	for !met() {
		if !p.out.Scan() {
			t.Fatalf("the process has ended: %v", p.out.Err())
		}
		k.learn(t, p.out.Text())
	}
}

// killAndLearn kills a process and learns what it had told before.
func (p *process) killAndLearn(t *testing.T, k *knowledge) {
	t.Helper()
	_ = p.cmd.Process.Kill()
	for p.out.Scan() {
		k.learn(t, p.out.Text())
	}
	_ = p.cmd.Wait()
}
