package jetstream_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"example.com/hopper"
	"example.com/hopper/contrib/jetstream"
)

// fillURL names the variable that makes a process of this test a pipe that
// holds a backlog of 1 GiB.
const fillURL = "HOPPER_JETSTREAM_FILL"

const (
	fillItem = 4 << 10
	fillSize = 1 << 30
)

// filler is the process whose memory is measured: it fills a backlog and then
// drains it.
func filler(url string) {
	t := &dying{}
	js := connect(t, url)
	store := newStore(t, js, jetstream.Config{StreamName: streamName})
	in, out, p, err := hopper.Make[[]byte](0, hopper.WithStore(store))
	if err != nil {
		t.Fatal(err)
	}

	tell("started", resident("VmHWM"), 0)
	random := rand.NewChaCha8([32]byte{})
	for range fillSize / fillItem {
		b := make([]byte, fillItem) // which snappy can't shrink
		_, _ = random.Read(b)
		in <- b
	}
	tell("filled", resident("VmHWM"), uint64(p.Stats().DiskBytes))
	close(in)
	got := 0
	for range out {
		got++
	}
	if err := p.Wait(); err != nil || got != fillSize/fillItem {
		t.Fatal(got, err)
	}
	tell("drained", resident("VmHWM"), 0)
}

// resident returns what the system says of this process's memory, in bytes.
func resident(what string) uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == what+":" {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// TestABacklogOfAGiBTakesLittleMemory measures a process that holds it and
// drains it; the server is in this one.
func TestABacklogOfAGiBTakesLittleMemory(t *testing.T) {
	if !soak() {
		t.Skip("needs HOPPER_SOAK=1: it takes half a minute and a GiB of disk")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("needs /proc")
	}
	s := startServer(t, onPort(t))
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), fillURL+"="+s.ClientURL())
	cmd.Stderr = os.Stderr
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	told := 0
	for lines := bufio.NewScanner(out); lines.Scan(); told++ {
		var what string
		var high, disk uint64
		if _, err := fmt.Sscan(lines.Text(), &what, &high, &disk); err != nil {
			t.Fatal(lines.Text())
		}
		t.Logf("%s: high water of resident memory %d MiB, in the stream %d MiB", what, high>>20, disk>>20)
		most := uint64(32 << 20)
		if what == "drained" { // the garbage of a GiB that was received at full speed
			most = 36 << 20
		}
		if high == 0 || high > most || what == "filled" && disk < fillSize*9/10 {
			t.Errorf("%s: %d bytes resident, want %d at most with a GiB in the stream", what, high, most)
		}
	}
	if err := cmd.Wait(); err != nil || told != 3 {
		t.Errorf("the process has ended: %v, after %d lines", err, told)
	}
}
