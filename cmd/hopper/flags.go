package main

import (
	"flag"
	"fmt"
	"io"
	"strconv"

	"example.com/hopper"
)

const help = `hopper is a pipe that does not make its producer wait.

  producer | hopper [flags] | consumer   copy stdin to stdout, byte for byte
  hopper inspect [-json] DIR             list the segments in DIR
  hopper cat [-lines] DIR                write the backlog in DIR to stdout, and leave it there;
                                         -lines: a newline behind each item
  hopper verify DIR                      check every chunk in DIR; exit 1 if any is damaged
  hopper demo [-for 10s]                 show what it does, beside a bare channel and a slice
  hopper man                             write a manual page
  hopper completion bash|zsh|fish        write what makes that shell complete flags

What the consumer does not take yet waits in memory and, past -max-memory, compressed in
segment files in -dir. The producer has to wait only at -max-disk or -keep-free.

  -dir DIR            of the segments (default: a private temporary directory)
  -resume             if stopped, keep the backlog in -dir; at the next start deliver it first
  -max-memory SIZE    of data waiting in memory (default 16MiB)
  -max-disk SIZE      of segment files (default: no limit)
  -keep-free SIZE     never use so much of the file system (default 256MiB, or 5 % of it)
  -segment-size SIZE  of one file; disk space is given back by files (default 16MiB)
  -progress           show progress on stderr, as is done on a terminal; =false: never
  -version            say what this program was built from

A SIZE is 65536, 64KiB, 1.5GiB (powers of 1024; also 64K, 1.5G) or 500MB (of 1000).

SIGINT, SIGTERM and SIGHUP stop reading. With -resume the rest is kept, and goes on exactly where
it stopped (if stdout is a socket or a terminal that does not read, up to 256 KiB may come twice);
without, it is delivered first, unless a second signal comes. After a crash or kill -9, -resume
delivers what had been written to disk, not what was in memory; some of it may come twice.
Exit code: 0 all delivered or kept, 1 error or loss, 2 usage, 141 stdout was closed.

  pg_dump db | hopper -progress | ssh backup 'cat > db.sql'
  tail -F app.log | hopper -dir /var/spool/app -max-disk 20GiB -resume | uploader
`

// usageError says what is wrong with the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// defaultMemory is more than a channel's default: two processes on either side
// take turns of milliseconds, in which a pipe carries megabytes.
const defaultMemory = 16 << 20

// settings are what the flags of the pipe say.
type settings struct {
	dir      string
	resume   bool
	progress progressMode
	version  bool // is all that is asked for

	maxMemory, maxDisk, keepFree, segment size

	options []hopper.Option
}

// Whether progress is shown.
type progressMode int

const (
	onTerminal progressMode = iota // if stderr is one, and stdout is not
	always
	never
)

// flags returns the flags of the pipe, with their defaults.
func (s *settings) flags() *flag.FlagSet {
	*s = settings{maxDisk: -1, keepFree: -1, maxMemory: defaultMemory}
	fs := flagSet("hopper")
	fs.StringVar(&s.dir, "dir", "", "")
	fs.BoolVar(&s.resume, "resume", false, "")
	fs.BoolFunc("progress", "", s.setProgress)
	fs.Var(&s.maxMemory, "max-memory", "")
	fs.Var(&s.maxDisk, "max-disk", "")
	fs.Var(&s.keepFree, "keep-free", "")
	fs.Var(&s.segment, "segment-size", "")
	fs.BoolVar(&s.version, "version", false, "")
	return fs
}

func parseSettings(args []string) (settings, error) {
	var s settings
	fs := s.flags()
	if err := parse(fs, args, 0); err != nil {
		return s, err
	}
	if s.resume && s.dir == "" {
		return s, usageError("-resume needs -dir: a temporary directory is gone at the next start")
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	s.options = []hopper.Option{hopper.MaxMemory(int64(s.maxMemory))}
	if s.resume {
		s.options = append(s.options, hopper.Resume())
	}
	if given["dir"] {
		if s.dir == "" {
			return s, usageError("-dir needs the name of a directory")
		}
		s.options = append(s.options, hopper.Dir(s.dir))
	}
	if given["max-disk"] {
		s.options = append(s.options, hopper.MaxDisk(int64(s.maxDisk)))
	}
	if given["keep-free"] {
		s.options = append(s.options, hopper.KeepFree(int64(s.keepFree)))
	}
	if given["segment-size"] {
		s.options = append(s.options, hopper.SegmentSize(int64(s.segment)))
	}
	return s, nil
}

func (s *settings) setProgress(text string) error {
	on, err := strconv.ParseBool(text)
	if s.progress = never; on {
		s.progress = always
	}
	return err
}

func flagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// parse parses args, which are to end with operands arguments that are no
// flags.
func parse(fs *flag.FlagSet, args []string, operands int) error {
	switch err := fs.Parse(args); {
	case err == flag.ErrHelp:
		return err
	case err != nil:
		return usageError(err.Error())
	case fs.NArg() > operands:
		return usageError(fmt.Sprintf("unexpected argument %q", fs.Arg(operands)))
	case fs.NArg() < operands:
		return usageError(fs.Name() + " needs a directory")
	}
	return nil
}
