package page

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	pageSize    = 40 // updates on one page: with them it stays below 30 kB before compression
	maxProblems = 20 // that are shown; the health lists all
	maxHistory  = 10 // syncs that are shown
)

// Source is the input of the status page that changes only with the catalog.
type Source struct {
	Product update.Product
	Version string          // of the program
	Updates []update.Update // of the catalog, the newest last
	Newest  *update.Update  // that every box may install; nil: there is none

	Conditions func(update.Update) trust.Conditions
	Signatures func(update.Update) []trust.KeySignature
}

// Pages returns how many pages the list of updates has, at least one.
func (s Source) Pages() int { return max(1, (len(s.Updates)+pageSize-1)/pageSize) }

// Facts is what the status page says besides its list, and the part of the list that changes with time. It has
// pointers only to values of its own, so that reflect.DeepEqual can compare two.
type Facts struct {
	State    pageState
	Problems []string
	More     int // problems that are not shown

	Roles    []pageRole
	Store    string // empty: not known
	Unhashed int
	Copy     *pageCopy // nil: this is no mirror

	states map[update.Name]string // which boxes an update is for, unless it is for every box
}

// A pageState is the overall state in a word, and the reason.
type pageState struct {
	Word  string // also the name of its style
	Title string
	Text  string
}

// pageRole is a metadata file and how much of its life is left.
type pageRole struct {
	Role    trust.Role
	Version int64
	Percent int // of its life that is left, 0 to 100
	Left    string
	Expires pageTime
	Expired bool
}

// pageCopy is how new a copy is.
type pageCopy struct {
	Synced    bool
	Stale     bool
	Behind    string // empty: it is the newest that is known
	Problem   string
	Since     pageTime
	Complete  pageTime
	Checked   pageTime
	Upstreams []status.Upstream
	History   []pageSync
}

type pageSync struct {
	At      pageTime
	Took    string
	What    string
	Problem string
}

// pageTime is a time for people and for programs; both are empty for none.
type pageTime struct{ Text, Machine string }

func newPageTime(t time.Time) pageTime {
	if t.IsZero() {
		return pageTime{}
	}
	t = t.UTC()
	return pageTime{t.Format("2006-01-02 15:04") + " UTC", t.Format(time.RFC3339)}
}

// Facts returns the facts at a time, from the components and the standing of the server. special is the result of
// Special.
func (s Source) Facts(at time.Time, components []status.Component, now status.Standing, special []update.Update) Facts {
	f := Facts{Unhashed: now.Unhashed, states: map[update.Name]string{}}
	urgent, other := status.Problems(components)
	f.Problems = append(urgent, other...)
	if f.More = len(f.Problems) - maxProblems; f.More > 0 {
		f.Problems = f.Problems[:maxProblems]
	}
	for _, r := range now.Files {
		f.Roles = append(f.Roles, describeRole(r, at))
	}
	if now.StoreBytes > 0 || now.FreeBytes > 0 {
		f.Store = fmt.Sprintf("%s in archives, %s free", size(now.StoreBytes), size(max(0, now.FreeBytes)))
		if !now.Scrubbed.IsZero() {
			f.Store += fmt.Sprintf(", all read again by %s", now.Scrubbed.UTC().Format(time.DateOnly))
		}
	}
	if now.Copy != nil {
		f.Copy = describeCopy(*now.Copy)
	}
	for _, u := range special {
		f.states[u.Name] = describeConditions(u, s.Conditions(u), at)
	}
	f.State = s.state(status.AllOK(components), f)
	return f
}

// Special returns the updates that are not simply for every box.
func (s Source) Special() (out []update.Update) {
	for _, u := range s.Updates {
		on := s.Conditions(u)
		if u.Unsigned || u.Limited || on.Rollout != nil || len(on.Hardware) > 0 || !on.MinVersion.IsZero() {
			out = append(out, u)
		}
	}
	return out
}

// state returns the worst state that applies.
func (s Source) state(ok bool, f Facts) pageState {
	expired := slices.IndexFunc(f.Roles, func(r pageRole) bool { return r.Expired })
	switch {
	case f.Copy != nil && !f.Copy.Synced:
		return pageState{"empty", "Not synced yet", "Nothing is served before the first sync is complete."}
	case expired >= 0:
		return pageState{"expired", "Expired", fmt.Sprintf("Boxes refuse what is here: %s expired.", f.Roles[expired].Role)}
	case !ok:
		return pageState{"broken", "Needs attention", "Something is wrong; see the problems below."}
	case f.Copy != nil && f.Copy.Stale:
		return pageState{"stale", "Stale", "There is something newer upstream, or may be."}
	case len(s.Updates) == 0:
		return pageState{"empty", "No update", "There is nothing to install here."}
	}
	return pageState{"healthy", "Healthy", "Everything is in order."}
}

