package signer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openpowerquality/box-update-server/internal/testworld"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// step is what a list gets: a name with conditions, or with a "-" before it to withdraw it.
type step struct {
	name       string
	conditions trust.Conditions
}

// planned returns the releases of a list, and the plan of the next list, an hour later.
func planned(t *testing.T, listed, next []step) (trust.Plan, []trust.Release, *trust.Ledger) {
	t.Helper()
	ring := testworld.NewKeyring("")
	repo := ring.Init(t, testworld.Start, 1)
	ledger := &trust.Ledger{}
	change := func(steps []step) func(e *trust.TargetsEdit) error {
		return func(e *trust.TargetsEdit) error {
			for _, s := range steps {
				var err error
				name, withdraw := strings.CutPrefix(s.name, "-")
				_, has := repo.Release(testworld.Name(name))
				switch {
				case withdraw:
					err = e.Withdraw(testworld.Name(name))
				case has:
					err = e.Condition(testworld.Name(name), s.conditions)
				default:
					a := testworld.Addition(name, []byte(name))
					a.Conditions = s.conditions
					err = e.Add(a)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	if len(listed) > 0 {
		p := testworld.SignList(t, repo, ledger, testworld.Start, ring.Releases, change(listed))
		var err error
		repo, err = repo.Next(t.Context(), testworld.Start, trust.Change{Targets: p}, testworld.Signers(ring.Online)...)
		testworld.Must(t, err)
	}
	e, err := repo.EditTargets(ledger, 0, testworld.Start.Add(time.Hour))
	testworld.Must(t, err)
	testworld.Must(t, change(next)(e))
	return e.Plan(), repo.Releases(), ledger
}

func staged(text string) trust.Conditions {
	c, err := ParseConditions(text, "", "")
	if err != nil {
		panic(err)
	}
	return c
}

// What the notes say of /latest is what a server will answer. {t} is an hour after the list before was published.
func TestLatestNotes(t *testing.T) {
	rev2 := trust.Conditions{Hardware: []string{"rev2"}}
	const old = "but old boxes unpack only .tar.bz2"
	hours := func(n int) string { return stamp(testworld.Start.Add(time.Duration(n) * time.Hour)) }
	for _, c := range []struct {
		what         string
		listed, next []step
		want         []string // parts of the notes, in order
	}{
		{"first", nil, []step{{name: "p-1.tar.bz2"}}, nil},
		{"first, which old boxes can't unpack", nil, []step{{name: "p-1.tar.gz"}}, []string{"/latest will name p-1.tar.gz, " + old}},
		{"newer", []step{{name: "p-1.tar.bz2"}}, []step{{name: "p-2.tar.bz2"}}, nil},
		{"newer, which old boxes can't unpack", []step{{name: "p-1.tar.bz2"}}, []step{{name: "p-2.tar.gz"}}, []string{"/latest will name p-2.tar.gz, " + old}},
		{"newer, in both formats", []step{{name: "p-1.tar.bz2"}}, []step{{name: "p-2.tar.gz"}, {name: "p-2.tar.bz2"}}, nil},
		{"newer, without old boxes", []step{{name: "p-1.tar.gz"}}, []step{{name: "p-2.tar.gz"}}, nil},
		{"older, which old boxes can't unpack", []step{{name: "p-2.tar.bz2"}}, []step{{name: "p-1.tar.gz"}}, nil},
		{"staged", []step{{name: "p-1.tar.bz2"}}, []step{{"p-2.tar.bz2", staged("5%,2h:100%")}}, []string{"/latest and /version name p-2.tar.bz2 from " + hours(3) + " on"}},
		{"staged without end", []step{{name: "p-1.tar.bz2"}}, []step{{"p-2.tar.bz2", staged("5%,2h:50%")}}, []string{"don't name p-2.tar.bz2"}},
		{"staged, all at once", []step{{name: "p-1.tar.bz2"}}, []step{{"p-2.tar.bz2", staged("100%")}}, nil},
		{"staged, which old boxes can't unpack", []step{{name: "p-1.tar.bz2"}}, []step{{"p-2.tar.gz", staged("5%,2h:100%")}},
			[]string{"name p-2.tar.gz from " + hours(3) + " on", "/latest will name p-2.tar.gz from " + hours(3) + " on, " + old}},
		{"older, staged", []step{{name: "p-2.tar.bz2"}}, []step{{"p-1.tar.bz2", staged("5%,2h:100%")}}, nil},
		{"older, staged, which old boxes can't unpack", []step{{name: "p-2.tar.bz2"}}, []step{{"p-1.tar.gz", staged("5%,2h:100%")}}, nil},
		{"older, staged, while the newer one takes longer", []step{{name: "p-1.tar.bz2"}, {"p-3.tar.bz2", staged("5%,9h:100%")}}, []step{{"p-2.tar.bz2", staged("5%,2h:100%")}},
			[]string{"name p-2.tar.bz2 from " + hours(3) + " on"}},
		{"older, staged, while the newer one is sooner", []step{{name: "p-1.tar.bz2"}, {"p-3.tar.bz2", staged("5%,2h:100%")}}, []step{{"p-2.tar.bz2", staged("5%,9h:100%")}}, nil},
		{"older, while a newer one that old boxes unpack is staged", []step{{name: "p-1.tar.bz2"}, {"p-3.tar.bz2", staged("5%,9h:100%")}}, []step{{name: "p-2.tar.gz"}},
			[]string{"/latest will name p-2.tar.gz, " + old}},
		{"both formats, staged", []step{{name: "p-1.tar.bz2"}}, []step{{"p-2.tar.gz", staged("5%,2h:100%")}, {"p-2.tar.bz2", staged("5%,2h:100%")}},
			[]string{"name p-2.tar.bz2 from " + hours(3) + " on"}},
		{"hardware", []step{{name: "p-1.tar.bz2"}}, []step{{"p-2.tar.bz2", rev2}}, []string{"don't name p-2.tar.bz2"}},
		{"hardware, which old boxes can't unpack", []step{{name: "p-1.tar.bz2"}}, []step{{"p-2.tar.gz", rev2}}, []string{"don't name p-2.tar.gz"}},
		{"withdraw of the newest", []step{{name: "p-1.tar.bz2"}, {name: "p-2.tar.bz2"}}, []step{{name: "-p-2.tar.bz2"}}, nil},
		{"withdraw of the newest that old boxes unpack", []step{{name: "p-1.tar.gz"}, {name: "p-2.tar.bz2"}}, []step{{name: "-p-2.tar.bz2"}}, []string{"/latest will name p-1.tar.gz, " + old}},
		{"withdraw of the newest that old boxes can't unpack", []step{{name: "p-1.tar.gz"}, {name: "p-2.tar.gz"}}, []step{{name: "-p-2.tar.gz"}}, nil},
		{"withdraw of the last", []step{{name: "p-1.tar.bz2"}}, []step{{name: "-p-1.tar.bz2"}}, nil},
		{"finish of a rollout", []step{{name: "p-1.tar.bz2"}, {"p-2.tar.bz2", staged("5%,9h:100%")}}, []step{{name: "p-2.tar.bz2"}}, nil},
		{"finish of a rollout that old boxes can't unpack", []step{{name: "p-1.tar.bz2"}, {"p-2.tar.gz", staged("5%,9h:100%")}}, []step{{name: "p-2.tar.gz"}}, []string{"/latest will name p-2.tar.gz, " + old}},
		{"the highest version of another product", []step{{name: "q-9.tar.bz2"}}, []step{{name: "p-2.tar.gz"}}, nil}, // a server has one list
	} {
		t.Run(c.what, func(t *testing.T) {
			p, before, _ := planned(t, c.listed, c.next)
			at := testworld.Start.Add(time.Hour)
			notes := conditionNotes(p, before, at, at)
			if n := oldBoxNote(p, before, at); n != "" {
				notes = append(notes, n)
			}
			fits := len(notes) == len(c.want)
			for i := 0; fits && i < len(notes); i++ {
				fits = strings.Contains(notes[i], c.want[i])
			}
			if !fits {
				t.Errorf("got %q, want %q", notes, c.want)
			}
		})
	}
}

func TestListWarnings(t *testing.T) {
	for _, c := range []struct {
		what         string
		listed, next []step
		want         []string // the beginnings of the warnings
	}{
		{"first of all", nil, []step{{name: "meter-1.tar.bz2"}}, nil},
		{"newest", []step{{name: "meter-1.tar.bz2"}}, []step{{name: "meter-2.tar.bz2"}}, nil},
		{"another format", []step{{name: "meter-1.tar.bz2"}}, []step{{name: "meter-1.tar.gz"}}, nil},
		{"older", []step{{name: "meter-2.tar.bz2"}, {name: "meter-3.tar.bz2"}}, []step{{name: "meter-1.tar.bz2"}}, []string{"meter-1.tar.bz2 is older than meter-3.tar.bz2, the newest that is listed: "}},
		{"older than another product", []step{{name: "meter-1.tar.bz2"}, {name: "lamp-9.tar.bz2"}}, []step{{name: "meter-2.tar.bz2"}}, nil},
		{"typo", []step{{name: "meter-1.tar.bz2"}, {name: "lamp-1.tar.bz2"}}, []step{{name: "mter-2.tar.bz2"}}, []string{"no update of the product mter was ever listed here; did you mean meter?"}},
		{"new product, two formats", []step{{name: "meter-1.tar.bz2"}}, []step{{name: "oven-2.tar.bz2"}, {name: "oven-2.tar.gz"}}, []string{"no update of the product oven was ever listed here"}},
		{"empty", []step{{name: "meter-1.tar.bz2"}, {name: "lamp-1.tar.bz2"}}, []step{{name: "-meter-1.tar.bz2"}, {name: "-lamp-1.tar.bz2"}}, []string{"the list becomes empty: "}},
		{"last of a product", []step{{name: "meter-1.tar.bz2"}, {name: "lamp-1.tar.bz2"}}, []step{{name: "-meter-1.tar.bz2"}}, []string{"no update of the product meter stays listed"}},
		{"not the last of a product", []step{{name: "meter-1.tar.bz2"}, {name: "meter-2.tar.bz2"}}, []step{{name: "-meter-1.tar.bz2"}}, nil},
		{"conditions", []step{{name: "meter-1.tar.bz2"}, {name: "meter-2.tar.bz2"}}, []step{{"meter-1.tar.bz2", staged("5%")}}, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := listWarnings(planned(t, c.listed, c.next))
			fits := len(got) == len(c.want)
			for i := 0; fits && i < len(got); i++ {
				fits = strings.HasPrefix(got[i], c.want[i])
			}
			if !fits {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A product is known that was listed once, even if nothing of it is listed now.
func TestWithdrawnProductIsKnown(t *testing.T) {
	s, archives := newSigner(t)
	other := filepath.Join(filepath.Dir(archives[0]), "q-1.tar.gz")
	if _, err := s.Build(t.Context(), filepath.Join(filepath.Dir(archives[0]), "DIR"), BuildOptions{Out: other}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(t.Context(), AddOptions{}, archives[0], other); err != nil {
		t.Fatal(err)
	}
	c, err := s.Withdraw(t.Context(), ListOptions{}, "p-1.tar.gz")
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Text(), "\nwarning: no update of the product p stays listed\n") {
		t.Fatalf("got %q, %v", c.Warnings, err)
	}
	if c, err = s.Add(t.Context(), AddOptions{}, archives[1]); err != nil || len(c.Warnings) != 0 {
		t.Errorf("got %q, %v", c.Warnings, err)
	}
}

func TestVersionBefore(t *testing.T) {
	_, list, _ := planned(t, []step{{name: "p-1.tar.bz2"}, {name: "p-2.tar.bz2"}, {name: "p-2.tar.gz"}, {name: "p-4.tar.gz"}, {name: "p-4.tar.bz2"}, {name: "q-3.tar.gz"}}, nil)
	at := func(name string) trust.Release {
		return list[slices.IndexFunc(list, func(r trust.Release) bool { return r.Name().String() == name })]
	}
	for name, want := range map[string]string{"p-4.tar.gz": "p-2.tar.gz", "p-4.tar.bz2": "p-2.tar.bz2", "p-2.tar.gz": "p-1.tar.bz2", "p-1.tar.bz2": "", "q-3.tar.gz": ""} {
		before, ok := versionBefore(at(name), list)
		got := ""
		if ok {
			got = before.Name().String()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"meter", "meter", 0}, {"meter", "mter", 1}, {"meter", "metre", 2}, {"kitten", "sitting", 3}} {
		if got, back := editDistance(c.a, c.b), editDistance(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%q and %q: got %d and %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}

// Before signing, at most 20 files are named, and no text of an archive forges a line.
func TestComparisonText(t *testing.T) {
	before, now := contents{}, contents{}
	for i := range 25 {
		p := fmt.Sprintf("f%02d\nwarning: forged", i)
		now[p] = File{Path: p, Mode: "-rw-r--r--", Size: int64(i), Digest: update.Sum([]byte(p))}
	}
	c := compareContents(before, now)
	c.Name, c.Before, c.files = testworld.Name("p-2.tar.gz"), testworld.Name("p-1.tar.gz"), [2]string{"p-1.tar.gz", "p-2.tar.gz"}
	text := c.text(maxFilesShown)
	if strings.Count(text, "\n") != 22 || strings.Contains(text, "\nwarning") || !strings.HasSuffix(text, "\nfiles: and 5 more; see boxsign diff p-1.tar.gz p-2.tar.gz\n") {
		t.Errorf("got %s", text)
	}
	if text := c.Text(); strings.Count(text, "\n") != 26 {
		t.Errorf("got %s", text)
	}
}

// The former archive is not compared with unless its digest is right.
func TestCompareSources(t *testing.T) {
	s, archives := newSigner(t)
	if _, err := s.Add(t.Context(), AddOptions{}, archives[0]); err != nil {
		t.Fatal(err)
	}
	var shown Change
	s.Confirm = func(_ context.Context, what Result, _ string) error { shown = what.(Change); return errNothingWaits }
	_, _ = s.Add(t.Context(), AddOptions{}, archives[1])
	if len(shown.Compared) != 1 || shown.Compared[0].files[0] != archives[0] || shown.Compared[0].Same != 2 {
		t.Fatalf("got %+v, %q", shown.Compared, shown.Notes)
	}
	flipByte(t, archives[0], 20) // the store's archive may be a link to the same file
	_, _ = s.Add(t.Context(), AddOptions{}, archives[1])
	if len(shown.Compared) != 1 || !strings.HasPrefix(shown.Compared[0].files[0], s.Repository) || shown.Compared[0].Same != 2 {
		t.Fatalf("got %+v, %q", shown.Compared, shown.Notes)
	}
	if _, err := Diff(t.Context(), shown.Compared[0].files[0], shown.Compared[0].files[1]); err != nil {
		t.Errorf("what the plan names can't be compared: %v", err)
	}
	flipByte(t, shown.Compared[0].files[0], 20)
	_, _ = s.Add(t.Context(), AddOptions{}, archives[1])
	if len(shown.Compared) != 0 || len(shown.Notes) == 0 || !strings.Contains(strings.Join(shown.Notes, "\n"), "p-2.tar.gz was not compared with p-1.tar.gz: ") {
		t.Errorf("got %+v, %q", shown.Compared, shown.Notes)
	}
}

// flipByte changes a byte of a file.
func flipByte(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	testworld.Must(t, err)
	b[at] ^= 1
	testworld.Must(t, os.Chmod(path, 0o600))
	testworld.Must(t, os.WriteFile(path, b, 0o600))
}

// An archive is compared only if it is what was signed, and downloaded only if it is not too large.
func TestContentsAreVerified(t *testing.T) {
	s, archives := newSigner(t)
	if _, err := s.Add(t.Context(), AddOptions{}, archives[0]); err != nil {
		t.Fatal(err)
	}
	x, err := openSession(t.Context(), s, false)
	testworld.Must(t, err)
	defer x.close()
	r, _ := x.base.Release(testworld.Name("p-1.tar.gz"))
	f, err := os.Open(archives[1])
	testworld.Must(t, err)
	defer f.Close()
	if c, err := verifiedContents(t.Context(), r, f); !errors.Is(err, trust.ErrMismatch) || c != nil {
		t.Errorf("another archive: got %v, %v", c, err)
	}

	ring := testworld.NewKeyring("")
	large := testworld.SignList(t, ring.Init(t, testworld.Start, 1), &trust.Ledger{}, testworld.Start, ring.Releases, func(e *trust.TargetsEdit) error {
		a := testworld.Addition("p-1.tar.gz", []byte("p"))
		a.Length = maxDownload + 1
		return e.Add(a)
	})
	at := &session{} // at an origin, which it never asks
	if _, _, err := at.contentsOf(t.Context(), large.Releases()[0], localArchives{}, ""); err == nil || !strings.Contains(err.Error(), "268435457 bytes") {
		t.Errorf("large: got %v", err)
	}
}

func TestFileChanges(t *testing.T) {
	file := func(mode string, size int64, content, link string) File {
		f := File{Path: "a", Mode: mode, Size: size, Link: link}
		if content != "" {
			f.Digest = update.Sum([]byte(content))
		}
		return f
	}
	plain := file("-rw-r--r--", 3, "abc", "")
	for _, c := range []struct {
		before, now File
		want        string
	}{
		{plain, plain, ""},
		{plain, file("-rw-r--r--", 4, "abcd", ""), "a (3 -> 4 bytes)"},
		{plain, file("-rw-r--r--", 3, "abd", ""), "a (other content, 3 bytes)"},
		{plain, file("-rwxr-xr-x", 3, "abc", ""), "a (-rw-r--r-- -> -rwxr-xr-x)"},
		{plain, file("-rwxr-xr-x", 4, "abcd", ""), "a (3 -> 4 bytes, -rw-r--r-- -> -rwxr-xr-x)"},
		{plain, file("-rw-r--r--", 0, "", "b"), "a (3 bytes -> link to b)"},
		{file("lrwxrwxrwx", 0, "", "b"), file("lrwxrwxrwx", 0, "", "c\x1b"), `a (link to b -> link to c\x1b)`},
		{file("lrwxrwxrwx", 0, "", "b"), plain, "a (link to b -> 3 bytes, lrwxrwxrwx -> -rw-r--r--)"},
		{file("drwxr-xr-x", 0, "", ""), plain, "a (drwxr-xr-x -> -rw-r--r--)"},
	} {
		got := ""
		if d := compareContents(contents{"a": c.before}, contents{"a": c.now}); len(d.Changed) == 1 {
			got = d.Changed[0].describe()
		}
		if got != c.want {
			t.Errorf("%+v, %+v: got %q, want %q", c.before, c.now, got, c.want)
		}
	}
}
