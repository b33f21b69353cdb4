// Package page renders the status page of a server: what is served, which boxes get it, and what a person should see
// to. It knows nothing of HTTP. All text comes through html/template, and the page needs neither its style nor its
// script.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

//go:embed files
var files embed.FS

var tmpl = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"add":     func(a, b int) int { return a + b },
	"counted": counted,
	"length":  func(seconds int64) string { return length(time.Duration(seconds) * time.Second) },
	"rounded": func(d time.Duration) string { return d.Round(time.Second).String() },
	"size":    size,
}).ParseFS(files, "files/page.html"))

// Style returns the style sheet of the page.
func Style() []byte { return file("page.css") }

// Script returns the script of the page.
func Script() []byte { return file("page.js") }

func file(name string) []byte {
	body, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return body
}

// pageSize is how many updates are on one page: with them it stays below 30 kB before compression.
const pageSize = 40

// Content is what one page is made of. It lists a part of the updates; all else is the same on every page.
type Content struct {
	Now        time.Time
	Product    update.Product
	Version    string // of the program
	Components []status.Component
	Standing   status.Standing

	Updates []update.Update // of the catalog, the newest last
	Newest  *update.Update  // that every box may install; nil: there is none
	Number  int             // of the page, from 1 to Pages

	Conditions func(update.Update) trust.Conditions
	Signatures func(update.Update) []trust.KeySignature
}

// Render returns the page in HTML. It is the same as long as nothing changes that a person would see.
func (c Content) Render() []byte {
	var body bytes.Buffer
	if err := tmpl.Execute(&body, c); err != nil {
		panic(fmt.Errorf("status page: %w", err)) // a fault of the template, whose branches are all tested
	}
	return body.Bytes()
}

// Pages returns how many pages there are, at least one.
func (c Content) Pages() int { return max(1, (len(c.Updates)+pageSize-1)/pageSize) }

// Listed returns the updates of this page, the newest first.
func (c Content) Listed() []update.Update {
	end := len(c.Updates) - (c.Number-1)*pageSize
	listed := slices.Clone(c.Updates[max(0, end-pageSize):end])
	slices.Reverse(listed)
	return listed
}

// Bytes returns the length of all updates together.
func (c Content) Bytes() (n int64) {
	for _, u := range c.Updates {
		n += u.Length
	}
	return n
}

// Problems returns all warnings, urgent ones first.
func (c Content) Problems() []string {
	urgent, other := status.Problems(c.Components)
	return append(urgent, other...)
}

// A State is the overall state.
type State struct {
	Word  string // also the name of its style
	Title string
	Text  string
}

// State returns the worst state that applies.
func (c Content) State() State {
	files, mirrored := c.Standing.Files, c.Standing.Copy
	expired := slices.IndexFunc(files, func(f status.File) bool { return f.Expires.Before(c.Now) })
	switch {
	case mirrored != nil && !mirrored.Synced:
		return State{"empty", "Not synced yet", "Nothing is served before the first sync is complete."}
	case expired >= 0:
		return State{"expired", "Expired", fmt.Sprintf("Boxes refuse what is here: %s expired.", files[expired].Role)}
	case !status.AllOK(c.Components):
		return State{"broken", "Needs attention", "Something is wrong; see the problems below."}
	case mirrored != nil && mirrored.Verdict() != nil:
		return State{"stale", "Stale", "There is something newer upstream, or may be."}
	case len(c.Updates) == 0:
		return State{"empty", "No update", "There is nothing to install here."}
	}
	return State{"healthy", "Healthy", "Everything is in order."}
}

// Left says how long a metadata file is still valid, or since when it is not.
func (c Content) Left(f status.File) string {
	if left := f.Expires.Sub(c.Now); left >= 0 {
		return length(left) + " left"
	}
	return "expired " + length(c.Now.Sub(f.Expires)) + " ago"
}

// Percent returns how much of a metadata file's life is left, from 0 to 100.
func (c Content) Percent(f status.File) int {
	life, left := f.Expires.Sub(f.Issued), f.Expires.Sub(c.Now)
	if left < 0 || life <= 0 {
		return 0
	}
	return int(min(100, 100*left.Seconds()/life.Seconds()))
}

// Signers returns the IDs of the keys that signed an update, in order. An empty ID means that the key is not known.
func (c Content) Signers(u update.Update) (ids []keys.ID) {
	for _, s := range c.Signatures(u) {
		ids = append(ids, s.Key)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// For says which boxes an update is for.
func (c Content) For(u update.Update) string { return describeConditions(u, c.Conditions(u), c.Now) }

const everyBox = "every box"

func describeConditions(u update.Update, on trust.Conditions, at time.Time) string {
	var parts []string
	if u.Unsigned {
		parts = append(parts, "not in the signed list")
	}
	if on.Rollout != nil {
		parts = append(parts, describeRollout(on.Rollout, at.Sub(u.Time)))
	}
	if len(on.Hardware) > 0 {
		parts = append(parts, "hardware "+strings.Join(slices.Sorted(slices.Values(on.Hardware)), ", "))
	}
	if !on.MinVersion.IsZero() {
		parts = append(parts, "over "+on.MinVersion.String()+" or newer")
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, "; ")
	case u.Limited:
		return "some boxes"
	}
	return everyBox
}

func describeRollout(r *trust.Rollout, since time.Duration) string {
	share := r.Share(since)
	switch {
	case share == 100:
		return everyBox
	case r.Paused && since >= r.PausedAt:
		return fmt.Sprintf("paused at %d%% of boxes", share)
	}
	return fmt.Sprintf("%d%% of boxes", share)
}

// size returns a number of bytes for people, in units of a thousand.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", max(0, n))
	}
	v, units := float64(n)/1000, []string{"kB", "MB", "GB", "TB", "PB"}
	for len(units) > 1 && v >= 999.5 {
		v, units = v/1000, units[1:]
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f %s", v, units[0])
	}
	return fmt.Sprintf("%.0f %s", v, units[0])
}

// length returns a duration for people, rounded down and coarse, so that pages rendered from it stay the same for
// long.
func length(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return counted(int(d/time.Minute), "minute")
	case d < 2*day:
		return counted(int(d/time.Hour), "hour")
	}
	return counted(int(d/day), "day")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
