package secret_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/keys/secret"
)

func TestFromFile(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"a newline at the end", "correct horse\n", "correct horse"},
		{"no newline", "correct horse", "correct horse"},
		{"two newlines", "correct horse\n\n", "correct horse\n"},
		{"spaces", " correct horse \n", " correct horse "},
		{"CRLF", "correct horse\r\n", "correct horse\r"},
		{"empty", "", ""},
		{"a newline alone", "\n", ""},
		{"as long as can be", strings.Repeat("a", 4096) + "\n", strings.Repeat("a", 4096)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := secret.FromFile(file(t, []byte(test.content)))(t.Context(), secret.Request{Purpose: "key"})
			if err != nil || string(got) != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	path := file(t, []byte("correct horse\n"))
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := secret.FromFile(path)(t.Context(), secret.Request{Purpose: "key"})
	wantError(t, err, "mode 0640", "chmod 600 "+path)
	_, err = secret.FromFile(file(t, []byte(strings.Repeat("a", 4098))))(t.Context(), secret.Request{Purpose: "key"})
	wantError(t, err, "expected at most 4097 bytes")
	_, err = secret.FromFile(filepath.Join(t.TempDir(), "none"))(t.Context(), secret.Request{Purpose: "key"})
	wantError(t, err, "no such file")
}

// terminal returns both ends of a new terminal: the one of the person, and the path of the program's.
func terminal(t *testing.T) (person *os.File, path string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("%v (this test needs a pseudo terminal)", err)
	}
	person = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { person.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	path = fmt.Sprintf("/dev/pts/%d", n)
	// As long as the program's side is open somewhere, reading the person's does not fail.
	keep, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keep.Close() })
	return person, path
}

// settings returns those of the terminal, echo among them.
func settings(t *testing.T, path string) unix.Termios {
	t.Helper()
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// expect reads what is shown until it holds text, and returns it.
func expect(t *testing.T, person *os.File, text string) string {
	t.Helper()
	if err := person.SetReadDeadline(time.Now().Add(testworld.Patience)); err != nil {
		t.Fatal(err)
	}
	var shown []byte
	for b := make([]byte, 1); !strings.Contains(string(shown), text); {
		if _, err := person.Read(b); err != nil {
			t.Fatalf("shown %q, want %q: %v", shown, text, err)
		}
		shown = append(shown, b[0])
	}
	return string(shown)
}

// answer is what a Passphrase returned.
type answer struct {
	passphrase []byte
	err        error
}

func ask(ctx context.Context, p secret.Source, purpose string, fresh bool) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		b, err := p(ctx, secret.Request{Purpose: purpose, New: fresh})
		c <- answer{b, err}
	}()
	return c
}

func TestFromTerminal(t *testing.T) {
	const first, again = "Passphrase for K/release.pem: ", "The same again: "
	for _, test := range []struct {
		name    string
		confirm bool
		typed   []string // what is shown, what is typed then, in turn
		want    string
		err     string
	}{
		{"once", false, []string{first, "correct horse\r"}, "correct horse", ""},
		{"once, corrected", false, []string{first, "correct hors\x7fse\r"}, "correct horse", ""},
		{"not ASCII", false, []string{first, "pässwort\r"}, "pässwort", ""},
		{"pasted", false, []string{first, "\x1b[200~correct horse\x1b[201~\r"}, "correct horse", ""},
		{"pasted with the end of its line", false, []string{first, "\x1b[200~correct horse\r\x1b[201~"}, "correct horse", ""},
		{"twice", true, []string{first, "correct horse\r", again, "correct horse\r"}, "correct horse", ""},
		{"twice, different", true, []string{first, "correct horse\r", again, "correct house\r"}, "", "the two passphrases differ"},
		{"nothing", false, []string{first, "\r"}, "", ""},
		{"ctrl-D", false, []string{first, "\x04"}, "", "the input ended"},
		{"ctrl-C", false, []string{first, "correct\x03"}, "", "interrupted"},
		{"ctrl-C at the second", true, []string{first, "correct horse\r", again, "\x03"}, "", "interrupted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			person, path := terminal(t)
			before := settings(t, path)
			got := ask(t.Context(), secret.FromTerminal(path), "K/release.pem", test.confirm)
			shown := ""
			for i := 0; i < len(test.typed); i += 2 {
				shown += expect(t, person, test.typed[i])
				if _, err := io.WriteString(person, test.typed[i+1]); err != nil {
					t.Fatal(err)
				}
			}
			a := <-got
			if string(a.passphrase) != test.want {
				t.Errorf("got %q, want %q", a.passphrase, test.want)
			}
			if test.err != "" {
				wantError(t, a.err, test.err)
			} else if a.err != nil {
				t.Error(a.err)
			}
			if after := settings(t, path); after != before {
				t.Errorf("the terminal is left with other settings: %+v, before %+v", after, before)
			}
			io.WriteString(person, "\x03") // whatever is left comes before the echo of this
			shown += expect(t, person, "^C")
			if strings.Contains(shown, "cor") || strings.Contains(shown, "hors") {
				t.Errorf("the passphrase was shown: %q", shown)
			}
		})
	}
}

