package main

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// A box on a metered link: the update of which a part is here comes before a newer one of which more is missing, and
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
		d.must(status.ExitHeld, "update").says("the daily cap is reached")
		w.publish(trust.Conditions{}, map[string][]byte{two: big(two, "200")})
		if withdrawn {
			w.edit(func(e *trust.TargetsEdit) error { return e.Withdraw(named(t, one)) })
		}
		m.sync(w)
		d.now = d.now.Add(24 * time.Hour)
		if withdrawn {
			d.must(status.ExitHeld, "update").says(two, "the daily cap is reached")
			d.has("", "")
			continue
		}
		d.must(status.ExitAvailable, "check").says("update: "+one, "not yet: "+two, one+" comes first")
		d.must(status.ExitHeld, "update").says("installed: "+one, "the daily cap")
		d.has("100", "100")
		d.now = d.now.Add(24 * time.Hour)
		d.must(status.ExitHeld, "update").says(two, "the daily cap")
		d.now = d.now.Add(24 * time.Hour)
		d.must(0, "update").says("installed: " + two)
		d.has("200", "100 200")
		d.clean()
	}
}
