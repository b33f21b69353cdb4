package tour_test

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
)

// The size of testworld's terminal.
const rows, columns = 24, 80

// shell reads commands from descriptor 3 and runs them as a person's shell would, on the terminal. After each command it
// writes a mark that no program writes, with the exit code.
const shell = `
trap 'kill $(jobs -p); wait' EXIT
while IFS= read -r -d '' -u 3 command; do
	eval "$command" 3<&-
	printf '\036%d\036' $?
done
`

const mark = "\x1e"

// record runs the commands of tours one after another and stores in each what the terminal showed.
func record(t *testing.T, tours [][]step) {
	t.Helper()
	for _, program := range []string{"bash", "curl", "wget", "openssl", "sha256sum", "cmp"} {
		if _, err := exec.LookPath(program); err != nil {
			testworld.NotTested(t, "the tours of README", err)
		}
	}
	home := t.TempDir()
	dir := filepath.Join(home, "tour")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	commands, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", shell)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TERM=xterm-256color", "LANG=C.UTF-8", "TZ=UTC"}
	cmd.ExtraFiles = []*os.File{commands}
	norm := newNormalizer(t, home)
	session := testworld.StartSession(t, cmd)
	if err := commands.Close(); err != nil {
		t.Fatal(err)
	}
	type span struct{ from, to, end int } // what a command showed, and its exit code with the marks
	var spans []span
	at := 0
	for _, steps := range tours {
		for _, s := range steps {
			if _, err := typed.WriteString(norm.useFreePorts(s.command) + "\x00"); err != nil {
				t.Fatal(err)
			}
			asked := at
			for _, a := range s.answers {
				asked = session.Await(a.prompt, asked)
				session.Type(a.text + "\r")
			}
			to := session.Await(mark, asked)
			end := session.Await(mark, to)
			spans = append(spans, span{at, to - len(mark), end})
			at = end
		}
	}
	if err := typed.Close(); err != nil {
		t.Fatal(err)
	}
	shown, _ := session.Wait()
	norm.learn(dir)
	for _, steps := range tours {
		for i := range steps {
			s := &steps[i]
			s.shown = norm.normalize(shown[spans[0].from:spans[0].to])
			if code := strings.Trim(shown[spans[0].to:spans[0].end], mark); code != strconv.Itoa(s.exit) {
				t.Errorf("%s ends with %s, expected %d:\n%s", s.command, code, s.exit, s.shown)
			}
			spans = spans[1:]
		}
	}
}

// normalizer replaces whatever differs from run to run, each by one fixed value of the same form.
type normalizer struct {
	t      *testing.T
	began  time.Time
	home   string
	ports  map[string]string // an address of the tour → the one used
	hashes map[string]string // a random SHA-256, of a key or a root → a fixed one
}

func newNormalizer(t *testing.T, home string) normalizer {
	return normalizer{t: t, began: time.Now(), home: home, ports: map[string]string{}, hashes: map[string]string{}}
}

