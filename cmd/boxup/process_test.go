package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// site is a directory in which people work with the real programs.
type site struct {
	t   *testing.T
	dir string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t, t.TempDir()}
	check(t, os.Chmod(s.dir, 0o755))
	check(t, os.Chmod(filepath.Dir(s.dir), 0o755)) // for a box of nobody
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// run runs a command line and returns its exit code and what it wrote.
func (s *site) run(line string, env ...string) (int, string) {
	s.t.Helper()
	words := strings.Fields(line)
	cmd := exec.CommandContext(s.t.Context(), words[0], words[1:]...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%s: %v", line, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// must runs a command line that has to end with that code and to say all these texts.
func (s *site) must(code int, line string, texts ...string) string {
	s.t.Helper()
	got, out := s.run(line, "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor")
	if got != code {
		s.t.Fatalf("%s: expected exit code %d, got %d\n%s", line, code, got, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			s.t.Errorf("%s: expected %q, got\n%s", line, text, out)
		}
	}
	return out
}

// script makes a folder to build an update of.
func (s *site) script(dir, text string) {
	s.t.Helper()
	check(s.t, os.MkdirAll(s.path(dir), 0o755))
	check(s.t, os.WriteFile(s.path(dir+"/install_update.sh"), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}

// logged is the log of a server.
type logged struct{ testworld.Log }

// serve starts a server on a free port, waits until it is ready, and returns its URL and its log.
func (s *site) serve(args string) (string, *logged) {
	s.t.Helper()
	log := &logged{}
	cmd := exec.Command("box-update-server", append(strings.Fields(args), "--listen", "127.0.0.1:0")...)
	cmd.Dir, cmd.Stderr = s.dir, log
	check(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("box-update-server %s: %v\n%s", args, err, log)
		}
	})
	listening := regexp.MustCompile(`msg"?[=:]"?listening"?.*\baddr"?[=:]"?([^" \n]+)`)
	var base string
	s.eventually("a server that is ready", func() bool {
		if m := listening.FindStringSubmatch(log.String()); m != nil {
			base = "http://" + m[1]
		}
		if base == "" {
			return false
		}
		resp, err := http.Get(base + "/metadata/timestamp.json")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return base, log
}

func (s *site) eventually(what string, cond func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %v in vain for: %s", patience, what)
		}
	}
}

// requests returns the requests in a log.
func (l *logged) requests() []string {
	return regexp.MustCompile(`msg=request (method=\S+ path=\S+ status=\d+)`).FindAllString(l.String(), -1)
}

// publish builds an update and publishes it in R.
func (s *site) publish(name, script string) {
	s.t.Helper()
	s.script("DIR", script)
	s.must(0, "boxsign build DIR -o "+name)
	s.must(0, "boxsign publish --keys K --yes "+name+" R")
}

// TestTheWholeWay goes it with the programs as they are: build, publish, mirror, boxup update as it is
// written in the manual.
func TestTheWholeWay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(0, "boxsign init --keys K --repo R --yes")
	ran := s.path("ran")
	s.publish(one, "echo $BOXUP_VERSION after ${BOXUP_PREVIOUS:-nothing} >>"+ran)
	origin, _ := s.serve("serve --data-dir R --online-key K/online.pem")
	mirror, log := s.serve("mirror " + origin + " --root R/metadata/1.root.json --data-dir M")
	root, err := os.ReadFile(s.path("R/metadata/1.root.json"))
	check(t, err)
	check(t, os.WriteFile(s.path("1.root.json"), root, 0o644))
	s.must(1, "boxup init --config C/config.json --state S --root 1.root.json "+mirror+" "+origin, "there is no terminal to ask on")
	s.must(0, "boxup init --config C/config.json --state S --root 1.root.json --root-fingerprint "+update.Sum(root).String()+" "+mirror)
	s.must(10, "boxup check --config C/config.json", "update: "+one)
	s.must(0, "boxup update --config C/config.json", "installed: "+one)
	if got, err := os.ReadFile(ran); err != nil || string(got) != "100 after nothing\n" {
		t.Errorf("the script wrote %q, %v", got, err)
	}
	s.must(0, "boxup status --config C/config.json", "installed: "+one, "update: none: up to date", "mirror: "+mirror)
	var status struct {
		Installed struct{ Name string }
	}
	check(t, json.Unmarshal([]byte(s.must(0, "boxup status --json --config C/config.json")), &status))
	if status.Installed.Name != one {
		t.Errorf("recorded %q", status.Installed.Name)
	}
	// The lines of all that was asked before are there with that of a request of ours.
	check(t, get(mirror+"/version"))
	s.eventually("the line of our request", func() bool { return strings.Contains(log.String(), "path=/version") })
	before := len(log.requests())
	s.must(0, "boxup update --config C/config.json", "update: none: up to date")
	check(t, get(mirror+"/latest"))
	s.eventually("the line of our request", func() bool { return strings.Contains(log.String(), "path=/latest") })
	want := []string{"msg=request method=GET path=/metadata/timestamp.json status=304", "msg=request method=GET path=/latest status=303"}
	if got := log.requests()[before:]; !slices.Equal(got, want) {
		t.Errorf("the second run and we asked %q, expected %q", got, want)
	}
	s.must(0, "boxup verify --key K/release.pub --sig "+s.sig(origin, one)+" "+one, "verified: "+one)
	s.must(0, "boxup update --config none.json --state P --key K/release.pub "+origin, "installed: "+one)
	if got, err := os.ReadFile(ran); err != nil || strings.Count(string(got), "\n") != 2 {
		t.Errorf("the script wrote %q, %v", got, err)
	}
}

// get asks for a URL without following it elsewhere.
func get(u string) error {
	resp, err := http.DefaultTransport.RoundTrip(&http.Request{Method: http.MethodGet, URL: must(url.Parse(u)), Header: http.Header{}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sig downloads a detached signature and returns its file.
func (s *site) sig(base, name string) string {
	s.t.Helper()
	s.must(0, "curl -sfo sig "+base+"/update/"+name+".sig")
	return "sig"
}

// TestOrdinaryUser: where the script needs no root, nothing else does.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("this is an ordinary user: all other tests show it")
	}
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "id -u >>../../../../../ran")})
	d := w.newDevice(map[string]any{"state": "../S", "root": "root.json"}, w.mirror())
	const nobody = 65534
	for dir := d.dir; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		check(t, os.Chmod(dir, 0o755))
	}
	copied := d.path("boxup-test")
	check(t, testworld.CopyProgram(copied))
	out, err := exec.Command("chown", "-R", fmt.Sprint(nobody), d.dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), copied, "update", "--config", d.path("C/config.json"))
	cmd.Env = append(os.Environ(), ordersVariable+"="+d.now.Format(time.RFC3339), "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.has("100", "100 "+fmt.Sprint(nobody))
}

