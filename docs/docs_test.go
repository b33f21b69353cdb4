// Package docs_test holds the pages to the code.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named is a function, a method or a type of a package in backquotes: `mirror.Mirror.Sync`. Of the package's path
// the last part is enough where that is one package alone.
var named = regexp.MustCompile("`([a-z][a-z0-9-]*(?:/[a-z0-9-]+)*)\\.([A-Za-z]\\w*(?:\\.[A-Za-z]\\w*)?)`")

// Every function and type that these pages name is there.
func TestNamesAreThere(t *testing.T) {
	declared := declarations(t, "..")
	for _, page := range []string{"ARCHITECTURE.md", "GLOSSARY.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllStringSubmatch(string(text), -1)
		if len(found) < 20 {
			t.Errorf("%s names only %d", page, len(found))
		}
		for _, m := range found {
			var packages []string
			for dir, names := range declared {
				if (dir == m[1] || strings.HasSuffix(dir, "/"+m[1])) && names[m[2]] {
					packages = append(packages, dir)
				}
			}
			if fileName[filepath.Ext("."+m[2])] {
				continue
			}
			if len(packages) != 1 {
				t.Errorf("%s: %s.%s is in %d packages %q, expected one", page, m[1], m[2], len(packages), packages)
			}
		}
	}
}

// fileName are the ends of what is the name of a file.
var fileName = map[string]bool{".json": true, ".md": true, ".pem": true, ".pub": true, ".sh": true, ".mod": true, ".sha256": true, ".sig": true}

// declarations returns what each package below a directory declares, tests aside.
func declarations(t *testing.T, top string) map[string]map[string]bool {
	t.Helper()
	out := map[string]map[string]bool{}
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(filepath.Dir(path), top+"/")
		if out[dir] == nil {
			out[dir] = map[string]bool{}
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				out[dir][receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						out[dir][s.Name.Name] = true
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// receiver returns the name of a method's type and a dot.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	t := d.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if p, ok := t.(*ast.IndexExpr); ok {
		t = p.X
	}
	return t.(*ast.Ident).Name + "."
}
