package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An origin names the signed archives that are no proper updates, in its log and in /, and inspects each once.
func TestImproperSignedArchive(t *testing.T) {
	t.Parallel()
	w := newSigner(t)
	s, p := w.serve(), w.owner()
	path := filepath.Join(t.TempDir(), "opq-box-update-1600000000.tar.gz")
	if err := os.WriteFile(path, []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.must("publish", "--force", path, s.base)
	const told = "opq-box-update-1600000000.tar.gz is not a proper update: the archive is damaged"
	s.awaitHealth(t, told)
	s.awaitLog(t, "archive is not a proper update; it is served all the same", filepath.Base(path))
	get(t, s.base+"/ls").is(t, 200, "text/plain", filepath.Base(path))
	s.stop(t)
	again := w.serve()
	if !strings.Contains(get(t, again.base+"/").body, told) {
		t.Error("the warning is gone after a restart")
	}
	if strings.Contains(again.log.String(), "not a proper update") {
		t.Error("the archive was inspected again")
	}
}
