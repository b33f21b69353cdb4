package packaging_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// What systemd-analyze security says of the servers' units is below 2: "OK". The unit of boxup is another
// matter: install scripts are there to change the system. All are checked with systemd-analyze verify on
// the machine that they are installed on.
func TestUnitsAreHardened(t *testing.T) {
	need(t, "systemd-analyze", "systemd")
	units, err := filepath.Glob("systemd/box-update-*.service")
	if err != nil || len(units) != 2 {
		t.Fatalf("got %q, %v", units, err)
	}
	level := regexp.MustCompile(`Overall exposure level for [^ ]+: ([0-9]+\.[0-9])`)
	for _, unit := range units {
		out := run(t, exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", unit))
		m := level.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("%s: no figure in:\n%s", unit, out)
		}
		if figure, err := strconv.ParseFloat(m[1], 64); err != nil || figure >= 2 {
			t.Errorf("%s: exposure level %s, want below 2:\n%s", unit, m[1], out)
		}
	}
}
