package trust_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	gotufconfig "github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// goTUF has a box with go-tuf refresh. dir is what the box keeps, and holds the root that it trusts. It panics on some
// files, which counts as a refusal.
func goTUF(dir string, from *files, at time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	root, err := os.ReadFile(filepath.Join(dir, "root.json"))
	if err != nil {
		return err
	}
	cfg, err := gotufconfig.New("https://repository.test/metadata", root)
	if err != nil {
		return err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.Fetcher = dir, dir, goTUFFetcher{from}
	u, err := updater.New(cfg)
	if err != nil {
		return err
	}
	u.UnsafeSetRefTime(at)
	return u.Refresh()
}

type goTUFFetcher struct{ *files }

func (f goTUFFetcher) DownloadFile(url string, limit int64, _ time.Duration) ([]byte, error) {
	b, ok := f.data[path.Base(url)]
	switch {
	case !ok:
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: url}
	case int64(len(b)) > limit:
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: url}
	}
	return b, nil
}

// tufJS collects refreshes of boxes with tuf-js, so that one process runs them all.
type tufJS struct {
	t       testing.TB
	client  string
	served  []*files
	refresh []func(base string) string // a line of input
	then    []func(refusal string)
}

func newTUFJS(t testing.TB) *tufJS {
	t.Helper()
	return &tufJS{t: t, client: testworld.TUFJS(t, "testdata/refresh.cjs")}
}

// add adds a refresh. dir is as for goTUF. then is given why the box refused, "" where it did not.
func (j *tufJS) add(dir string, from *files, at time.Time, then func(refusal string)) {
	n := strconv.Itoa(len(j.served))
	j.served = append(j.served, from)
	j.refresh = append(j.refresh, func(base string) string {
		line, err := json.Marshal(map[string]string{"url": base + "/" + n, "state": dir, "now": at.Format(time.RFC3339)})
		if err != nil {
			j.t.Fatal(err)
		}
		return string(line) + "\n"
	})
	j.then = append(j.then, then)
}

// run runs what was added, in that order.
func (j *tufJS) run() {
	j.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		i, err := strconv.Atoi(n)
		if err != nil || i >= len(j.served) || j.served[i].data[name] == nil {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write(j.served[i].data[name]) // the client may be gone
	}))
	defer server.Close()
	var in strings.Builder
	for _, line := range j.refresh {
		in.WriteString(line(server.URL))
	}
	cmd := exec.CommandContext(j.t.Context(), "node", j.client)
	cmd.Stdin, cmd.Stderr = strings.NewReader(in.String()), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		j.t.Fatalf("node: %v", err)
	}
	answers := bufio.NewScanner(bytes.NewReader(out))
	for _, then := range j.then {
		var refusal string
		if !answers.Scan() {
			j.t.Fatal("node ended early")
		}
		if err := json.Unmarshal(answers.Bytes(), &refusal); err != nil {
			j.t.Fatal(err)
		}
		then(refusal)
	}
}

// trusting makes the directory of an oracle's box that trusts a root.
func trusting(t testing.TB, root []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.json"), root, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOraclesReadEveryRepository: after each kind of change, boxes with go-tuf and with tuf-js accept the repository: those
// that went along from the beginning, and those that are new and trust the first root.
func TestOraclesReadEveryRepository(t *testing.T) {
	js := newTUFJS(t)
	var root []byte
	var alongGo, alongJS string
	endOfStory(t, func(w *world, chapter string) {
		if root == nil {
			root = w.repo.Raw(trust.RoleRoot)
			alongGo, alongJS = trusting(t, root), trusting(t, root)
		}
		all := copyOf(t, w.dir)
		newest := w.repo.Versions()
		for who, dir := range map[string]string{"along": alongGo, "new": trusting(t, root)} {
			if err := goTUF(dir, all, w.at); err != nil {
				t.Errorf("%s: go-tuf, %s: %v", chapter, who, err)
			}
			wantTrusted(t, dir, newest)
		}
		for who, dir := range map[string]string{"along": alongJS, "new": trusting(t, root)} {
			js.add(dir, all, w.at, func(refusal string) {
				if refusal != "" {
					t.Errorf("%s: tuf-js, %s: %s", chapter, who, refusal)
				}
				if who == "new" { // the other one has gone on since
					wantTrusted(t, dir, newest)
				}
			})
		}
	})
	js.run()
}

// wantTrusted fails the test unless an oracle's box has files of those versions.
func wantTrusted(t *testing.T, dir string, want status.Versions) {
	t.Helper()
	var got status.Versions
	for role, version := range map[trust.Role]*int64{
		trust.RoleRoot: &got.Root, trust.RoleTargets: &got.Targets, trust.RoleSnapshot: &got.Snapshot, trust.RoleTimestamp: &got.Timestamp,
	} {
		var file struct{ Signed struct{ Version int64 } }
		raw, err := os.ReadFile(filepath.Join(dir, string(role)+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(err, json.Unmarshal(raw, &file)); err != nil {
			t.Fatal(err)
		}
		*version = file.Signed.Version
	}
	if got != want {
		t.Errorf("%s: trusts %+v, want %+v", filepath.Base(dir), got, want)
	}
}
