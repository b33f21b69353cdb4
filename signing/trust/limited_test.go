package trust_test

import (
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// What a catalog says of when a release is for every box agrees with the share of boxes that takes it.
func TestCatalogKnowsWhoMayInstall(t *testing.T) {
	steps := []trust.Step{{After: 0, Percent: 5}, {After: time.Hour, Percent: 50}, {After: 2 * time.Hour, Percent: 100}}
	for label, c := range map[string]trust.Conditions{
		"none":         {},
		"hardware":     {Hardware: []string{"opq-2"}},
		"minimum":      {MinVersion: update.VersionAt(time.Unix(7, 0))},
		"rollout":      {Rollout: &trust.Rollout{Steps: steps}},
		"partial":      {Rollout: &trust.Rollout{Steps: steps[:2]}},
		"paused early": {Rollout: &trust.Rollout{Steps: steps, Paused: true, PausedAt: 2*time.Hour - time.Second}},
		"paused late":  {Rollout: &trust.Rollout{Steps: steps, Paused: true, PausedAt: 2 * time.Hour}},
		"all, later":   {Rollout: &trust.Rollout{Steps: []trust.Step{{After: time.Hour, Percent: 100}}}},
		"all, at once": {Rollout: &trust.Rollout{Steps: []trust.Step{{Percent: 100}}}},
		"both":         {Hardware: []string{"opq-2"}, Rollout: &trust.Rollout{Steps: steps}},
	} {
		t.Run(label, func(t *testing.T) {
			w := newWorld(t)
			e := w.edit()
			a := addition(t, "p-1.tar.gz", content("p-1.tar.gz"))
			a.Conditions = c
			if err := e.Add(a); err != nil {
				t.Fatal(err)
			}
			rel := w.sign(e, w.releases...).Releases()[0]
			for after := time.Duration(0); after <= 4*time.Hour; after += 30 * time.Minute {
				for _, shift := range []time.Duration{-time.Second, 0, time.Second} {
					at := rel.Published().Add(after + shift)
					if after+shift < 0 {
						continue
					}
					want := len(c.Hardware) == 0 && c.MinVersion.IsZero() && c.Rollout.Share(after+shift) == 100
					if rel.Update().ForEveryBox(at) != want || rel.ForEveryBox(at) != want {
						t.Errorf("after %v: %t, want %t", after+shift, !want, want)
					}
				}
			}
		})
	}
}
