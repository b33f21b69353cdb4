package testworld

import (
	"reflect"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// Conditions returns, by the name of each field of trust.Conditions, conditions with this field alone. At the time of
// publishing, they keep an update from a box of which only the machine ID is known.
func Conditions(t testing.TB) map[string]trust.Conditions {
	t.Helper()
	all := reflect.ValueOf(trust.Conditions{
		Rollout:    &trust.Rollout{Steps: []trust.Step{{After: time.Hour, Percent: 100}}},
		Hardware:   []string{"other hardware"},
		MinVersion: update.VersionAt(Start),
	})
	out := map[string]trust.Conditions{}
	for i := range all.NumField() {
		field := all.Type().Field(i).Name
		if all.Field(i).IsZero() {
			t.Fatalf("trust.Conditions.%s: give it a value here, so that tests of several packages check it", field)
		}
		var one trust.Conditions
		reflect.ValueOf(&one).Elem().Field(i).Set(all.Field(i))
		out[field] = one
	}
	return out
}
