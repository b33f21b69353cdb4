package router

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/openpowerquality/box-update-server/update"
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
		t.Skipf("NOT TESTED: the status page in a browser: %v", err)
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
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
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
		t.Skipf("NOT TESTED: accessibility: %v", err)
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

// What a reader sees of each kind of repository, at each width, in light and dark.
func TestPageInABrowser(t *testing.T) {
	parent, axe := newBrowser(t), installAxe(t)
	for _, c := range []struct {
		name  string
		world func(testing.TB) *world
		says  map[string][]string
	}{
		{"healthy", healthyWorld, map[string][]string{
			"header":     {"Healthy", "Everything is in order."},
			"#freshness": {"Up to date with the upstream.", "Last complete at 2026-03-01 11:56 UTC."},
			"#expiry":    {"root 2", "275 days left", "timestamp 412", "5 days left", "2026-03-07 05:00 UTC"},
			"#history":   {"2026-03-01 11:56 UTC", "nothing new", "1m35s", "2 archives, 8.4 MB", "failed: unavailable"},
			"#upstreams": {"https://updates.example: in use", "https://other.example/box-update-server: unavailable"},
			"#store":     {"734 MB in archives, 42 GB free"},
			"#updates":   {"12 in all", "25% of boxes", "every box", "74c1-81c7-ad8a-0855"},
		}},
		{"stale", staleWorld, map[string][]string{
			"header":     {"Stale"},
			"#freshness": {"Behind the upstream by 3 updates and 2 hours.", "No sync went well since 2026-03-01 09:40 UTC: unavailable."},
			"#problems":  {"repository: sync: no sync went well", "3 updates and 2h30m0s behind"},
		}},
		{"expired", expiredWorld, map[string][]string{
			"header":    {"Expired", "Boxes refuse what is here: timestamp expired."},
			"#expiry":   {"expired 2 days ago, 2026-02-27 12:00 UTC"},
			"#problems": {"timestamp 412 expired"},
		}},
		{"empty", emptyWorld, map[string][]string{
			"header":     {"No update"},
			"#newest":    {"There is none."},
			"#freshness": {"This is the origin"},
			"#expiry":    {"timestamp 412"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := start(t, c.world(t).config(t))
			for _, w := range widths() {
				for _, night := range []bool{false, true} {
					p := open(t, parent, "http://"+addr+"/", viewport(w), dark(night))
					for selector, texts := range c.says {
						p.says(selector, texts...)
					}
					p.fits()
					p.accessible(axe)
					if *screenshots && night == (w.name == "phone") {
						p.screenshot(c.name + "-" + w.name)
					}
				}
			}
		})
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

// The bars tell the same as the words, to those as well who can't see them.
func TestPageBars(t *testing.T) {
	parent := newBrowser(t)
	p := open(t, parent, "http://"+start(t, expiredWorld(t).config(t))+"/")
	got := eval[[]string](p, `[...document.querySelectorAll("#expiry meter")].map(m => m.value + "%, " + m.ariaLabel)`)
	want := []string{"75%, root: 275 days left", "99%, targets: 363 days left", "95%, snapshot: 28 days left", "0%, timestamp: expired 2 days ago"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A reader copies the digest of the newest update, with and without a clipboard of the browser's.
func TestPageCopies(t *testing.T) {
	parent := newBrowser(t)
	w := newWorld(t, 3)
	addr := start(t, w.config(t))
	for name, before := range map[string]string{
		"with TLS":    "",
		"without TLS": `Object.defineProperty(navigator, "clipboard", {value: undefined})`,
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, parent, "http://"+addr+"/", grantClipboard("http://"+addr))
			eval[chromedp.Void](p, `navigator.clipboard.writeText("nothing")`)
			eval[chromedp.Void](p, "window.theirs = navigator.clipboard; "+before)
			for id, want := range map[string]string{"digest": w.newest().Digest.String(), "newest": w.newest().Name.String()} {
				eval[chromedp.Void](p, `document.getElementById("copied").textContent = ""`)
				p.do(chromedp.Click(chromedp.CSS("button[data-copy="+id+"]")), chromedp.Poll[chromedp.Void](`document.getElementById("copied").textContent === "Copied."`))
				if got := eval[string](p, `window.theirs.readText()`); got != want {
					t.Errorf("%s: got %q, want %q", id, got, want)
				}
			}
		})
	}
}

func grantClipboard(origin string) step {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		var errs []error
		for _, name := range []string{"clipboard-read", "clipboard-write"} {
			_, err := chromedp.CallBrowser(ctx, browser.SetPermission, browser.SetPermissionParams{
				Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted, Origin: origin})
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// The commands name the server as the reader sees it.
func TestPageCommands(t *testing.T) {
	parent := newBrowser(t)
	w := newWorld(t, 1)
	addr := start(t, w.config(t))
	name := w.newest().Name.String()
	p := open(t, parent, "http://"+addr+"/")
	want := "SERVER=http://" + addr + "\nU=" + name + "\nwget -q -O $U $SERVER/update/$U\nwget -q -O $U.sig $SERVER/update/$U.sig\n" +
		"sha256sum $U > L && openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in L -sigfile $U.sig"
	if got := p.text("#commands"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A reader sorts the list by each column, with the keyboard.
func TestPageSorts(t *testing.T) {
	parent := newBrowser(t)
	w := newWorld(t, 5)
	list := append([]update.Update{{Name: mustName(t, "opq-box-update-999.tar.gz"), Length: 5 << 30, Time: noon()}}, w.catalog.Updates()...)
	w.catalogOf(t, list)
	addr := start(t, w.config(t))
	p := open(t, parent, "http://"+addr+"/", viewport(width{"desk", 1280}))
	versions := `[...document.querySelectorAll("#updates tbody tr")].map(r => r.cells[1].textContent)`
	was := eval[[]string](p, versions)
	if len(was) != 6 || was[5] != "999" {
		t.Fatalf("got %q, want the newest first", was)
	}
	press := func(column string) []string {
		p.do(chromedp.Focus(chromedp.Search(`//th/button[text()="`+column+`"]`)), chromedp.KeyEvent(kb.Enter))
		return eval[[]string](p, versions)
	}
	if got := press("Version"); got[0] != "999" || got[5] != was[0] {
		t.Errorf("by version: %q", got)
	}
	if got := eval[string](p, `document.querySelector("th[aria-sort]").textContent + document.querySelector("th[aria-sort]").ariaSort`); got != "Versionascending" {
		t.Errorf("said: %s", got)
	}
	if got := press("Version"); got[5] != "999" || got[0] != was[0] {
		t.Errorf("by version, down: %q", got)
	}
	if got := press("Size"); got[5] != "999" {
		t.Errorf("by size: %q", got)
	}
	if got := press("Date"); got[5] != "999" {
		t.Errorf("by date: %q", got)
	}
	if got := press("Name"); got[5] != "999" {
		t.Errorf("by name: %q", got)
	}
}

// What comes from outside is text, wherever it is shown.
func TestPageHostile(t *testing.T) {
	parent := newBrowser(t)
	p := open(t, parent, "http://"+start(t, hostileWorld(t).config(t))+"/")
	for _, selector := range []string{"#problems", "#freshness", "#upstreams", "#history", "#updates"} {
		p.says(selector, markup)
	}
	if eval[bool](p, `"hostile" in window`) {
		t.Error("what came from outside was run")
	}
	if n := eval[int](p, `document.querySelectorAll("img, script:not([src]), [onerror], [style]").length`); n != 0 {
		t.Errorf("%d elements came from outside", n)
	}
	p.fits()
}

// Whoever has scripts off reads all of it.
func TestPageWithoutScript(t *testing.T) {
	parent := newBrowser(t)
	w := healthyWorld(t)
	p := open(t, parent, "http://"+start(t, w.config(t))+"/", command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	newest, _ := w.catalog.Newest(noon())
	p.says("#digest", newest.Digest.String())
	p.says("#commands", "SERVER=http://SERVER", "openssl pkeyutl -verify")
	p.says("#updates", "12 in all", newest.Name.String())
	if n := eval[int](p, `[...document.querySelectorAll("button")].filter(b => b.checkVisibility()).length`); n != 0 {
		t.Errorf("%d buttons that do nothing", n)
	}
}