// TestProxy: the environment says which proxy is asked.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(trust.Conditions{}, map[string][]byte{one: w.pack(one, "")})
	m := w.mirror()
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.String())
		mu.Unlock()
		r.URL = &url.URL{Path: r.URL.Path}
		m.ServeHTTP(rw, r)
	}))
	defer proxy.Close()
	d := w.newDevice(map[string]any{"state": "../S", "root": "root.json", "mirrors": []string{"http://updates.invalid"}}, m)
	cmd := d.process("HTTP_PROXY="+proxy.URL, "http_proxy=", "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.has("100", "100")
	mu.Lock()
	defer mu.Unlock()
	if len(asked) == 0 || asked[0] != "http://updates.invalid/metadata/timestamp.json" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

// TestInterrupted: SIGTERM ends a download, and what came is kept.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := tarball(t, named(t, one), map[string]string{"VERSION": "100\n", "install_update.sh": "#!/bin/sh\necho $BOXUP_VERSION >>../../../../../ran\n", "data": noise(20 << 20)})
	w.publish(trust.Conditions{}, map[string][]byte{one: big})
	m := w.mirror()
	d := w.newDevice(map[string]any{"state": "../S", "root": "root.json", "rate": 10 << 20}, m)
	cmd := d.process()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	check(t, cmd.Start())
	s := &site{t, d.dir}
	s.eventually("a download", func() bool { return len(glob(d.path("S/staging/*.part"))) > 0 })
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != cliFailed || !strings.Contains(out.String(), "boxup: interrupted") {
		t.Errorf("expected exit code 1, got %v\n%s", err, &out)
	}
	if len(glob(d.path("S/staging/*"))) == 0 {
		t.Error("nothing is kept")
	}
	d.configure(map[string]any{"rate": int64(1) << 40})
	if out, err := d.process().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.has("100", "100")
	d.clean()
}

func glob(pattern string) []string { return must(filepath.Glob(pattern)) }
