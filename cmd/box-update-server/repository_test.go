package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

func publics(ks ...*secret.Key) (out []keys.Public) {
	for _, k := range ks {
		out = append(out, k.Public())
	}
	return out
}

// fetcher reads metadata of a server.
type fetcher string

func (f fetcher) Fetch(_ context.Context, name string, limit int64, _ update.Digest) ([]byte, error) {
	resp, err := http.Get(string(f) + "/metadata/" + name)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case 200:
		return io.ReadAll(io.LimitReader(resp.Body, limit))
	case 404:
		return nil, trust.ErrNotFound
	}
	return nil, errors.New(resp.Status)
}

// verified fails the test unless openssl accepts what is served under a name, with the release key
// alone.
func (s *signer) verified(base, name string, archive []byte) {
	s.t.Helper()
	dir, openssl := s.t.TempDir(), need(s.t, "openssl", "openssl")
	command(s.t, dir, need(s.t, "curl", "curl"), "-fsSO", base+"/update/"+name, "-O", base+"/update/"+name+".sig")
	if digest(read(s.t, dir, name)) != digest(archive) {
		s.t.Errorf("%s: other bytes", name)
	}
	line := filepath.Join(dir, "line")
	verify := []string{"pkeyutl", "-verify", "-pubin", "-inkey", s.releaseKey(), "-rawin", "-in", line, "-sigfile", filepath.Join(dir, name+".sig")}
	s.check(os.WriteFile(line, []byte(digest(archive)+"  "+name+"\n"), 0o644))
	command(s.t, dir, openssl, verify...)
	s.check(os.WriteFile(line, []byte(digest(nil)+"  "+name+"\n"), 0o644))
	if out, err := attempt(dir, openssl, verify...); err == nil {
		s.t.Errorf("openssl accepts another digest: %s", out)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	for label, base := range map[string]func(*testing.T, *server) string{
		"directly":     func(_ *testing.T, s *server) string { return s.base },
		"behind nginx": behindNginx,
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			w := newSigner(t)
			s := w.serve()
			archive := pattern(9<<20 + 5)
			w.list(map[string][]byte{newest: archive}).publish(t, base(t, s))
			w.verified(base(t, s), newest, archive)
			w.refresh(base(t, s))
			if n := len(w.repo.Releases()); n != 1 {
				t.Errorf("%d updates are listed", n)
			}
			d := digest(archive)
			get(t, base(t, s)+"/targets/"+d+"."+newest).isArchive(t, newest, archive)
			get(t, s.base+"/latest").isRedirect(t, "/update/"+newest)
			s.stop(t)
			// What was published is there after a restart, and so is the way to publish more.
			s = w.serve()
			w.verified(s.base, newest, archive)
			more := map[string][]byte{name(1600000000, "tar.gz"): []byte("more")}
			w.refresh(s.base)
			w.list(more).publish(t, s.base)
			get(t, s.base+"/ls").is(t, 200, "text/plain", newest+"\n"+name(1600000000, "tar.gz"))
			health := get(t, s.base+"/").body
			if !strings.Contains(health, `"targets":3`) || !strings.Contains(health, `"ok":true`) {
				t.Errorf("health: %s", health)
			}
		})
	}
}

// boxsign makes what the server serves.
func TestBoxsignRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pack(t, dir, newest, proper())
	for _, args := range [][]string{
		{"init", "--keys", "K", "--repo", "R", "--yes"},
		{"add", "--keys", "K", "--repo", "R", "--yes", newest},
	} {
		cmd := exec.Command("boxsign", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "BOXSIGN_PASSPHRASE=mosaic-Tulip-93-harbor")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	w := &signer{t: t, dir: filepath.Join(dir, "R"), keys: filepath.Join(dir, "K")}
	s := w.serve()
	w.verified(s.base, newest, read(t, dir, newest))
}

