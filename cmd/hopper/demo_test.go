package main

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTheDemoShowsThreeProducersAndTheirItemsInOrder(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var stdout, stderr bytes.Buffer
	if code := run([]string{"demo", "-for", "3s"}, stdio{out: &stdout, err: &stderr}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}

	text := stdout.String()
	for _, want := range []string{
		"consumers stand still", "bare channel: producer waits",
		"bare channel  ", "slice         ", "hopper.Pipe   ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Count(text, "in order, none lost") != 3 {
		t.Errorf("the items of all three should come in order:\n%s", text)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTheDemoCanBeInterrupted(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	signals := make(chan os.Signal, 1)
	time.AfterFunc(500*time.Millisecond, func() { signals <- syscall.SIGINT })
	var stdout, stderr bytes.Buffer
	std := stdio{out: &stdout, err: &stderr, signals: signals}
	if code := run([]string{"demo", "-for", "10m"}, std); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	if !strings.Contains(stdout.String(), "until it was stopped") {
		t.Errorf("stdout: %s", &stdout)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTheDemoRefusesWhatMakesNoSense(t *testing.T) {
	for _, args := range [][]string{{"demo", "-for", "1ms"}, {"demo", "more"}, {"demo", "-for", "x"}} {
		var stdout, stderr bytes.Buffer
		if code := run(args, stdio{out: &stdout, err: &stderr}); code != exitUsage {
			t.Errorf("%q: exit code %d: %s", args, code, &stderr)
		}
	}
}