func describeRole(r status.File, at time.Time) pageRole {
	out := pageRole{Role: trust.Role(r.Role), Version: r.Version, Expires: newPageTime(r.Expires)}
	life, left := r.Expires.Sub(r.Issued), r.Expires.Sub(at)
	if left < 0 {
		out.Expired = true
		out.Left = "expired " + length(-left) + " ago"
		return out
	}
	out.Left = length(left) + " left"
	if life > 0 {
		out.Percent = int(min(100, 100*left.Seconds()/life.Seconds()))
	}
	return out
}

func describeCopy(s status.Freshness) *pageCopy {
	c := &pageCopy{
		Synced: s.Synced, Stale: s.Verdict() != nil, Problem: string(s.Reason), Since: newPageTime(s.Since),
		Complete: newPageTime(s.Complete), Checked: newPageTime(s.Checked),
	}
	if s.SecondsBehind > 0 || s.UpdatesBehind > 0 {
		c.Behind = fmt.Sprintf("%s and %s", counted(s.UpdatesBehind, "update"), length(time.Duration(s.SecondsBehind)*time.Second))
	}
	for _, u := range s.Upstreams {
		u.Checked, u.Received = u.Checked.UTC().Truncate(time.Minute), 0 // the page does not show more of it
		c.Upstreams = append(c.Upstreams, u)
	}
	for _, r := range s.History[:min(len(s.History), maxHistory)] {
		c.History = append(c.History, describeSync(r))
	}
	return c
}

func describeSync(r status.Sync) pageSync {
	what := "nothing new"
	if r.Archives > 0 {
		what = counted(r.Archives, "archive") + ", " + size(r.Bytes)
	}
	return pageSync{newPageTime(r.At), r.Took.Round(time.Second).String(), what, string(r.Reason)}
}

// describeConditions says which boxes an update is for.
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
	if len(parts) == 0 {
		return "some boxes"
	}
	return strings.Join(parts, "; ")
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

const everyBox = "every box"

// A pageModel is the data for the template of one page.
type pageModel struct {
	Facts
	Product, Version string
	Newest           *pageUpdate // nil: none that every box may install
	Updates          []pageUpdate
	Total            int
	Bytes            string
	Page, Pages      int
	Previous, Next   int // 0: none
}

// pageUpdate is an update, as the page shows it.
type pageUpdate struct {
	Name, Version string
	Time          pageTime
	Length        int64
	Size          string
	Digest        string // empty: not known yet
	Signers       []pageSigner
	State         string
}

// pageSigner is a key that signed.
type pageSigner struct{ Fingerprint, ID string }

func (s Source) model(f Facts, number int) pageModel {
	all := s.Updates
	m := pageModel{Facts: f, Product: string(s.Product), Version: s.Version, Total: len(all), Page: number, Pages: s.Pages()}
	if m.Previous = number - 1; number < m.Pages {
		m.Next = number + 1
	}
	if s.Newest != nil {
		newest := s.describeUpdate(*s.Newest, f)
		m.Newest = &newest
	}
	var bytes int64
	for _, u := range all {
		bytes += u.Length
	}
	m.Bytes = size(bytes)
	last := len(all) - (number-1)*pageSize
	for i := last - 1; i >= max(0, last-pageSize); i-- {
		m.Updates = append(m.Updates, s.describeUpdate(all[i], f))
	}
	return m
}

func (s Source) describeUpdate(u update.Update, f Facts) pageUpdate {
	out := pageUpdate{
		Name: u.Name.String(), Version: u.Name.Version().String(), Time: newPageTime(u.Time),
		Length: u.Length, Size: size(u.Length), State: everyBox,
	}
	if !u.Digest.IsZero() {
		out.Digest = u.Digest.String()
	}
	if state, ok := f.states[u.Name]; ok {
		out.State = state
	}
	seen := map[pageSigner]bool{}
	for _, by := range s.Signatures(u) {
		seen[pageSigner{by.Key.Fingerprint(), string(by.Key)}] = true
	}
	out.Signers = slices.SortedFunc(maps.Keys(seen), func(a, b pageSigner) int { return strings.Compare(a.ID, b.ID) })
	return out
}
