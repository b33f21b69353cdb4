// Figures prints what .ci/figures promises. Tests and the benchmarks, a module of their own, count nowhere,
// except that types in tests count as implementations beside the others.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath, Dir, Export                      string
	Standard                                     bool
	Module                                       *struct{ Main bool }
	GoFiles, CgoFiles, TestGoFiles, XTestGoFiles []string
	files                                        []*ast.File
	types                                        *types.Package
}

func (p *pkg) ours() bool { return p.Module != nil && p.Module.Main }

func run() error {
	all, err := list()
	if err != nil {
		return err
	}
	fset := token.NewFileSet()
	var ours []*pkg
	for _, p := range all {
		if p.ours() {
			ours = append(ours, p)
			for _, name := range p.GoFiles {
				f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
				if err != nil {
					return err
				}
				p.files = append(p.files, f)
			}
		}
	}
	// Types want what is imported first, readers the alphabet.
	if err := check(fset, all); err != nil {
		return err
	}
	slices.SortFunc(ours, func(a, b *pkg) int { return cmp.Compare(a.ImportPath, b.ImportPath) })
	printLines(fset, ours)
	printFunctions(fset, ours)
	if err := printInterfaces(fset, ours); err != nil {
		return err
	}
	if err := printModules(); err != nil {
		return err
	}
	return printBinaries()
}

// list returns the packages of the module and all that they import, what is imported first, with compiled
// declarations.
func list() ([]*pkg, error) {
	cmd := exec.Command("go", "list", "-export", "-trimpath", "-deps", "-json=ImportPath,Dir,Export,Standard,Module,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []*pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(pkg)
		switch err := d.Decode(p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
}

// An imports gives our packages as they were checked, and others as they were compiled.
type imports struct {
	byPath map[string]*pkg
	others types.Importer
}

func (i imports) Import(path string) (*types.Package, error) {
	if p := i.byPath[path]; p != nil && p.types != nil {
		return p.types, nil
	}
	return i.others.Import(path)
}

func check(fset *token.FileSet, all []*pkg) error {
	i := imports{byPath: make(map[string]*pkg)}
	for _, p := range all {
		i.byPath[p.ImportPath] = p
	}
	i.others = importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		p := i.byPath[path]
		if p == nil {
			p = i.byPath["vendor/"+path] // as the standard library has it
		}
		if p == nil {
			return nil, fmt.Errorf("%s was not listed", path)
		}
		return os.Open(p.Export)
	})
	for _, p := range all {
		if p.ours() {
			var err error
			if p.types, err = (&types.Config{Importer: i}).Check(p.ImportPath, fset, p.files, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// testsOwn is the package that tests alone import.
const testsOwn = "internal/testworld"

func printLines(fset *token.FileSet, ours []*pkg) {
	fmt.Println("lines per package (files)")
	var lines, files int
	for _, p := range ours {
		if len(p.files) == 0 {
			continue // of tests alone
		}
		n := 0
		for _, f := range p.files {
			n += fset.File(f.Pos()).LineCount() - 1
		}
		fmt.Printf("%7d  %s (%d)\n", n, short(p), len(p.files))
		if short(p) != testsOwn {
			lines, files = lines+n, files+len(p.files)
		}
	}
	fmt.Printf("%7d  in all without %s (%d)\n\n", lines, testsOwn, files)
}

// short returns the import path below the module's.
func short(p *pkg) string {
	_, path, _ := strings.Cut(p.ImportPath, "/box-update-server/")
	return path
}

// A function is one declaration with a body.
type function struct {
	name  string // with its package and receiver
	lines int
}

func printFunctions(fset *token.FileSet, ours []*pkg) {
	var functions []function
	var names, comments, bodies int
	for _, p := range ours {
		for _, f := range p.files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				line := func(pos token.Pos) int { return fset.Position(pos).Line }
				functions = append(functions, function{short(p) + "." + receiver(fn) + fn.Name.Name, line(fn.End()) - line(fn.Pos()) + 1})
				names += len(fn.Name.Name)
				bodies += max(0, line(fn.Body.End())-line(fn.Body.Pos())-1)
				for _, c := range f.Comments {
					if c.Pos() > fn.Body.Pos() && c.End() < fn.Body.End() {
						comments += line(c.End()) - line(c.Pos()) + 1
					}
				}
			}
		}
	}
	slices.SortFunc(functions, func(a, b function) int { return cmp.Compare(a.lines, b.lines) })
	n := len(functions)
	fmt.Printf("functions: %d; lines: median %d, p90 %d, longest %d\n", n, functions[n/2].lines, functions[n*9/10].lines, functions[n-1].lines)
	for _, f := range slices.Backward(functions[n-5:]) {
		fmt.Printf("%7d  %s\n", f.lines, f.name)
	}
	fmt.Printf("comment lines inside bodies, per 100: %.1f\n", 100*float64(comments)/float64(bodies))
	fmt.Printf("mean length of a function's name: %.1f\n\n", float64(names)/float64(n))
}

// receiver returns the name of the receiver's type and a dot, "" without one.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "."
		default:
			return ""
		}
	}
}

