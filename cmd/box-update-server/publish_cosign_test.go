package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/keys/secret"
)

// twoOfThree makes a repository with one update, whose lists two of three people have to sign. Before
// that is asked for, a list must be out that two signed: here, on one computer.
func twoOfThree(t *testing.T) (w *signer, s *server, people [3]person) {
	t.Helper()
	w = newSigner(t)
	s = w.serve()
	people[0] = w.owner()
	for i := 1; i < 3; i++ {
		key, err := secret.Generate()
		w.check(err)
		people[i] = w.person(nil, key)
		says(t, people[0].must("root add-key release", filepath.Join(people[i].keys, "release.pub"), "--repo", s.base), "state: published\n")
	}
	people[0].refused("root threshold release 2", []string{"--repo", s.base}, "only the origin can do that", "hint: ")
	pack(t, people[0].keys, newest, proper())
	people[0].must("publish", "--release-key", filepath.Join(people[0].keys, "release.pem"),
		"--release-key", filepath.Join(people[1].keys, "release.pem"), filepath.Join(people[0].keys, newest), s.base)
	says(t, people[0].must("root threshold release 2", "--repo", s.base), "threshold: release 1 -> 2\n", "state: published\n")
	return w, s, people
}

// Two of three sign over HTTP; what one alone signed is not served, takes no archive and holds nobody
// up, and an old list brings nothing back.
func TestTwoOfThreeSign(t *testing.T) {
	t.Parallel()
	w, s, p := twoOfThree(t)
	dir := t.TempDir()
	path := packRandom(t, dir, 1600000000, 5<<20)
	first := filepath.Base(path)
	says(t, p[0].must("publish", path, s.base), "state: waiting for signatures\n", "signatures: 1 of the 2 ")
	get(t, s.base+"/ls").is(t, 200, "text/plain", newest)
	if n := len(s.blocksTaken()); n != 1 {
		t.Errorf("%d blocks were taken for a list that one signed", n-1)
	}
	says(t, succeed(t, boxsign("status", "--keys", p[1].keys, "--root", p[1].root, "--repo", s.base)), "pending: targets 3\n")
	// The same signer twice is one signature.
	says(t, p[0].must("cosign", path, "--repo", s.base), "signatures: 1 of the 2 ")
	// Its signature counts without the archive, which can be brought later.
	says(t, p[2].must("cosign", "--repo", s.base), "added: "+first, "state: waiting for archives\n")
	says(t, p[2].must("cosign", path, "--repo", s.base), "added: "+first, "state: published\n")
	w.verified(s.base, first, read(t, path))
	p[1].refused("cosign", []string{"--repo", s.base}, "nothing waits for signatures")
	old := read(t, w.dir, "metadata", "3.targets.json")

	// What waits never holds up what is complete: two replace the list of the third.
	waits := packRandom(t, dir, 1600000001, 1<<20)
	says(t, p[0].must("publish", waits, s.base), "targets: 3 -> 4\n", "state: waiting for signatures\n")
	goes := packRandom(t, dir, 1600000002, 1<<20)
	says(t, p[1].must("publish", goes, s.base), "targets: 3 -> 5\n", "note: targets 4 waits for signatures", "state: waiting for signatures\n")
	says(t, p[2].must("cosign", goes, "--repo", s.base), "targets: 3 -> 5\n", "state: published\n")
	p[0].lists(s.base, newest, first, filepath.Base(goes))

	// A replay changes nothing.
	before := tree(t, w.dir)
	for n, body := range map[int][]byte{3: old, 4: old, 6: old} {
		a := put(t, fmt.Sprintf("%s/publish/targets/%d", s.base, n), body)
		if want := map[int]int{3: 409, 4: 400, 6: 400}[n]; a.status != want {
			t.Errorf("old list as %d: got %d %s, want %d", n, a.status, a.body, want)
		}
		if n == 3 && !strings.Contains(a.body, `"targets":5`) {
			t.Errorf("got %s", a.body)
		}
	}
	if after := tree(t, w.dir); after != before {
		t.Errorf("a replay changed something: was\n%s\nis\n%s", before, after)
	}
	// What waited in between can be given up.
	says(t, p[0].must("publish", waits, s.base), "targets: 5 -> 6\n", "state: waiting for signatures\n")
	says(t, p[1].must("abort", "--repo", s.base), "targets: 5 -> 7\n", "state: waiting for signatures\n")
	says(t, p[2].must("cosign", "--repo", s.base), "targets: 5 -> 7\n", "state: published\n")
	p[0].lists(s.base, newest, first, filepath.Base(goes))
}
