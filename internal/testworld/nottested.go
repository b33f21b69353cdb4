package testworld

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// NotTested skips a test that this machine does not allow, and reports that with Remark.
func NotTested(t testing.TB, what string, why error) {
	t.Helper()
	line := fmt.Sprintf("NOT TESTED, since this machine does not allow it: %s: %s", what, strings.ReplaceAll(why.Error(), "\n", "; "))
	Remark(t, line)
	t.Skip(line)
}

// Remark logs a line, and appends it to the file that $NOT_TESTED names, if that is set. make test prints that file.
func Remark(t testing.TB, line string) {
	t.Helper()
	t.Log(line)
	path := os.Getenv("NOT_TESTED")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintln(f, line)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
