package testworld

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// NotTested skips a test that this machine does not allow, and says so where people look.
func NotTested(t testing.TB, what string, why error) {
	t.Helper()
	line := fmt.Sprintf("NOT TESTED, since this machine does not allow it: %s: %s", what, strings.ReplaceAll(why.Error(), "\n", "; "))
	Remark(t, line)
	t.Skip(line)
}

// Remark writes a line where people look: in the file that NOT_TESTED names, which make test prints.
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
