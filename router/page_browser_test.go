package router

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/update"
)

// What a reader sees of each kind of repository, at each width, in light and dark.
func TestPageInABrowser(t *testing.T) {
	t.Parallel()
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

// The bars tell the same as the words, to those as well who can't see them.
func TestPageBars(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
	parent := newBrowser(t)
	w := newWorld(t, 5)
	list := append([]update.Update{{Name: testworld.Name("opq-box-update-999.tar.gz"), Length: 5 << 30, Time: noon()}}, w.catalog.Updates()...)
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
	t.Parallel()
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
	t.Parallel()
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
