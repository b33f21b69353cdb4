package install

import "testing"

// What an archive unpacks to, where nobody says it, is taken to be no less than the archive.
func TestNeeds(t *testing.T) {
	if got := Needs(100, 1000); got != 1000+margin {
		t.Errorf("got %d", got)
	}
	if got := Needs(100, 0); got != 100+margin {
		t.Errorf("got %d", got)
	}
}
