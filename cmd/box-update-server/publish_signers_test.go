package main_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys/secret"
)

// twoSigners makes a repository with two release keys of which one is enough, and the people who have
// them.
func twoSigners(t *testing.T) (s *server, first, second person) {
	t.Helper()
	w := newSigner(t)
	s = w.serve()
	first = w.owner()
	key, err := secret.Generate()
	w.check(err)
	second = w.person(nil, key)
	says(t, first.must("root add-key release", filepath.Join(second.keys, "release.pub"), "--repo", s.base), "root: 1 -> 2\n", "state: published\n")
	return s, first, second
}

// Both have signed the same number: the one who comes second waits for the first, is shown what the
// first did, and signs again on top of it.
func TestTwoSignersAtOnce(t *testing.T) {
	t.Parallel()
	s, first, second := twoSigners(t)
	dir := t.TempDir()
	mine, theirs := packRandom(t, dir, 1600000000, 20<<20), packRandom(t, dir, 1600000001, 1<<20)
	slow := relayTo(t, s.addr, 9<<20)
	a := begin(t, first.boxsign("publish", mine, slow.base))
	s.awaitLog(t, "method=PUT", "path=/publish/targets/2", "status=200")
	b := begin(t, second.boxsign("publish", theirs, s.base))
	testworld.Await(t, "the second to wait", func() bool {
		return b.out.line("another signer is sending") != ""
	})
	slow.lift()
	says(t, a.ends(t), "targets: 1 -> 2\n", "added: "+filepath.Base(mine), "state: published\n")
	out := b.ends(t)
	says(t, out, "another signer published targets 2 meanwhile: added "+filepath.Base(mine), "targets: 2 -> 3\n", "added: "+filepath.Base(theirs), "state: published\n")
	if strings.Contains(out, "withdrawn: ") {
		t.Errorf("the second undid what the first did:\n%s", out)
	}
	first.lists(s.base, filepath.Base(mine), filepath.Base(theirs))
}

// A name that both touch is nobody's to decide but a person's.
func TestTwoSignersOfOneName(t *testing.T) {
	t.Parallel()
	s, first, second := twoSigners(t)
	dir := t.TempDir()
	mine := packRandom(t, dir, 1600000000, 20<<20)
	theirs := packRandom(t, t.TempDir(), 1600000000, 1<<20)
	slow := relayTo(t, s.addr, 9<<20)
	a := begin(t, first.boxsign("publish", mine, slow.base))
	s.awaitLog(t, "method=PUT", "path=/publish/targets/2", "status=200")
	b := begin(t, second.boxsign("publish", theirs, s.base))
	testworld.Await(t, "the second to wait", func() bool { return b.out.line("another signer is sending") != "" })
	slow.lift()
	a.ends(t)
	<-b.done
	says(t, b.out.String(), filepath.Base(mine), "another signer changed it too", "hint: check what is published with boxsign status")
	if b.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v", b.err)
	}
	first.lists(s.base, filepath.Base(mine))
	get(t, s.base+"/update/"+filepath.Base(mine)).isArchive(t, filepath.Base(mine), read(t, mine))
}

// Both at once, as often as it takes: nobody's change is lost.
func TestManySignersLoseNothing(t *testing.T) {
	t.Parallel()
	s, first, second := twoSigners(t)
	dir := t.TempDir()
	var all []string
	for i := range 4 {
		var both []*run
		for j, p := range []person{first, second} {
			path := packRandom(t, dir, 1600000000+2*i+j, 100_000)
			all = append(all, filepath.Base(path))
			both = append(both, begin(t, p.boxsign("publish", path, s.base)))
		}
		for _, r := range both {
			says(t, r.ends(t), "state: published\n")
		}
	}
	first.lists(s.base, all...)
}
