package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
)

// origin serves a repository with an online key at $URL, as its operator does, until the script ends.
func origin(ts *testscript.TestScript, _ bool, args []string) {
	serveAt(ts, "--data-dir", ts.MkAbs(args[0]), "--online-key", ts.MkAbs(args[1]))
}

// dropped serves a directory of archives at $URL, until the script ends.
func dropped(ts *testscript.TestScript, _ bool, args []string) {
	serveAt(ts, "--updates-dir", ts.MkAbs(args[0]))
}

func serveAt(ts *testscript.TestScript, args ...string) {
	path, err := exec.LookPath("box-update-server")
	ts.Check(err)
	log := &watched{want: regexp.MustCompile(`msg=listening.* addr=(\S+)`), found: make(chan string, 1)}
	cmd := exec.Command(path, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = log
	ts.Check(cmd.Start())
	ts.Defer(func() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			ts.Logf("box-update-server: %v\n%s", err, log.text.String())
		}
	})
	select {
	case addr := <-log.found:
		ts.Setenv("URL", "http://"+addr)
	case <-time.After(testworld.Patience):
		ts.Fatalf("box-update-server does not listen: %s", log.String())
	}
}

// watched keeps what is written and sends what the first group of want matches, once.
type watched struct {
	want  *regexp.Regexp
	found chan string

	mu   sync.Mutex
	text strings.Builder
	sent bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if m := w.want.FindStringSubmatch(w.text.String()); m != nil && !w.sent {
		w.sent = true
		w.found <- m[1]
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// answers asks $URL for a path until the answer, with the Location of a redirect, is the text.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	client := http.Client{Timeout: testworld.Patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var got string
	for deadline := time.Now().Add(testworld.Patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get(ts.Getenv("URL") + args[0])
		ts.Check(err)
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		ts.Check(err)
		ts.Check(resp.Body.Close())
		got = resp.Header.Get("Location") + string(bytes.TrimSpace(body))
		if neg || got == args[1] {
			break
		}
	}
	if (got == args[1]) == neg {
		ts.Fatalf("%s: got %q", args[0], got)
	}
}

// liar serves a repository at $URL as an origin that says of every list that it is published, and goes on
// serving what it had.
func liar(ts *testscript.TestScript, _ bool, args []string) {
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const current = `{"root":1,"targets":1,"snapshot":1,"timestamp":1`
		switch {
		case r.Method == http.MethodPut:
			fmt.Fprintf(w, `{"status":"committed","id":"%064d","current":%s}}`, 1, current)
		case r.URL.Path == "/publish/":
			fmt.Fprintf(w, `%s,"reserved":0,"staged":[],"pending":[]}`, current)
		default:
			files.ServeHTTP(w, r)
		}
	}))
	ts.Defer(s.Close)
	ts.Setenv("URL", s.URL)
}

// pick sets $PICKED to the ID of the proposal, among those that boxsign status showed, that takes a key out.
func pick(ts *testscript.TestScript, _ bool, args []string) {
	key, err := keys.ParsePEM([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	for _, p := range strings.Split(ts.ReadFile("stdout"), "\npending: ")[1:] {
		id := regexp.MustCompile(`(?m)^id: (.*)$`).FindStringSubmatch(p)
		if strings.Contains(p, "key removed: root "+key.Fingerprint()) && id != nil {
			ts.Setenv("PICKED", id[1])
			return
		}
	}
	ts.Fatalf("nothing that waits takes %v out", key)
}
