// Command hopper is a pipe that does not make its producer wait: what the
// consumer does not take yet stays in a little memory and, past that, in
// compressed segment files.
//
//	producer | hopper [flags] | consumer
//	hopper inspect [-json] DIR
//	hopper cat [-lines] DIR
//	hopper verify DIR
//	hopper demo
//
// Run hopper -h for the flags.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"example.com/hopper"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1   // an error, damage or loss, as stderr says
	exitUsage  = 2   // the command line makes no sense
	exitPipe   = 141 // stdout was closed: what a shell reports for a filter that SIGPIPE (13) ends
)

// stdio is what a process is given by its parent.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	signals  <-chan os.Signal // asks to stop
}

func main() {
	in, out := interruptible(os.Stdin, os.O_RDONLY), interruptible(os.Stdout, os.O_WRONLY)
	std := stdio{in, out, os.Stderr, notify()}
	os.Exit(run(os.Args[1:], std))
}

// notify returns the signals to stop, those excepted that the parent wants
// ignored, as nohup does. A closed stdout comes as an error and not as SIGPIPE.
func notify() <-chan os.Signal {
	c := make(chan os.Signal, 2)
	for _, s := range [...]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	signal.Ignore(syscall.SIGPIPE)
	return c
}

// run does what args say and returns the exit code.
func run(args []string, std stdio) int {
	name := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	var err error
	switch name {
	case "":
		return runPipe(args, std)
	case "inspect":
		err = runInspect(args, std)
	case "cat":
		err = runCat(args, std)
	case "verify":
		err = runVerify(args, std)
	case "demo":
		err = runDemo(args, std)
	case "man":
		err = runMan(args, std)
	case "completion":
		err = runCompletion(args, std)
	case "help":
		err = flag.ErrHelp
	default:
		err = usageError(fmt.Sprintf("unknown command %q", name))
	}
	return report(err, std)
}

// report writes what is to be said about err, a line for each error that is
// joined in it, and returns the exit code.
func report(err error, std stdio) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(std.out, help)
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(std.err, "hopper: %v: see hopper -h\n", err)
		return exitUsage
	}
	for _, line := range messages(err) {
		fmt.Fprintln(std.err, line)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case closedPipe(err):
		return exitPipe
	}
	return exitFailed
}

// messages returns a line for each error that is joined in err, each beginning
// with the name of this command. That nobody reads stdout is told by the exit
// code alone.
func messages(err error) (lines []string) {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			lines = append(lines, messages(e)...)
		}
		return lines
	}
	if closedPipe(err) {
		return nil
	}
	text := err.Error()
	var lost *hopper.UndeliveredError
	if errors.As(err, &lost) && !lost.Kept {
		text = fmt.Sprintf("%d pieces of the input are lost", lost.Items)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "hopper: "), "spill: ")
	return []string{"hopper: " + strings.ReplaceAll(text, "\n", ": ")}
}

// closedPipe reports whether err says that nobody reads stdout any more.
func closedPipe(err error) bool {
	if runtime.GOOS == "windows" {
		var n syscall.Errno
		return errors.As(err, &n) && (n == 109 || n == 232) // ERROR_BROKEN_PIPE, ERROR_NO_DATA
	}
	return errors.Is(err, syscall.EPIPE)
}
