package router

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// promtool runs Prometheus's own checks.
func promtool(t *testing.T, in string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		testworld.NotTested(t, "what Prometheus says of the metrics", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestPromtoolLikesTheMetrics(t *testing.T) {
	t.Parallel()
	addr := start(t, staleWorld(t).config(t))
	if out := promtool(t, get(t, addr, "/metrics").body, "check", "metrics"); out != "" {
		t.Errorf("promtool:\n%s", out)
	}
}

const packaged = "../packaging/prometheus"

// Each alert rings when it should, and has a test.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool(t, "", "check", "rules", filepath.Join(packaged, "alerts.yml"))
	promtool(t, "", "test", "rules", filepath.Join(packaged, "alerts_test.yml"))
	tests := readFile(t, "alerts_test.yml")
	alerts := regexp.MustCompile(`- alert: (\S+)`).FindAllStringSubmatch(readFile(t, "alerts.yml"), -1)
	for _, a := range alerts {
		if !strings.Contains(tests, "alertname: "+a[1]+"\n") {
			t.Errorf("%s has no test", a[1])
		}
	}
	if len(alerts) == 0 {
		t.Error("no alert")
	}
}

// The dashboard and the alerts look at series that there are, and leave out none of the program's own.
func TestWhatIsLookedAtIsThere(t *testing.T) {
	s := scraped(t, start(t, staleWorld(t).config(t)))
	there := map[string]bool{"up": true}
	for series := range s {
		name, _, _ := strings.Cut(series, "{")
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "promhttp_") {
			name = namespace + "_" + name
		}
		there[name] = true
	}
	dashboard := dashboardQueries(t)
	looked := map[string]bool{}
	for _, text := range append(dashboard, readFile(t, "alerts.yml")) {
		for _, name := range regexp.MustCompile(`\b(`+namespace+`|go|process)_[a-z0-9_]+\b`).FindAllString(text, -1) {
			if looked[name] = true; !there[name] {
				t.Errorf("there is no %s", name)
			}
		}
	}
	for _, m := range newMetrics(nil).gaugeSeries() {
		if name := namespace + "_" + m.name; !looked[name] && m.name != "metadata_version" {
			t.Errorf("nobody looks at %s", name)
		}
	}
}

// What has expired is shown: it does not vanish with its last second.
func TestDashboardShowsWhatHasExpired(t *testing.T) {
	n := 0
	for _, expr := range dashboardQueries(t) {
		if !strings.Contains(expr, "_expiry_timestamp_seconds") {
			continue
		}
		if n++; !strings.HasSuffix(expr, "} > 0) - time()") {
			t.Errorf("%s leaves out what has expired, or shows what is not there", expr)
		}
	}
	if n != 2 {
		t.Errorf("%d queries", n)
	}
}

// dashboardQueries returns the expressions of all panels.
func dashboardQueries(t *testing.T) (out []string) {
	t.Helper()
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	if err := json.Unmarshal([]byte(readFile(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	for _, v := range d.Templating.List {
		out = append(out, v.Query)
	}
	if len(out) < 20 {
		t.Errorf("only %d queries", len(out))
	}
	return out
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(packaged, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