func TestTerminalIsRestoredWhenTheContextEnds(t *testing.T) {
	person, path := terminal(t)
	before := settings(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	got := ask(ctx, secret.FromTerminal(path), "K/release.pem", true)
	expect(t, person, "Passphrase for K/release.pem: ")
	if settings(t, path) == before {
		t.Error("the terminal still shows what is typed")
	}
	cancel()
	if a := <-got; !errors.Is(a.err, context.Canceled) || a.passphrase != nil {
		t.Errorf("got %q, %v", a.passphrase, a.err)
	}
	if after := settings(t, path); after != before {
		t.Errorf("the terminal is left with other settings: %+v, before %+v", after, before)
	}
}

func TestPurposeDoesNotSteerTheTerminal(t *testing.T) {
	person, path := terminal(t)
	got := ask(t.Context(), secret.FromTerminal(path), "K/\x1b]0;x\x07\n.pem", false)
	expect(t, person, "Passphrase for K/?]0;x??.pem: ")
	io.WriteString(person, "x\r")
	if a := <-got; a.err != nil {
		t.Error(a.err)
	}
}

func TestNoTerminal(t *testing.T) {
	_, err := secret.FromTerminal(filepath.Join(t.TempDir(), "none"))(t.Context(), secret.Request{Purpose: "key"})
	if !errors.Is(err, secret.ErrNoTerminal) {
		t.Errorf("expected %v, got %v", secret.ErrNoTerminal, err)
	}
	_, err = secret.FromTerminal(file(t, []byte("correct horse\n")))(t.Context(), secret.Request{Purpose: "key"})
	wantError(t, err, "is no terminal")
}

// typist is a person who types these passphrases, one for each question. It notes why each was refused.
type typist struct {
	types []string
	told  []string
}

func (y *typist) source(_ context.Context, r secret.Request) ([]byte, error) {
	if r.Refused != nil {
		y.told = append(y.told, r.Refused.Error())
	}
	if len(y.types) == 0 {
		return nil, errors.New("nothing typed")
	}
	next := y.types[0]
	y.types = y.types[1:]
	return []byte(next), nil
}

func refuseShort(passphrase []byte) error {
	if len(passphrase) < 3 {
		return errors.New("too short")
	}
	return nil
}

func TestWeakPassphraseIsAskedAgain(t *testing.T) {
	for _, test := range []struct {
		types []string
		want  string
		err   string
		told  int
	}{
		{[]string{"long"}, "long", "", 0},
		{[]string{"", "a", "long"}, "long", "", 2},
		{[]string{"a", "b", "c", "long"}, "", "passphrase for key: too short", 2},
		{[]string{"a"}, "", "passphrase for key: nothing typed", 1},
	} {
		y := typist{types: test.types}
		got, err := secret.Passphrase{From: y.source, Judge: refuseShort}.Choose(t.Context(), "key")
		if string(got) != test.want || len(y.told) != test.told {
			t.Errorf("%q: got %q, told %q", test.types, got, y.told)
		}
		if test.err != "" {
			wantError(t, err, test.err)
		} else if err != nil {
			t.Error(err)
		}
	}
	// What can't be asked again is read once.
	_, err := secret.Passphrase{From: secret.FromValue("ab"), Judge: refuseShort}.Choose(t.Context(), "key")
	wantError(t, err, "passphrase for key: too short")
	_, err = secret.Passphrase{From: secret.FromFile(file(t, []byte("ab\n"))), Judge: refuseShort}.Choose(t.Context(), "key")
	wantError(t, err, "passphrase for key: too short")
	if got, err := (secret.Passphrase{From: secret.FromValue("ab")}).Choose(t.Context(), "key"); err != nil || string(got) != "ab" {
		t.Errorf("without a judge: got %q, %v", got, err)
	}
}

func TestWrongPassphraseIsAskedAgain(t *testing.T) {
	good := file(t, encryptedPEM(t, 1))
	for _, test := range []struct {
		types []string
		err   string
		told  int
	}{
		{[]string{passphrase}, "", 0},
		{[]string{"wrong", "ab", passphrase}, "", 2},
		{[]string{"one", "two", "three", passphrase}, "wrong passphrase", 2},
		{[]string{"wrong", "", passphrase}, "expected one, got none", 1},
	} {
		y := typist{types: test.types}
		// The passphrase of a key that exists is not judged.
		_, err := secret.Loader{Passphrase: secret.Passphrase{From: y.source, Judge: func([]byte) error { return errors.New("judged") }}}.Load(t.Context(), good)
		if len(y.told) != test.told {
			t.Errorf("%q: told %q", test.types, y.told)
		}
		if test.err != "" {
			wantError(t, err, test.err)
		} else if err != nil {
			t.Error(err)
		}
	}
	_, err := secret.Loader{Passphrase: secret.Passphrase{From: secret.FromValue("wrong")}}.Load(t.Context(), good)
	if !errors.Is(err, secret.ErrPassphrase) {
		t.Errorf("got %v, want ErrPassphrase", err)
	}
}

func TestTerminalSaysWhyItAsksAgain(t *testing.T) {
	person, path := terminal(t)
	type result struct {
		chosen []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		chosen, err := secret.Passphrase{From: secret.FromTerminal(path), Judge: refuseShort}.Choose(t.Context(), "key")
		done <- result{chosen, err}
	}()
	for _, step := range [][2]string{
		{"Passphrase for key: ", "long\r"}, {"The same again: ", "lung\r"},
		{"passphrase for key: the two passphrases differ\r\nPassphrase for key: ", "a\r"}, {"The same again: ", "a\r"},
		{"passphrase for key: too short\r\nPassphrase for key: ", "long\r"}, {"The same again: ", "long\r"},
	} {
		expect(t, person, step[0])
		if _, err := io.WriteString(person, step[1]); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-done; r.err != nil || string(r.chosen) != "long" {
		t.Errorf("got %q, %v", r.chosen, r.err)
	}
}
