package router

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// screenshots makes those of the documentation anew.
var screenshots = flag.Bool("screenshots", false, "write docs/img anew")

// A tab is one page in a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// newBrowser starts a browser without windows. Where there is none the test is skipped.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		testworld.NotTested(t, "the status page in a browser", err)
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("hide-scrollbars", false))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// open opens a page in a tab of its own.
func open(t *testing.T, parent context.Context, url string, before ...step) tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, testworld.Patience)
	t.Cleanup(cancel)
	p := tab{t, ctx}
	p.do(append(before, chromedp.Navigate(url), chromedp.WaitReady(chromedp.CSS("footer")))...)
	return p
}

func (p tab) do(actions ...step) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// step is something that is done in a tab.
type step = chromedp.Action[chromedp.Void]

// command returns the step that is one command of the protocol.
func command[P any](c cdp.Command[P, cdp.Empty], params P) step {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// text returns what a person reads in an element; there must be one.
func (p tab) text(selector string) string {
	p.t.Helper()
	s, err := chromedp.Run(p.ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		p.t.Fatalf("%s: %v", selector, err)
	}
	return strings.TrimSpace(s)
}

// says fails the test unless an element has all these texts.
func (p tab) says(selector string, texts ...string) {
	p.t.Helper()
	got := p.text(selector)
	for _, s := range texts {
		if !strings.Contains(got, s) {
			p.t.Errorf("%s: got %q, want %q in it", selector, got, s)
		}
	}
}

// eval evaluates a script, awaits its promise where it is one, and returns its result.
func eval[T any](p tab, script string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%.80s: %v", script, err)
	}
	return v
}

// width is how wide a window is, in points, and what for.
type width struct {
	name string
	size int64
}

func widths() []width { return []width{{"phone", 360}, {"desk", 1280}} }

func viewport(w width) step { return chromedp.EmulateViewport(w.size, 800) }

func dark(on bool) step {
	scheme := "light"
	if on {
		scheme = "dark"
	}
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// fits fails the test where something is wider than the window.
func (p tab) fits() {
	p.t.Helper()
	const wider = `[...document.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + .5 || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible").map(e => e.outerHTML.slice(0, 80))`
	if found := eval[[]string](p, wider); len(found) > 0 {
		p.t.Errorf("wider than the window: %q", found)
	}
	if over := eval[int](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
		p.t.Errorf("the page is %d points wider than the window", over)
	}
}

// installAxe installs what package-lock.json pins and returns its script.
func installAxe(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		testworld.NotTested(t, "accessibility", err)
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", "axe", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// accessible fails the test where axe finds that the page keeps somebody out.
func (p tab) accessible(axe string) {
	p.t.Helper()
	eval[chromedp.Void](p, axe)
	violations := eval[string](p, `axe.run({resultTypes: ["violations"]}).then(r => r.passes.length == 0 ? "nothing was looked at" :
		r.violations.map(v => v.id + ": " + v.help + ": " + v.nodes.map(n => n.html.slice(0, 100)).join(" | ")).join("\n"))`)
	if violations != "" {
		p.t.Errorf("axe: %s", violations)
	}
}

// screenshot writes a picture of what fits into the window for the documentation.
func (p tab) screenshot(name string) {
	p.t.Helper()
	eval[chromedp.Void](p, `const at = document.getElementById("server"); if (at) at.textContent = "https://updates.example"`)
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("..", "docs", "img", name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
