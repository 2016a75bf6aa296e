package papers

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// names are the exported names of a package: "Pump" and "Pump.Ack".
type names map[string]bool

// packages are those whose names are checked, by the word before the dot.
var packages = map[string]string{
	"hopper": ".", "codec": "codec", "spill": "spill", "segment": "spill/segment",
	"storetest": "spill/storetest",
}

func namesOf(t *testing.T, dir string) names {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	fset, files := token.NewFileSet(), []*ast.File(nil)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(fset, files, "example.com/hopper/"+dir)
	if err != nil {
		t.Fatal(err)
	}

	all := make(names)
	add := func(funcs []*doc.Func, values []*doc.Value) {
		for _, f := range funcs {
			all[f.Name] = true
		}
		for _, v := range values {
			for _, name := range v.Names {
				all[name] = true
			}
		}
	}
	add(p.Funcs, p.Consts)
	add(nil, p.Vars)
	for _, typ := range p.Types {
		all[typ.Name] = true
		add(typ.Funcs, typ.Consts)
		add(nil, typ.Vars)
		for _, m := range typ.Methods {
			all[typ.Name+"."+m.Name] = true
		}
		all.addMembers(typ)
	}
	return all
}

// addMembers adds the fields of a struct and the methods of an interface.
func (n names) addMembers(typ *doc.Type) {
	ast.Inspect(typ.Decl, func(node ast.Node) bool {
		if field, ok := node.(*ast.Field); ok {
			for _, name := range field.Names {
				n[typ.Name+"."+name.Name] = true
			}
		}
		return true
	})
}

// hasMember reports whether a type has a field or method of that name.
func (n names) hasMember(name string) bool {
	for full := range n {
		if strings.HasSuffix(full, "."+name) {
			return true
		}
	}
	return false
}

var (
	chain   = regexp.MustCompile(`[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*`)
	apiName = regexp.MustCompile(`\b(?:hopper|pump)\.[A-Z]\w*`)
	mixed   = regexp.MustCompile(`^[A-Z]\w*[a-z]`)
	docLink = regexp.MustCompile(`\[\*?((?:[a-z]+\.)?[A-Z]\w+(?:\.[A-Z]\w*)?)\]`)
)

// check returns what is wrong with a name, as it stands in text: "hopper.Pipe",
// "Pump.Ack", "pump.Close", "codec.JSON", "Resume". Names of other packages are
// not looked up.
func check(known map[string]names, name string) error {
	first, rest, qualified := strings.Cut(name, ".")
	api := known["hopper"]
	switch {
	case qualified && known[first] != nil && ast.IsExported(rest): // else a metric's, say
		if !known[first][rest] {
			return fmt.Errorf("package %s has no %s", first, rest)
		}
	case first == "pump" && qualified:
		if !api["Pump."+rest] {
			return fmt.Errorf("a Pump has no %s", rest)
		}
	case qualified && api[first]:
		if !api[name] {
			return fmt.Errorf("%s has no %s", first, rest)
		}
	case !qualified && mixed.MatchString(name):
		if !api[name] && !api.hasMember(name) {
			return fmt.Errorf("hopper has no %s", name)
		}
	}
	return nil
}

func knownNames(t *testing.T) map[string]names {
	t.Helper()
	known := make(map[string]names)
	for word, dir := range packages {
		known[word] = namesOf(t, dir)
	}
	return known
}

// inExample reports whether a name is one that an example has made up.
func inExample(examples, name string) bool {
	return regexp.MustCompile(`[^.\w]` + name + `\b`).MatchString(examples)
}

// isCode reports whether a span of code may hold names of Go.
func isCode(span string) bool {
	return !strings.ContainsAny(span, "/$") && !strings.HasPrefix(span, "go ")
}

func TestNamesInBackticksAreThere(t *testing.T) {
	known, n := knownNames(t), 0
	for _, file := range papers(t) {
		text := read(t, file)
		strict := !strings.Contains(file, "/") // elsewhere a bare name may be anybody's
		examples := strings.Join(fence.FindAllString(text, -1), "")
		for _, code := range span.FindAllString(fence.ReplaceAllString(text, ""), -1) {
			if code = strings.Trim(code, "`"); !isCode(code) {
				continue
			}
			for _, name := range chain.FindAllString(code, -1) {
				bare := !strings.Contains(name, ".")
				if bare && (!strict || inExample(examples, name)) {
					continue
				}
				n++
				if err := check(known, name); err != nil {
					t.Errorf("%s: `%s`: %v", file, code, err)
				}
			}
		}

		for _, name := range apiName.FindAllString(examples, -1) {
			if err := check(known, name); err != nil {
				t.Errorf("%s: in an example: %v", file, err)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d names were found", n)
	}
}

func TestDocLinksAreThere(t *testing.T) {
	known := knownNames(t)
	for word, dir := range packages {
		paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			for _, name := range docLinks(t, path) {
				if ast.IsExported(name) {
					name = word + "." + name
				}
				if err := check(known, name); err != nil {
					t.Errorf("%s: [%s]: %v", path, name, err)
				}
			}
		}
	}
}

// docLinks returns what comments of a file link to.
func docLinks(t *testing.T, path string) (targets []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range f.Comments {
		for _, m := range docLink.FindAllStringSubmatch(group.Text(), -1) {
			targets = append(targets, m[1])
		}
	}
	return targets
}

func TestWrongNamesAreFound(t *testing.T) {
	known := knownNames(t)
	for name, wrong := range map[string]bool{
		"hopper.Pipe": false, "hopper.Pipes": true, "Pump.Ack": false, "Pump.Nack": true,
		"pump.Close": false, "pump.Open": true, "Stats.Blocked": false, "Stats.Blocks": true,
		"Resume": false, "Resumes": true, "Delivered": false, "hopper.queue.size": false, "codec.JSON": false, "codec.XML": true,
		"UndeliveredError.Unacked": false, "os.TempDir": false, "SIGTERM": false, "in": false,
		"spill.Store": false, "spill.Shop": true, "segment.Inspect": false,
	} {
		if err := check(known, name); (err != nil) != wrong {
			t.Errorf("%s: %v", name, err)
		}
	}
}
