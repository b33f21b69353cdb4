package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// manual returns docs/MIRROR.md.
func manual(t *testing.T) string {
	t.Helper()
	return string(read(t, "..", "..", "docs", "MIRROR.md"))
}

// setting is what the commands of the manual take for granted. Servers run beside the shell until it ends,
// and are ready when the next command comes.
const setting = `
servers=
trap 'kill $servers; wait' EXIT
box-update-server() {
	case "$*" in
	*--once*|status*|fsck*|gc*|export*|import*|config*) command box-update-server "$@"; return ;;
	esac
	command box-update-server "$@" --log-requests=false &
	servers="$servers $!"
	address=$(printf '%s\n' "$@" | sed -n '/^--listen$/{n;p;}')
	i=0
	until curl -fsS "http://$address/readyz" >/dev/null 2>&1; do
		i=$((i + 1))
		[ $i -lt 300 ]
		command sleep 0.1
	done
}
`

// TestManual says every command of the manual, in its order.
func TestManual(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: pattern(5 << 20), name(1540000000, "tar.gz"): []byte("older")}).publish(t, origin.base)
	old := t.TempDir()
	pack(t, old, newest, proper())
	oldBase, _ := oldServer(t, old)

	var script string
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(manual(t), -1)
	for _, b := range blocks {
		script += b[1]
	}
	if len(blocks) < 7 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	script = strings.ReplaceAll(script, "http://127.0.0.1:8151", origin.base)
	script = strings.ReplaceAll(script, "http://old-server", oldBase)
	for _, port := range []string{"8152", "8154", "8156", "8158"} {
		script = strings.ReplaceAll(script, "127.0.0.1:"+port, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	}
	if left := regexp.MustCompile(`127\.0\.0\.1:81\d\d`).FindAllString(script, -1); left != nil {
		t.Fatalf("fixed ports: %q", left)
	}
	dir := t.TempDir()
	write(t, dir, "1.root.json", read(t, w.pinned()))
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-x", "-c", setting+script)
	cmd.Dir, cmd.Env = dir, os.Environ()
	need(t, "curl", "curl")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	says(t, string(out), "fetched 2 archives", "0 updates and 0s behind", `"freshness":`, "checked 2 updates: 0 problems",
		"exported 2 archives", "imported 2 archives", "imported 0 archives", "imported 1 archives", "unsigned: nobody has vouched for")
}

// TestManualExample checks the example of the settings, and that what it takes is what is described.
func TestManualExample(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(manual(t))
	if m == nil {
		t.Fatal("the manual has no example")
	}
	dir := t.TempDir()
	file := write(t, dir, "mirror.json", []byte(m[1]))
	write(t, dir, "1.root.json", []byte("{}"))
	out := command(t, dir, program, "config", "check", "--config", file)
	for _, line := range strings.Split(m[1], "\n") {
		if key, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && key != `"accept_stale"` {
			says(t, out, key)
		}
	}
	if strings.Contains(out, "unknown setting") {
		t.Error(out)
	}
}

// TestExamples: the program takes each example as it is installed, and has nothing to remark.
func TestExamples(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	for name, settings := range map[string]map[string]string{
		"plain.json":  {"/var/lib/box-updates": t.TempDir(), "/var/lib/box-update-server": t.TempDir()},
		"origin.json": {"/var/lib/box-update-server": s.dir, "/run/credentials/box-update-server.service/keys_online.pem": s.onlineKey()},
		"mirror.json": {"/var/lib/box-update-mirror": t.TempDir(), "/etc/box-update-server/1.root.json": filepath.Join(s.dir, "metadata", "1.root.json")},
	} {
		text := string(read(t, "..", "..", "packaging", "examples", name))
		for installed, here := range settings {
			if !strings.Contains(text, `": "`+installed+`",`) {
				t.Errorf("%s: %s is not there", name, installed)
			}
			text = strings.ReplaceAll(text, `": "`+installed+`"`, `": "`+here+`"`)
		}
		cmd := exec.Command(program, "config", "check", "--config", write(t, t.TempDir(), name, []byte(text)))
		var remarks strings.Builder
		cmd.Stderr = &remarks
		if out, err := cmd.Output(); err != nil || remarks.Len() > 0 {
			t.Errorf("%s: %v\n%s%s", name, err, out, &remarks)
		}
	}
}

// TestPrintedSchemas: what an origin, its mirror and a plain server answer for programs is as the schemas say.
func TestPrintedSchemas(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	mirror := launch{args: []string{"mirror", origin.base, "--root", filepath.Join(w.dir, "metadata", "1.root.json"), "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0"}}.start(t)
	testworld.Await(t, "the mirror has it", func() bool { return get(t, mirror.base+"/version").status == 200 })
	plain := serve(t, t.TempDir())
	for name, paths := range map[string][]string{"health.json": {"/", "/healthz"}, "updates.json": {"/updates.json"}} {
		schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "..", "docs", "schema", name))
		testworld.Must(t, err)
		for _, base := range []string{origin.base, mirror.base, plain.base} {
			for _, path := range paths {
				value, err := jsonschema.UnmarshalJSON(strings.NewReader(get(t, base+path).body))
				if err == nil {
					err = schema.Validate(value)
				}
				if err != nil {
					t.Errorf("%s%s: %v", base, path, err)
				}
			}
		}
	}
}

// TestManualSettings: each flag that only a mirror has stands in the table of settings, and no other.
func TestManualSettings(t *testing.T) {
	t.Parallel()
	_, rest, _ := strings.Cut(manual(t), "\n## Settings\n")
	table, _, _ := strings.Cut(rest, "\n## ")
	var described []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(table, -1) {
		described = append(described, m[1])
	}
	help := command(t, ".", program, "mirror", "--help")
	for _, key := range described {
		if !strings.Contains(help, "--"+strings.ReplaceAll(key, "_", "-")+" ") {
			t.Errorf("%s is described, and is no flag", key)
		}
	}
	elsewhere := string(read(t, "..", "..", "docs", "SERVING.md"))
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(help, -1) {
		key := strings.ReplaceAll(m[1], "-", "_")
		if slices.Contains([]string{"config", "once", "json", "quiet"}, key) {
			continue
		}
		if !slices.Contains(described, key) && !strings.Contains(elsewhere, "`"+key+"`") {
			t.Errorf("--%s is not described", m[1])
		}
	}
	if len(described) < 12 {
		t.Errorf("only %q are described", described)
	}
}

// TestManualRequests asks the admin socket for what the manual says.
func TestManualRequests(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	origin := w.serve()
	w.list(map[string][]byte{newest: []byte("archive")}).publish(t, origin.base)
	c := w.mirror(origin.base).synced(t)
	rows := regexp.MustCompile("(?m)^\\| `(GET|POST) (/[a-z]+)").FindAllStringSubmatch(manual(t), -1)
	if len(rows) < 5 {
		t.Fatalf("%d requests", len(rows))
	}
	for _, r := range rows {
		a := do(t, r[1], c.admin+r[2])
		if want := map[bool]int{true: http.StatusBadGateway, false: http.StatusOK}[r[2] == "/import"]; a.status != want {
			t.Errorf("%s %s: %d %s", r[1], r[2], a.status, a.body)
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "settings.json")); err != nil {
		t.Error(err)
	}
}
