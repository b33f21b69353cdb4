package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// What another signer did to an update is seen, whether it was added, withdrawn or given another rollout.
func TestTouched(t *testing.T) {
	dir := t.TempDir()
	runManual(t, dir, `
mkdir DIR
echo '#!/bin/sh' >DIR/install_update.sh
for n in 6 7 8 9; do boxsign build DIR -o p-$n.tar.gz; done
boxsign init --keys K --repo before --yes
boxsign add --keys K --repo before --yes p-6.tar.gz p-7.tar.gz
boxsign add --keys K --repo before --yes --rollout 5%,24h:100% p-8.tar.gz
cp -a before after
boxsign rollout pause --keys K --yes p-8.tar.gz after
boxsign add --keys K --repo after --yes p-9.tar.gz
boxsign withdraw --keys K --repo after --yes p-7.tar.gz
`, "BOXSIGN_PASSPHRASE=correct-horse")
	read := func(name string) *trust.Repository {
		t.Helper()
		state, err := trust.Open(trust.Config{Dir: filepath.Join(dir, name, "metadata"), DeferRoots: true})
		if err != nil {
			t.Fatal(err)
		}
		repo, err := state.Current()
		if err != nil {
			t.Fatal(err)
		}
		return repo
	}
	before, after := read("before"), read("after")
	got := describeTouched(touched(before, after), before, after)
	want := []string{"withdrew p-7.tar.gz", "changed p-8.tar.gz", "added p-9.tar.gz"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if list := touched(after, after); len(list) > 0 {
		t.Errorf("nothing was touched, got %v", list)
	}
}
