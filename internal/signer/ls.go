package signer

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// ListFilter says which updates Ls returns. Its zero value says all.
type ListFilter struct {
	Product string // only of this product, "" for all
	Since   string // only those published since: a day like 2026-11-30, or an age like 36h or 7d
	Newest  int    // only so many versions of each product, 0 for all
}

// Listing is the updates that a repository lists, the newest version of each product first.
type Listing struct {
	Updates []Row `json:"updates"`

	at time.Time
}

// Row is an update as Ls shows it.
type Row struct {
	Listed
	Product    update.Product `json:"product"`
	Signatures []keys.ID      `json:"signatures"`     // keys of its detached signatures
	Held       string         `json:"held,omitempty"` // why no further box takes it now
}

// Ls returns the updates that the repository lists.
func (s *Signer) Ls(ctx context.Context, f ListFilter) (Listing, error) {
	since, err := parseSince(f.Since, s.Now())
	if err != nil {
		return Listing{}, err
	}
	if f.Newest < 0 {
		return Listing{}, status.Usagef("--newest %d: expected a number from 1", f.Newest)
	}
	return inSession(ctx, s, false, func(x *session) (Listing, error) {
		out := Listing{Updates: []Row{}, at: x.at}
		for _, r := range x.base.Releases() {
			row := Row{Listed: describeRelease(r, x.at), Product: r.Name().Product(), Signatures: []keys.ID{}}
			if f.Product != "" && string(row.Product) != f.Product || row.Published.Before(since) {
				continue
			}
			for _, sig := range r.Signatures() {
				row.Signatures = append(row.Signatures, sig.Key)
			}
			row.Held = row.held(x.at)
			out.Updates = append(out.Updates, row)
		}
		slices.SortFunc(out.Updates, func(a, b Row) int {
			return cmp.Or(cmp.Compare(a.Product, b.Product), b.Version.Compare(a.Version), cmp.Compare(a.Name.String(), b.Name.String()))
		})
		out.Updates = newestOf(out.Updates, f.Newest)
		return out, nil
	})
}

// newestOf returns the rows of the newest n versions of each product, all for 0. Rows are sorted by product, then by
// version, the newest first.
func newestOf(rows []Row, n int) []Row {
	if n == 0 {
		return rows
	}
	var out []Row
	versions := 0
	for i, r := range rows {
		switch {
		case i == 0 || rows[i-1].Product != r.Product:
			versions = 1
		case rows[i-1].Version != r.Version:
			versions++
		}
		if versions <= n {
			out = append(out, r)
		}
	}
	return append([]Row{}, out...)
}

// parseSince parses a day, or an age before now. It returns the zero time for "".
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day, nil
	}
	ago, err := parseAfter(text)
	if err != nil {
		return time.Time{}, status.Usagef("--since %.40q: expected a day like 2026-11-30, or an age like 36h or 7d", text)
	}
	return now.Add(-ago), nil
}

// held says why no further box takes an update now, "" if others may.
func (l Listed) held(at time.Time) string {
	switch r := l.Rollout; {
	case r == nil:
		return ""
	case r.Paused != nil:
		return "paused since " + stamp(*r.Paused)
	default:
		for _, s := range r.Steps {
			if s.From.After(at) {
				return "next step at " + stamp(s.From)
			}
		}
	}
	return ""
}

// Text returns the updates as a table.
func (l Listing) Text() string {
	if len(l.Updates) == 0 {
		return "no updates\n"
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PRODUCT\tVERSION\tFORMAT\tAGE\tSIZE\tSIGNATURES\tROLLOUT\tHARDWARE\tHELD")
	for _, u := range l.Updates {
		share := 100
		if u.Rollout != nil {
			share = u.Rollout.Share
		}
		fmt.Fprintf(w, "%s\t%v\t%v\t%s\t%s\t%d\t%d%%\t%s\t%s\n", u.Product, u.Version, u.Name.Format(), ago(l.at.Sub(u.Published)), cli.Size(u.Length),
			len(u.Signatures), share, cmp.Or(strings.Join(u.Hardware, ","), "any"), cmp.Or(u.Held, "-"))
	}
	w.Flush() // into memory
	return out.String()
}

// ago returns a duration in its largest unit: 40s, 5m, 3h, 12d.
func ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}