var (
	address  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	hashPart = regexp.MustCompile(`\b[0-9a-f]{8,64}\b`)
	keyPart  = regexp.MustCompile(`\b[0-9a-f]{4}(?:-[0-9a-f]{4}){3}\b`)
	instant  = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`)
	machine  = regexp.MustCompile(`(?m)^machine: [0-9a-f]{32}\b`)
	// How long ago or how long it took, with the spaces that fill a column.
	duration = regexp.MustCompile(`\x1b\[[0-9;]*m|\b(?:\d+m(?:\d+s)?|\d+(?:\.\d+)?(ms|s| ms| s| seconds?))\b( {2,})?`)
	mirrors  = regexp.MustCompile(`(?m)(?:^mirror: .*\n)+`)
	redrawn  = regexp.MustCompile(`[^\n]*\r(?:\x1b\[K)?`)
	// What another machine has more or less of.
	room = regexp.MustCompile(`\b[0-9.]+ (?:[KMGT]i?B|bytes) (free|are free)`)
)

// useFreePorts replaces the addresses of a tour by free ones.
func (n normalizer) useFreePorts(command string) string {
	return address.ReplaceAllStringFunc(command, func(a string) string {
		if n.ports[a] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				n.t.Fatal(err)
			}
			n.ports[a] = l.Addr().String()
			if err := l.Close(); err != nil {
				n.t.Fatal(err)
			}
		}
		return n.ports[a]
	})
}

// learn notes what below the directory is random: the IDs of keys, and the digests of metadata. An archive has the same
// digest everywhere.
func (n normalizer) learn(dir string) {
	n.t.Helper()
	note := func(of string) {
		if n.hashes[of] == "" {
			n.hashes[of] = fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "tour %d", len(n.hashes))))
		}
	}
	root, err := os.ReadFile(filepath.Join(dir, "R", "metadata", "1.root.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	note(fmt.Sprintf("%x", sha256.Sum256(root)))
	for _, name := range []string{"root", "release", "online"} {
		// The root has each key ID, in the order of the random IDs; the roles have a fixed order.
		role := map[string]string{"root": "root", "release": "targets", "online": "timestamp"}[name]
		m := regexp.MustCompile(`"` + role + `":\s*\{\s*"keyids":\s*\[\s*"([0-9a-f]{64})"`).FindSubmatch(root)
		if m == nil {
			n.t.Fatalf("no key of %s in\n%s", role, root)
		}
		note(string(m[1]))
	}
}

// day is the day of the recordings: a day later in one is the day after it in all.
var day = time.Date(2027, time.January, 4, 9, 30, 0, 0, time.UTC)

// normalize returns what a terminal shows in the end, the same for each run.
func (n normalizer) normalize(shown string) string {
	shown = strings.ReplaceAll(shown, "\r\n", "\n")
	shown = redrawn.ReplaceAllString(shown, "")
	for tour, used := range n.ports {
		shown = strings.ReplaceAll(shown, used, tour)
	}
	shown = strings.ReplaceAll(shown, n.home, "/home/ann")
	shown = hashPart.ReplaceAllStringFunc(shown, func(part string) string {
		for of, fixed := range n.hashes {
			if strings.HasPrefix(of, part) {
				return fixed[:len(part)]
			}
		}
		return part
	})
	shown = keyPart.ReplaceAllStringFunc(shown, func(fingerprint string) string {
		for of, fixed := range n.hashes {
			if strings.HasPrefix(of, strings.ReplaceAll(fingerprint, "-", "")) {
				return fixed[:4] + "-" + fixed[4:8] + "-" + fixed[8:12] + "-" + fixed[12:16]
			}
		}
		return fingerprint
	})
	shown = instant.ReplaceAllStringFunc(shown, func(s string) string {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return s
		}
		// Expiries are whole days after something that the tour did, which is minutes after it began.
		days := at.Sub(n.began).Round(24*time.Hour) / (24 * time.Hour)
		return day.AddDate(0, 0, int(days)).Format(time.RFC3339)
	})
	shown = machine.ReplaceAllString(shown, "machine: 5f1c0e7ab2d94c3f8a6e1d20b7c4f935")
	shown = duration.ReplaceAllStringFunc(shown, func(s string) string {
		if strings.HasPrefix(s, "\x1b") { // a colour
			return s
		}
		m := duration.FindStringSubmatch(s)
		fixed := "0" + cmp.Or(m[1], "s")
		if m[2] != "" {
			fixed += strings.Repeat(" ", max(0, len(s)-len(fixed)))
		}
		return fixed
	})
	shown = mirrors.ReplaceAllStringFunc(shown, func(s string) string { // each box asks them in an order of its own
		return strings.Join(slices.Sorted(strings.Lines(s)), "")
	})
	shown = room.ReplaceAllString(shown, "9.0 GiB $1")
	return shown
}
