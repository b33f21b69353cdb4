package fetch

import (
	"errors"
	"strings"
	"testing"
)

// TestFailedIsTold: where an upstream pauses the log says until when, and no time where it does not.
func TestFailedIsTold(t *testing.T) {
	c, log := client(t, quick("http://127.0.0.1:1"))
	u := c.Upstreams()[0]
	c.logFailure(u, errors.New("cut"))
	if s := log.String(); !strings.Contains(s, "err=cut") || strings.Contains(s, "again=") {
		t.Errorf("without a pause the log says %s", s)
	}
	u.setAside(errors.New("wrong"))
	c.logFailure(u, errors.New("wrong"))
	if s := log.String(); !strings.Contains(s, "err=wrong again=") {
		t.Errorf("with a pause the log says %s", s)
	}
}
