package main_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// boxes returns the directories in which five boxes keep what they trust.
func boxes(t *testing.T) (dirs []string) {
	t.Helper()
	for range 5 {
		dirs = append(dirs, t.TempDir())
	}
	return dirs
}

// polled runs boxes that follow what is served, those that are new from the first root, until stop is
// called. It fails the test where one sees something that does not fit together.
func (s *signer) polled(base string, boxes []string) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	done, root := make(chan error, len(boxes)), s.repo.Raw(trust.RoleRoot)
	for _, dir := range boxes {
		r := newReader(s.t, dir, base, root)
		go func() { done <- follow(ctx, r) }()
	}
	return func() {
		s.t.Helper()
		cancel()
		for range boxes {
			if err := <-done; err != nil {
				s.t.Error(err)
			}
		}
	}
}

// Keys come and go over HTTP while boxes poll.
func TestKeysAreReplacedWhileBoxesPoll(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s, p := w.serve("--log-requests=false"), w.owner()
	path := packRandom(t, t.TempDir(), 1600000000, 1<<20)
	p.must("publish", path, s.base)
	stop := w.polled(s.base, boxes(t))
	says(t, p.must("root renew", "--repo", s.base), "root: 1 -> 2\n", "state: published\n")
	says(t, p.must("rotate release", "--repo", s.base), "key added: release ", "key removed: release ")
	says(t, p.must("root renew", "--repo", s.base), "root: 4 -> 5\n", "state: published\n")
	more := packRandom(t, t.TempDir(), 1600000001, 1<<20)
	says(t, p.must("publish", more, s.base), "state: published\n")
	stop()
	p.lists(s.base, filepath.Base(path), filepath.Base(more))
	// The box that trusts the new key alone takes the old update too.
	(&signer{t: t, keys: p.keys}).verified(s.base, filepath.Base(path), read(t, path))
	// The old key is nobody's any more.
	w.owner().refused("publish", []string{packRandom(t, t.TempDir(), 1600000002, 10), s.base}, "key is not in the root")
}

// The online key is replaced in two steps, with a restart of the server with both keys in between.
func TestTheOnlineKeyIsReplacedWhileBoxesPoll(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s, p := w.serve("--log-requests=false"), w.owner()
	path := packRandom(t, t.TempDir(), 1600000000, 1<<20)
	p.must("publish", path, s.base)
	five := boxes(t)
	stop := w.polled(s.base, five)
	old := filepath.Join(p.keys, "online.pem")
	fresh := filepath.Join(p.keys, "online.next.pem")
	p.refused("rotate online", []string{"--repo", s.base}, "does not sign with the new online key", "--online-key "+old+":"+fresh)
	stop()
	s.stop(t)

	both := launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", old + ":" + fresh, "--listen", "127.0.0.1:0"}}
	s = both.start(t)
	stop = w.polled(s.base, five)
	says(t, p.must("rotate online", "--repo", s.base), "key removed: online ")
	stop()
	s.stop(t)

	// Then the new one has the name of the old one, and is enough.
	alone := launch{args: []string{"serve", "--data-dir", w.dir, "--online-key", old, "--listen", "127.0.0.1:0"}}
	s = alone.start(t)
	stop = w.polled(s.base, five)
	more := packRandom(t, t.TempDir(), 1600000001, 1<<20)
	says(t, p.must("publish", more, s.base), "state: published\n")
	stop()
	p.lists(s.base, filepath.Base(path), filepath.Base(more))
	s.stop(t)
}
