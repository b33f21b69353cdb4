package trust_test

import (
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
)

// Each field of trust.Conditions is written by Add and by Condition, read back and removed, and it limits the release.
func TestEachCondition(t *testing.T) {
	for field, c := range testworld.Conditions(t) {
		t.Run(field, func(t *testing.T) {
			w, n := newWorld(t), name(t, one)
			check := func(want trust.Conditions, limited bool) {
				t.Helper()
				rel, _ := w.repo.Release(n)
				if got := rel.Conditions(); !got.Equal(want) {
					t.Errorf("expected %+v, got %+v", want, got)
				}
				at := rel.Published()
				if rel.ForEveryBox(at) == limited || rel.Update().Limited != limited {
					t.Errorf("expected limited %t", limited)
				}
				v := rel.Evaluate(trust.Box{Machine: "m"}, at)
				if held := v.Hold != trust.HoldNone; held != limited || (v.Reason != "") != limited {
					t.Errorf("expected held %t, got %+v", limited, v)
				}
			}
			condition := func(c trust.Conditions) {
				t.Helper()
				e := w.edit()
				testworld.Must(t, e.Condition(n, c))
				if changed := e.Plan().Changed; len(changed) != 1 {
					t.Errorf("expected one change, got %v", changed)
				}
				w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
			}
			if c.Equal(trust.Conditions{}) {
				t.Fatal("the condition equals none")
			}
			a := addition(t, one, content(one))
			a.Conditions = c
			e := w.edit()
			testworld.Must(t, e.Add(a))
			w.publish(trust.Change{Targets: w.sign(e, w.releases...)})
			check(c, true)
			condition(trust.Conditions{})
			check(trust.Conditions{}, false)
			condition(c)
			check(c, true)
		})
	}
}
