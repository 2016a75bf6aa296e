package papers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// papers returns the Markdown files that are checked, as paths below root.
func papers(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CHANGELOG.md", "SECURITY.md"}
	for _, pattern := range []string{"docs/*.md", "contrib/*/README.md", "contrib/*/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			names = append(names, strings.TrimPrefix(filepath.ToSlash(f), root+"/"))
		}
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, name))
	return err == nil
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```\n")
	span    = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(<?([^)\s>]+)>?[^)]*\)`)
	linkDef = regexp.MustCompile(`(?m)^\[[^\]]+\]:\s*(\S+)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	foreign = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`) // a scheme
)

// links returns the targets of all links in text, those in code excepted.
func links(text string) (targets []string) {
	text = span.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
	for _, m := range append(link.FindAllStringSubmatch(text, -1), linkDef.FindAllStringSubmatch(text, -1)...) {
		targets = append(targets, m[1])
	}
	return targets
}

// anchors returns the fragments that GitHub gives the headings of text.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		keep := func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', r >= '0' && r <= '9', r >= 'a' && r <= 'z', r > 0x7f:
				return r
			}
			return -1
		}
		all = append(all, strings.Map(keep, strings.ToLower(m[1])))
	}
	return all
}

// checkLink returns what is wrong with a link in the named file.
func checkLink(t *testing.T, name, target string) error {
	t.Helper()
	if foreign.MatchString(target) {
		return nil
	}

	path, fragment, _ := strings.Cut(target, "#")
	to := name
	if path != "" {
		to = filepath.ToSlash(filepath.Join(filepath.Dir(name), path))
	}
	if strings.HasPrefix(to, "../") || !exists(to) {
		return fmt.Errorf("there is no %s", to)
	}
	if fragment != "" && strings.HasSuffix(to, ".md") && !slices.Contains(anchors(read(t, to)), fragment) {
		return fmt.Errorf("%s has no heading #%s", to, fragment)
	}
	return nil
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range papers(t) {
		for _, target := range links(read(t, name)) {
			if err := checkLink(t, name, target); err != nil {
				t.Errorf("%s: link to %s: %v", name, target, err)
			}
		}
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	text := "[a](README.md) ![b](docs/none.svg \"title\") `[c](no)`\n\n[d]: none.md\n```\n[e](no)\n```\n" +
		"[f](README.md#nowhere) [g](https://example.com/none) [h](../outside) [i](#nowhere)\n"
	var broken []string
	for _, target := range links(text) {
		if checkLink(t, "SECURITY.md", target) != nil {
			broken = append(broken, target)
		}
	}
	want := []string{"docs/none.svg", "README.md#nowhere", "../outside", "#nowhere", "none.md"}
	if !slices.Equal(broken, want) {
		t.Errorf("broken: %q, want %q", broken, want)
	}
}

var command = regexp.MustCompile(`(?:cd ([\w./-]+) && )?\bgo (run|test|build|install|vet)\b([^|&;\n` + "`" + `]*)`)

// checkCommand returns what is wrong with a go command. Paths in it are
// relative to one of dirs.
func checkCommand(t *testing.T, dirs []string, cd, verb, rest string) error {
	t.Helper()
	args, bench := strings.Fields(rest), ""
	for i, arg := range args[:max(0, len(args)-1)] {
		switch arg {
		case "-C":
			cd = args[i+1]
		case "-bench":
			bench = strings.Trim(args[i+1], "'\"")
		}
	}

	var errs []string
	for _, dir := range dirs {
		err := checkPackages(t, filepath.Join(dir, cd), verb, args, bench)
		if err == nil {
			return nil
		}
		errs = append(errs, err.Error())
	}
	return fmt.Errorf("go %s%s: %s", verb, rest, strings.Join(errs, "; "))
}

func checkPackages(t *testing.T, dir, verb string, args []string, bench string) error {
	t.Helper()
	var files []string
	for _, arg := range args {
		if arg != "." && !strings.HasPrefix(arg, "./") {
			continue
		}
		path, below := strings.CutSuffix(arg, "...")
		found, err := filepath.Glob(filepath.Join(root, dir, path, "*.go"))
		if err != nil {
			return err
		}
		if len(found) == 0 && !(below && exists(filepath.Join(dir, path))) {
			return fmt.Errorf("there is no package %s", filepath.Join(dir, path))
		}
		files = append(files, found...)
		if verb == "run" {
			if !contains(t, found, `(?m)^package main$`) {
				return fmt.Errorf("%s is no command", filepath.Join(dir, path))
			}
			break // what follows are its own arguments
		}
	}

	if bench != "" && bench != "." && bench != "NAME" {
		first, _, _ := strings.Cut(bench, "/")
		if !contains(t, files, `(?m)^func Benchmark\w*`+strings.Trim(first, "^$")) {
			return fmt.Errorf("there is no benchmark %s in %s", bench, dir)
		}
	}
	return nil
}

// contains reports whether one of the files, which are paths from here,
// matches.
func contains(t *testing.T, files []string, pattern string) bool {
	t.Helper()
	re := regexp.MustCompile(pattern)
	return slices.ContainsFunc(files, func(name string) bool {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return re.Match(b)
	})
}

func TestCommandsNameWhatIsThere(t *testing.T) {
	n := 0
	for _, name := range papers(t) {
		for _, m := range command.FindAllStringSubmatch(read(t, name), -1) {
			n++
			if err := checkCommand(t, []string{".", filepath.Dir(name)}, m[1], m[2], m[3]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n < 4 {
		t.Errorf("only %d commands were found", n)
	}
}

func TestWrongCommandsAreFound(t *testing.T) {
	for text, wrong := range map[string]bool{
		"go run ./cmd/hopper demo":                      false,
		"go run ./cmd/none demo":                        true,
		"go run ./codec":                                true,
		"go test ./...":                                 false,
		"go test ./none/...":                            true,
		"go test -run '^$' -bench PassThrough .":        false,
		"go test -run '^$' -bench PassThough .":         true,
		"cd contrib/examples && go run ./kafka -dir x":  false,
		"cd contrib/examples && go run ./kafkaesque":    true,
		"go run -C contrib/examples ./ingest -notice 1": false,
	} {
		m := command.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("%s: not seen", text)
		} else if err := checkCommand(t, []string{"."}, m[1], m[2], m[3]); (err != nil) != wrong {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// README's first test command is what .ci/run runs.
func TestREADMENamesItsTwoCommands(t *testing.T) {
	readme := read(t, "README.md")
	for _, line := range []string{"\n    go run ./cmd/hopper demo\n", "\n    go test ./...\n"} {
		if !strings.Contains(readme, line) {
			t.Errorf("README.md has no line %q", strings.TrimSpace(line))
		}
	}
}