// printInterfaces prints each interface with the number of types that implement it: those of ours, and
// those in tests, which are told by the names of their methods alone.
func printInterfaces(fset *token.FileSet, ours []*pkg) error {
	var concrete []types.Type
	type named struct {
		name string
		it   *types.Interface
	}
	var interfaces []named
	for _, p := range ours {
		scope := p.types.Scope()
		for _, name := range scope.Names() {
			n, ok := scope.Lookup(name).(*types.TypeName)
			if !ok || n.IsAlias() || n.Type().(*types.Named).TypeParams() != nil {
				continue
			}
			if it, ok := n.Type().Underlying().(*types.Interface); !ok {
				concrete = append(concrete, n.Type())
			} else if it.IsMethodSet() && it.NumMethods() > 0 {
				interfaces = append(interfaces, named{short(p) + "." + name, it})
			}
		}
	}
	inTests, err := testTypes(fset, ours)
	if err != nil {
		return err
	}
	fmt.Println("interfaces: implementations + those in tests")
	for _, i := range interfaces {
		n, tests := 0, 0
		for _, t := range concrete {
			if types.Implements(t, i.it) || types.Implements(types.NewPointer(t), i.it) {
				n++
			}
		}
		_, name, _ := strings.Cut(i.name[strings.LastIndexByte(i.name, '/')+1:], ".")
		for _, methods := range inTests {
			if methods["embeds "+name] || hasAll(methods, i.it) {
				tests++
			}
		}
		fmt.Printf("%7d + %d  %s\n", n, tests, i.name)
	}
	fmt.Println()
	return nil
}

func hasAll(methods map[string]bool, it *types.Interface) bool {
	for m := range it.Methods() {
		if !methods[m.Name()] {
			return false
		}
	}
	return true
}

// testTypes returns the methods of each type that tests declare, and the names of what it embeds.
func testTypes(fset *token.FileSet, ours []*pkg) (map[string]map[string]bool, error) {
	found := make(map[string]map[string]bool)
	note := func(typ, what string) {
		if found[typ] == nil {
			found[typ] = make(map[string]bool)
		}
		found[typ][what] = true
	}
	for _, p := range ours {
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if r := receiver(n); r != "" {
						note(p.ImportPath+" "+r, n.Name.Name)
					}
				case *ast.TypeSpec:
					if s, ok := n.Type.(*ast.StructType); ok {
						for _, field := range s.Fields.List {
							if len(field.Names) == 0 {
								expr := types.ExprString(field.Type)
								note(p.ImportPath+" "+n.Name.Name+".", "embeds "+expr[strings.LastIndexByte(expr, '.')+1:])
							}
						}
					}
				}
				return true
			})
		}
	}
	return found, nil
}

func printModules() error {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		return err
	}
	var mod struct{ Require []struct{ Indirect bool } }
	if err := json.Unmarshal(out, &mod); err != nil {
		return err
	}
	indirect := 0
	for _, r := range mod.Require {
		if r.Indirect {
			indirect++
		}
	}
	fmt.Printf("modules: %d direct, %d indirect\n\n", len(mod.Require)-indirect, indirect)
	return nil
}

// printBinaries builds the commands as they ship and prints their sizes.
func printBinaries() error {
	dir, err := os.MkdirTemp("", "figures-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	commands := []string{"boxup", "boxsign", "box-update-server"}
	cmd := exec.Command("packaging/build", append([]string{dir, ""}, commands...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("packaging/build: %w", err)
	}
	fmt.Println("binaries, in MB of 10^6 bytes, and the modules that they link")
	for _, name := range commands {
		file := filepath.Join(dir, name)
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		linked, err := exec.Command("go", "version", "-m", file).Output()
		if err != nil {
			return err
		}
		fmt.Printf("%7.1f  %s (%d)\n", float64(info.Size())/1e6, name, strings.Count(string(linked), "\n\tdep\t"))
	}
	return nil
}
