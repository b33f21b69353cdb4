package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

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
			w := newWorld(t)
			repo, at := w.repo, w.at
			var here part
			var s install.Status
			installs, last := 0, update.Name{}
			for d := range 365 {
				at = at.Add(24 * time.Hour)
				if d%tc.every == 0 {
					n := named(t, fmt.Sprintf("opq-box-update-%d.tar.gz", d+1))
					e, err := repo.EditTargets(&trust.Ledger{}, 0, at)
					check(t, err)
					if tc.withdrawn && !last.IsZero() {
						check(t, e.Withdraw(last))
					}
					e.Keep(32)
					digest := update.Sum([]byte(n.String()))
					check(t, e.Add(trust.Addition{Name: n, Digest: digest, Length: int64(tc.takes) * quota, Blocks: digest}))
					p, err := e.Sign(t.Context(), w.release)
					check(t, err)
					repo, err = repo.Next(t.Context(), at, trust.Change{Targets: p}, w.online)
					check(t, err)
					last = n
				}
				out := chooser{product: update.DefaultProduct, machine: "m", status: s, part: here}.choose(repo, at)
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

// The same with a box: the update of which a part is here comes before a newer one of which more is missing, and
// not where it was withdrawn.
func TestMeteredFinishesWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, withdrawn := range []bool{false, true} {
		w := newWorld(t)
		big := func(name, version string) []byte {
			return tarball(t, named(t, name), map[string]string{"VERSION": version + "\n",
				"install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran", "data": noise(6 << 20)})
		}
		w.publish(trust.Conditions{}, map[string][]byte{one: big(one, "100")})
		m := w.mirror()
		d := w.newDevice(map[string]any{"max_bytes_per_day": 4 << 20}, m)
		d.must(codeHeld, "update").says("the daily cap is reached")
		w.publish(trust.Conditions{}, map[string][]byte{two: big(two, "200")})
		if withdrawn {
			w.edit(func(e *trust.TargetsEdit) error { return e.Withdraw(named(t, one)) })
		}
		m.sync(w)
		d.now = d.now.Add(24 * time.Hour)
		if withdrawn {
			d.must(codeHeld, "update").says(two, "the daily cap is reached")
			d.has("", "")
			continue
		}
		d.must(codeAvailable, "check").says("update: "+one, "not yet: "+two, one+" comes first")
		d.must(codeHeld, "update").says("installed: "+one, "the daily cap")
		d.has("100", "100")
		d.now = d.now.Add(24 * time.Hour)
		d.must(codeHeld, "update").says(two, "the daily cap")
		d.now = d.now.Add(24 * time.Hour)
		d.must(0, "update").says("installed: " + two)
		d.has("200", "100 200")
		d.clean()
	}
}
