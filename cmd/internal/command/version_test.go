package command

import (
	"runtime/debug"
	"testing"
	"time"
)

func TestBuiltFrom(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.time", Value: "2026-03-01T12:00:00Z"}}
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name     string
		text     string
		settings []debug.BuildSetting
		want     time.Time
	}{
		{"nothing", "", nil, time.Time{}},
		{"the linker", "2027-03-01T13:00:00+01:00", nil, day.AddDate(1, 0, 0)},
		{"the go command", "", vcs, day},
		{"both", "2027-03-01T12:00:00Z", vcs, day.AddDate(1, 0, 0)},
		{"no time", "yesterday", nil, time.Time{}},
	} {
		if got := builtFrom(c.text, c.settings); !got.Equal(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
