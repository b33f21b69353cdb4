package box

import (
	"fmt"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// TestDailyCapWithoutClock: a box whose clock begins anew after each power cut, and one whose clock was far
// ahead, get no more than a day's share in a day.
func TestDailyCapWithoutClock(t *testing.T) {
	at := func(s string) time.Time { return must(time.Parse(time.RFC3339, s)) }
	for name, c := range map[string]struct {
		times []string // of each of which 10 bytes are asked for, of 20 a day
		want  []int64
	}{
		"one day":              {[]string{"2026-03-01T00:00:00Z", "2026-03-01T12:00:00Z", "2026-03-01T23:59:59Z"}, []int64{10, 10, 0}},
		"in another zone":      {[]string{"2026-03-01T23:30:00-05:00", "2026-03-02T23:30:00Z", "2026-03-02T01:00:00+01:00"}, []int64{10, 10, 0}},
		"days":                 {[]string{"2026-03-01T23:00:00Z", "2026-03-01T23:30:00Z", "2026-03-02T00:00:00Z"}, []int64{10, 10, 10}},
		"back by power cuts":   {[]string{"2026-03-04T10:00:00Z", "2026-03-01T12:00:00Z", "2026-03-04T10:05:00Z", "2026-03-01T12:00:00Z", "2026-03-05T00:00:00Z"}, []int64{10, 10, 0, 0, 10}},
		"back from far ahead":  {[]string{"2040-01-01T00:00:00Z", "2040-01-01T00:00:00Z", "2026-03-01T12:00:00Z"}, []int64{10, 10, 10}},
		"back by half a month": {[]string{"2026-03-20T00:00:00Z", "2026-03-20T00:00:00Z", "2026-03-05T00:00:00Z"}, []int64{10, 10, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			var r record
			var now time.Time
			b := budget{allowance: allowance{20, func() time.Time { return now }, &r, func() error { return nil }}}
			for i, s := range c.times {
				now = at(s)
				got := min(10, b.Left())
				if got != c.want[i] {
					t.Errorf("%s: %d bytes may come, expected %d", s, got, c.want[i])
				}
				check(t, b.Spend(got, got))
			}
		})
	}
}

// A year on a metered link: however often an update comes, and however many days one takes, something is installed
// again and again, and nothing older where the newest is there as soon.
func TestMeteredYear(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		every, takes int // days from one update to the next, and that one takes to arrive
		withdrawn    bool
		installs     int // in the year
	}{
		{every: 3, takes: 5, installs: 73},
		{every: 1, takes: 30, installs: 12},
		{every: 10, takes: 5, installs: 37},
		{every: 3, takes: 5, withdrawn: true, installs: 0}, // each is withdrawn when the next one comes
	} {
		t.Run(fmt.Sprintf("%+v", tc), func(t *testing.T) {
			const quota = 5 << 20
			repo, release, online := newRepository(t)
			at := start
			var here part
			var s install.Status
			installs, last := 0, update.Name{}
			for d := range 365 {
				at = at.Add(24 * time.Hour)
				if d%tc.every == 0 {
					n := must(update.ParseName(fmt.Sprintf("opq-box-update-%d.tar.gz", d+1)))
					e, err := repo.EditTargets(&trust.Ledger{}, 0, at)
					check(t, err)
					if tc.withdrawn && !last.IsZero() {
						check(t, e.Withdraw(last))
					}
					e.Keep(32)
					digest := update.Sum([]byte(n.String()))
					check(t, e.Add(trust.Addition{Name: n, Digest: digest, Length: int64(tc.takes) * quota, Blocks: digest}))
					p, err := e.Sign(t.Context(), release)
					check(t, err)
					repo, err = repo.Next(t.Context(), at, trust.Change{Targets: p}, online)
					check(t, err)
					last = n
				}
				out := chooser{product: update.DefaultProduct, box: trust.Box{Machine: "m", Installed: s.Version}, status: s, part: here}.choose(repo, at)
				rel := out.Release
				if rel.IsZero() {
					continue
				}
				if rel.Name() != last && here.missing(rel) >= rel.Length() {
					t.Errorf("day %d: %v is begun, and %v is newer", d, rel.Name(), last)
				}
				here = part{rel.Digest(), rel.Length() - here.missing(rel) + quota}
				if here.missing(rel) == 0 {
					s = install.Status{Installed: &install.Installed{Name: rel.Name(), Digest: rel.Digest()}, Version: rel.Name().Version()}
					installs++
				}
			}
			if installs != tc.installs {
				t.Errorf("expected %d installations, got %d", tc.installs, installs)
			}
		})
	}
}
