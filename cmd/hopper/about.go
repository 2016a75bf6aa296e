package main

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
)

// commands are the words that may come first.
var commands = []string{"inspect", "cat", "verify", "demo", "man", "completion", "help"}

// version returns what this program was built from.
func version() string {
	built, revision, changed := "(devel)", "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" {
			built = v
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = " " + s.Value[:min(len(s.Value), 12)]
			case s.Key == "vcs.modified" && s.Value == "true":
				changed = " with changes"
			}
		}
	}
	return fmt.Sprintf("hopper %s%s%s %s %s/%s",
		built, revision, changed, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// runMan writes a manual page, for man -l or /usr/local/share/man/man1.
func runMan(args []string, std stdio) error {
	if err := parse(flagSet("hopper man"), args, 0); err != nil {
		return err
	}
	_, err := io.WriteString(std.out, manual())
	return err
}

// manual is the help text as roff, in which a line that begins with a dot or a
// quote, and each backslash, has a meaning of its own; see man(7).
func manual() string {
	title, text, _ := strings.Cut(help, "\n")
	name, what, _ := strings.Cut(title, " is ")
	var b strings.Builder
	fmt.Fprintf(&b, ".TH HOPPER 1 \"\" \"%s\" \"User Commands\"\n", name)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH DESCRIPTION\n.nf\n",
		name, strings.TrimSuffix(what, "."))
	for line := range strings.Lines(strings.TrimLeft(text, "\n")) {
		line = strings.ReplaceAll(line, `\`, `\e`)
		line = strings.ReplaceAll(line, "-", `\-`)
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		b.WriteString(line)
	}
	b.WriteString(".fi\n")
	return b.String()
}

// runCompletion writes what a shell sources to complete this command's words.
func runCompletion(args []string, std stdio) error {
	if err := parse(flagSet("hopper completion"), args, 1); err != nil {
		return usageError("completion needs the name of a shell: bash, zsh or fish")
	}
	var flags []string
	new(settings).flags().VisitAll(func(f *flag.Flag) { flags = append(flags, "-"+f.Name) })
	words := strings.Join(append(flags, commands...), " ")

	switch args[0] {
	case "bash":
		fmt.Fprintf(std.out, "complete -o default -W '%s' hopper\n", words)
	case "zsh":
		fmt.Fprintf(std.out, "#compdef hopper\n_arguments '*: :(%s)' '*:file:_files'\n", words)
	case "fish":
		for _, f := range flags {
			fmt.Fprintf(std.out, "complete -c hopper -o %s\n", strings.TrimPrefix(f, "-"))
		}
		fmt.Fprintf(std.out, "complete -c hopper -n __fish_use_subcommand -a '%s'\n",
			strings.Join(commands, " "))
	default:
		return usageError(fmt.Sprintf("no completion for %q: bash, zsh or fish", args[0]))
	}
	return nil
}
