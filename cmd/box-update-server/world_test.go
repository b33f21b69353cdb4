package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
	"github.com/openpowerquality/box-update-server/update"
)

// A signer holds all keys of a repository, and knows what it has published.
type signer struct {
	t                     *testing.T
	dir                   string // the repository
	keys                  string // online.pem and release.pub lie here
	root, release, online *secret.Key
	repo                  *trust.Repository
	ledger                *trust.Ledger
}

// newSigner makes keys and an empty repository.
func newSigner(t *testing.T) *signer {
	t.Helper()
	return newSignerAt(t, time.Now())
}

// newSignerAt signs the repository at that time.
func newSignerAt(t *testing.T, at time.Time) *signer {
	t.Helper()
	s := &signer{t: t, dir: filepath.Join(t.TempDir(), "R"), keys: t.TempDir(), ledger: &trust.Ledger{}}
	for _, k := range []**secret.Key{&s.root, &s.release, &s.online} {
		key, err := secret.Generate()
		s.check(err)
		*k = key
	}
	s.check(s.online.WriteUnencrypted(disk.FS{}, s.onlineKey()))
	s.check(os.WriteFile(s.releaseKey(), s.release.Public().PEM(), 0o644))
	repo, err := trust.Init(t.Context(), at, trust.Setup{
		Root:    trust.Holder{Keys: publics(s.root)},
		Release: trust.Holder{Keys: publics(s.release)},
		Online:  s.online.Public(),
	}, s.root, s.release, s.online)
	s.check(err)
	st, err := store.Open(t.Context(), store.Config{Dir: s.dir, Root: repo.Raw(trust.RoleRoot)})
	s.check(err)
	s.check(errors.Join(st.Commit(t.Context(), repo), st.Close()))
	s.repo = repo
	return s
}

func (s *signer) onlineKey() string  { return filepath.Join(s.keys, "online.pem") }
func (s *signer) releaseKey() string { return filepath.Join(s.keys, "release.pub") }

func (s *signer) check(err error) {
	s.t.Helper()
	testworld.Must(s.t, err)
}

// serve starts the origin with the command line that people are told.
func (s *signer) serve(more ...string) *server {
	s.t.Helper()
	args := append([]string{"serve", "--data-dir", s.dir, "--online-key", s.onlineKey(), "--listen", "127.0.0.1:0"}, more...)
	return launch{args: args}.start(s.t)
}

// A signedList is a list that was signed, and the archives that it adds.
type signedList struct {
	*trust.Proposal
	archives map[string][]byte
}

// list signs the next list, with these archives besides those that are there.
func (s *signer) list(archives map[string][]byte) signedList {
	s.t.Helper()
	return s.listAbove(0, archives)
}

// listAbove signs a list with a number above those that are reserved.
func (s *signer) listAbove(reserved int64, archives map[string][]byte) signedList {
	s.t.Helper()
	e, err := s.repo.EditTargets(s.ledger, reserved, time.Now())
	s.check(err)
	for name, b := range archives {
		s.check(e.Add(testworld.Addition(name, b)))
	}
	p, err := e.Sign(s.t.Context(), signing.Signer(s.release))
	s.check(err)
	return signedList{p, archives}
}

// refresh takes over what is served.
func (s *signer) refresh(base string) {
	s.t.Helper()
	dir := s.t.TempDir()
	state, err := trust.Open(trust.Config{Dir: dir, Pinned: s.repo.Raw(trust.RoleRoot)})
	s.check(err)
	s.repo, err = state.Refresh(s.t.Context(), fetcher(base), trust.Clock{Now: time.Now()})
	s.check(err)
	s.check(state.Commit(s.repo))
	s.ledger = state.Ledger()
}

// put sends a body and returns the answer.
func put(t *testing.T, url string, body []byte) answer {
	t.Helper()
	a, err := send1(http.MethodPut, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func send1(method, url string, body []byte) (answer, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(resp)
}

// stage proposes a list and returns its ID.
func (l signedList) stage(t *testing.T, base string) (id string) {
	t.Helper()
	a := put(t, fmt.Sprintf("%s/publish/targets/%d", base, l.Version()), l.Raw())
	var out struct{ Status, ID string }
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != 200 || out.Status != "staged" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return out.ID
}

// publish sends all of a list and commits it.
func (l signedList) publish(t *testing.T, base string) {
	t.Helper()
	at := base + "/publish/" + l.stage(t, base)
	for _, b := range l.archives {
		sendArchive(t, at+"/"+digest(b), b)
	}
	if a := put(t, at+"/commit", nil); a.status != 200 {
		t.Fatalf("commit: %d %s", a.status, a.body)
	}
}

func sendArchive(t *testing.T, at string, b []byte) {
	t.Helper()
	blocks := testworld.Blocks(b)
	if a := put(t, at+".blocks", blocks.Bytes()); a.status != 204 {
		t.Fatalf("block list: %d %s", a.status, a.body)
	}
	for i := range blocks {
		block := b[i*update.BlockSize : min(len(b), (i+1)*update.BlockSize)]
		if a := put(t, fmt.Sprintf("%s/%d", at, i), block); a.status != 204 {
			t.Fatalf("block %d: %d %s", i, a.status, a.body)
		}
	}
}

// tree tells the names and sizes of everything below a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	// What a server does in the background it notes at any time, by way of a file that soon has its name.
	noted := regexp.MustCompile(`^(gc|scrub|inspected)\.json`)
	var out string
	testworld.Await(t, "no file on its way", func() bool {
		var b strings.Builder
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && strings.HasPrefix(info.Name(), disk.TempPrefix) {
				return fs.ErrNotExist
			}
			if err == nil && !info.IsDir() && !noted.MatchString(info.Name()) {
				fmt.Fprintln(&b, path, info.Size(), info.ModTime())
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		out = b.String()
		return err == nil
	})
	return out
}

// discard reads an answer to its end.
func discard(resp *http.Response) error {
	_, err := io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