// Whatever nobody signed leaves no byte on the disk, however long it says it is.
func TestJunkLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s := w.serve()
	w.list(map[string][]byte{newest: []byte("first")}).publish(t, s.base)
	w.refresh(s.base)
	archive := pattern(5 << 20)
	staged := w.list(map[string][]byte{name(1600000000, "tar.gz"): archive})
	id := staged.stage(t, s.base)
	at := s.base + "/publish/" + id + "/" + digest(archive)
	w.leavesNothing("junk", func() {
		w.junkIsRefused(s, staged, at)
		w.gigabytesAreRefused(s, at)
	})
	var h update.Hasher
	_, _ = h.Write(archive)
	_, blocks, _ := h.Result()
	if a := put(t, at+".blocks", blocks.Bytes()); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.leavesNothing("garbage blocks", func() {
		for i, junk := range [][]byte{pattern(1), append(pattern(4<<20-1), 0), make([]byte, 4<<20)} {
			if a := put(t, at+"/0", junk); a.status != 422 {
				t.Errorf("garbage block %d: %d %s", i, a.status, a.body)
			}
		}
	})
	sendArchive(t, at, archive)
	if a := put(t, s.base+"/publish/"+id+"/commit", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// leavesNothing fails the test where something changes a file of the repository.
func (s *signer) leavesNothing(what string, do func()) {
	s.t.Helper()
	before := tree(s.t, s.dir)
	do()
	if after := tree(s.t, s.dir); after != before {
		s.t.Errorf("%s left something: was\n%s\nis\n%s", what, before, after)
	}
}

// junkIsRefused sends what nobody signed, beside a staged list and one archive of it.
func (s *signer) junkIsRefused(to *server, staged signedList, archive string) {
	s.t.Helper()
	wrongly := []byte(strings.Replace(string(staged.Raw()), `"sig":"`, `"sig":"00`, 1))
	forged := newSigner(s.t)
	list := fmt.Sprintf("%s/publish/targets/%d", to.base, staged.Version())
	for label, junk := range map[string]struct {
		url  string
		body []byte
		want []int
	}{
		"unsigned list":     {list, []byte(`{"signatures":[],"signed":{"_type":"targets","version":3}}`), []int{400, 403}},
		"wrongly signed":    {list, wrongly, []int{400, 403}},
		"of other keys":     {to.base + "/publish/targets/2", forged.list(nil).Raw(), []int{403, 409}},
		"large junk":        {list, pattern(5_000_000), []int{400}},
		"too large":         {list, pattern(5_000_001), []int{413}},
		"block list":        {archive + ".blocks", pattern(64), []int{422}},
		"block before list": {archive + "/0", pattern(4 << 20), []int{409}},
		"block of unknown":  {to.base + "/publish/" + digest(nil) + "/" + path.Base(archive) + "/0", pattern(1 << 20), []int{404}},
		"root":              {to.base + "/publish/root/2", s.repo.Raw(trust.RoleRoot), []int{400, 409}},
	} {
		a, err := send1("PUT", junk.url, junk.body)
		if err != nil {
			s.t.Errorf("%s: %v", label, err)
			continue
		}
		if !slices.Contains(junk.want, a.status) {
			s.t.Errorf("%s: %d %s, want one of %v", label, a.status, a.body, junk.want)
		}
	}
}

// gigabytesAreRefused holds that a gigabyte is refused before it comes.
func (s *signer) gigabytesAreRefused(to *server, archive string) {
	s.t.Helper()
	for _, at := range []string{"/publish/targets/3", strings.TrimPrefix(archive, to.base) + "/0", "/publish/x"} {
		text := raw(s.t, to.addr, "PUT "+at+" HTTP/1.1\r\nHost: box\r\nContent-Length: 1073741824\r\n\r\n")
		if status := parse(s.t, text).status; status != 413 && status != 404 {
			s.t.Errorf("%s: %d", at, status)
		}
	}
}

// A hundred callers with junk at once don't take more memory than all bodies may: 40 MB while they arrive, 5 MB for the
// one that is checked, and 16 MB of garbage before it is collected.
func TestJunkTakesLittleMemory(t *testing.T) {
	t.Parallel()
	testworld.Unraced(t) // the race detector takes memory of its own
	w := newSigner(t)
	s := w.serve("--log-requests=false")
	archive := pattern(64 << 20)
	l := w.list(map[string][]byte{newest: archive})
	id := l.stage(t, s.base)
	for range 20 {
		get(t, s.base+"/")
	}
	before := s.memory(t, "VmRSS:")
	junk := append([]byte(`{"signatures":[`), make([]byte, 4_900_000)...)
	nested := []byte(`{"signed":` + strings.Repeat(`{"a":[0,1,{"b":""}],"c":`, 200_000) + `0` + strings.Repeat(`}`, 200_000) + `}`)
	// A list that is right but for who signed it is looked at the longest.
	many := map[string][]byte{}
	for i := range 2000 {
		many[name(1600000000+i, "tar.gz")] = pattern(i)
	}
	foreign := newSigner(t).list(many).Raw()
	targets := map[string][]byte{"/publish/targets/2": junk, "/publish/targets/2?": foreign, "/publish/targets/3": nested[:min(len(nested), 5_000_000)],
		"/publish/" + id + "/" + digest(archive) + "/0": junk[:4<<20], "/publish/" + digest(nil) + "/" + digest(nil) + "/0": junk[:4<<20]}
	done := make(chan error)
	for range 25 {
		for path, body := range targets {
			go func() {
				for range 3 {
					_, err := send1("PUT", s.base+path, body)
					if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
	}
	for range 25 * len(targets) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	peak := s.memory(t, "VmHWM:")
	t.Logf("resident before %d MB, at most %d MB", before>>20, peak>>20)
	if grown := peak - before; grown > 64<<20 {
		t.Errorf("junk took %d MB", grown>>20)
	}
}

func TestSlowPutIsCut(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s := w.serve()
	before := tree(t, w.dir)
	c := dial(t, s.addr)
	send(t, c, "PUT /publish/targets/2 HTTP/1.1\r\nHost: box\r\nContent-Length: 100000\r\n\r\n{")
	b, err := io.ReadAll(c)
	if a := parse(t, string(b)); err != nil || a.status != 408 {
		t.Errorf("%d %s: %v", a.status, a.body, err)
	}
	if after := tree(t, w.dir); after != before {
		t.Errorf("something is on the disk: was\n%s\nis\n%s", before, after)
	}
}

// What of an updates directory is signed is served from there, without being sent. The rest is told of,
// and served where the settings say so.
func TestUpdatesBesideARepository(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	older, withdrawn := name(1547861057, "tar.bz2"), name(1600000000, "tar.gz")
	dir := dropped(t, older, newest, withdrawn)
	run := launch{settings: map[string]any{"data_dir": w.dir, "online_key": w.onlineKey(), "updates_dir": dir}}
	s := run.start(t)
	s.awaitHealth(t, newest+" is left out: the signed list does not have it")
	s.awaitHealth(t, withdrawn+" is left out: the signed list does not have it")
	get(t, s.base+"/ls").is(t, 200, "text/plain", "")
	get(t, s.base+"/update/"+newest).isNotFound(t)

	l := w.list(map[string][]byte{newest: body(newest), withdrawn: body(withdrawn)})
	at := s.base + "/publish/" + l.stage(t, s.base)
	if a := put(t, at+"/commit", nil); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.refresh(s.base)
	e, err := w.repo.EditTargets(w.ledger, 0, time.Now())
	w.check(err)
	n, err := update.ParseName(withdrawn)
	w.check(err)
	w.check(e.Withdraw(n))
	p, err := e.Sign(t.Context(), signing.Signer(w.release))
	w.check(err)
	signedList{p, nil}.publish(t, s.base)

	w.verified(s.base, newest, body(newest))
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	s.awaitLog(t, "update left out", older)
	s.awaitHealth(t, withdrawn, "it was withdrawn")
	s.stop(t)

	run.settings["serve_unsigned"] = true
	s = run.start(t)
	testworld.Await(t, "the unsigned update", func() bool { return get(t, s.base+"/ls").body == older+"\n"+newest })
	get(t, s.base+"/update/"+older).isArchive(t, older, body(older))
	get(t, s.base+"/update/"+withdrawn).isNotFound(t)
	if list := get(t, s.base+"/updates.json").body; strings.Count(list, `"unsigned":true`) != 1 {
		t.Errorf("updates.json: %s", list)
	}
	get(t, s.base+"/latest").isRedirect(t, "/update/"+newest)
}

// With a release key, a plain directory is served as far as that key signed it.
func TestReleaseKey(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	bare, wrong := name(1600000000, "tar.gz"), name(1600000001, "tar.gz")
	dir := dropped(t, newest, bare, wrong)
	for _, n := range []string{newest, wrong} {
		parsed, err := update.ParseName(newest) // for the wrong one too
		w.check(err)
		sig, err := signing.Sign(t.Context(), w.release, update.Sum(body(n)), parsed)
		w.check(err)
		write(t, dir, n+".sig", sig[:])
	}
	s := launch{settings: map[string]any{"updates_dir": dir, "release_key": w.releaseKey()}}.start(t)
	s.await(t, "/update/"+newest, 200)
	w.verified(s.base, newest, body(newest))
	s.awaitHealth(t, bare, "no signature lies beside it")
	s.awaitHealth(t, wrong, "not by the release key "+w.release.Public().Fingerprint())
	s.awaitLog(t, "update left out", wrong)
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	get(t, s.base+"/update/"+wrong).isNotFound(t)
	get(t, s.base+"/update/"+wrong+".sig").isNotFound(t)
	if list := get(t, s.base+"/updates.json").body; !strings.Contains(list, `"`+string(w.release.Public().ID())+`":"`) {
		t.Errorf("updates.json: %s", list)
	}
	n, err := update.ParseName(bare)
	w.check(err)
	sig, err := signing.Sign(t.Context(), w.release, update.Sum(body(bare)), n)
	w.check(err)
	write(t, dir, bare+".sig", sig[:])
	s.await(t, "/update/"+bare+".sig", 200).is(t, 200, "application/octet-stream", string(sig[:]))

	// Without the key everything is served, and so is what lies beside it.
	s = serve(t, dir)
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest+"\n"+bare+"\n"+wrong)
	get(t, s.base+"/update/"+bare+".sig").is(t, 200, "application/octet-stream", string(sig[:]))
}

// The repository stays open while settings are read again.
func TestReloadKeepsTheRepository(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	config := filepath.Join(t.TempDir(), "settings.json")
	settings := map[string]any{"listen": "127.0.0.1:0", "data_dir": w.dir, "online_key": w.onlineKey()}
	w.check(os.WriteFile(config, []byte(asJSON(t, settings)), 0o644))
	s := launch{args: []string{"--config", config}}.start(t)
	l := w.list(map[string][]byte{newest: body(newest)})
	at := s.base + "/publish/" + l.stage(t, s.base)
	settings["updates_dir"] = dropped(t, newest)
	settings["online_key"] = filepath.Join(w.keys, "other.pem")
	w.check(os.WriteFile(config, []byte(asJSON(t, settings)), 0o644))
	s.signal(t, syscall.SIGHUP)
	s.awaitLog(t, "settings reloaded")
	s.awaitLog(t, "a new online_key needs a restart")
	// What was staged before is committed after, with what lies in the new directory.
	testworld.Await(t, "commit", func() bool { return put(t, at+"/commit", nil).status == 200 })
	w.verified(s.base, newest, body(newest))
}

func TestOneServerAtATime(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	w.serve()
	s := launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", "127.0.0.1:0"}}.run(t)
	s.fails(t, "locked by another process")
}

// Without the online key the repository is served, and who publishes is told what is missing.
func TestWithoutOnlineKey(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s := launch{args: []string{"serve", "--data-dir", w.dir, "--listen", "127.0.0.1:0"}}.start(t)
	s.awaitHealth(t, "online key")
	a := put(t, s.base+"/publish/targets/2", w.list(nil).Raw())
	if a.status != 503 || !strings.Contains(a.body, `"code":"no_key"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	get(t, s.base+"/metadata/timestamp.json").is(t, 200, "application/json", string(w.repo.Raw(trust.RoleTimestamp)))
}

// A private key that others can read is refused, before anything is opened.
func TestOnlineKeyIsPrivate(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	before := tree(t, w.dir)
	w.check(os.Chmod(w.onlineKey(), 0o644))
	s := launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", w.onlineKey(), "--listen", "127.0.0.1:0"}}.run(t)
	s.fails(t, "online_key")
	if tree(t, w.dir) != before {
		t.Error("the repository was touched")
	}
}
