package signer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// written returns bytes that look like a backup, and them on paper.
func written(n int) ([]byte, string) {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	return data, string(printPaper(data))
}

func TestPaper(t *testing.T) {
	for n := 1; n <= 3*paperLine+1; n++ {
		data, text := written(n)
		for name, typed := range map[string]string{
			"as printed":     text,
			"in lower case":  strings.ToLower(text),
			"look-alikes":    strings.NewReplacer("0/", "0/", " 0", " o", "1 ", "l ", "1:", "1:").Replace(text),
			"without spaces": strings.ReplaceAll(text, " ", ""),
			"from DOS":       strings.ReplaceAll(text, "\n", "\r\n"),
			"with remarks":   "# first\n\n" + strings.ReplaceAll(text, "\n", "\n\n# and\n"),
		} {
			if got, err := parsePaper([]byte(typed)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes %s: got %x, %v\n%s", n, name, got, err, typed)
			}
		}
	}
}

// One wrong character anywhere is told by the number of its line, and so are two that changed places.
func TestPaperMistakes(t *testing.T) {
	_, text := written(70)
	lines := strings.Split(text, "\n")
	for i, line := range lines[:3] {
		for at := range line {
			for _, c := range "0123456789ABCDEFGHJKMNPQRSTVWXYZU:/-" {
				if line[at] == ' ' || rune(line[at]) == c {
					continue
				}
				typed := line[:at] + string(c) + line[at+1:]
				wantMistake(t, lines, i, typed)
			}
			if at+1 < len(line) && line[at] != ' ' && line[at+1] != ' ' && line[at] != line[at+1] {
				wantMistake(t, lines, i, line[:at]+line[at+1:at+2]+line[at:at+1]+line[at+2:])
			}
			if line[at] != ' ' {
				wantMistake(t, lines, i, line[:at]+line[at+1:])
			}
		}
	}
}

// wantMistake has line i typed in another way.
func wantMistake(t *testing.T, lines []string, i int, typed string) {
	t.Helper()
	all := append([]string{"# a remark"}, lines...)
	all[i+1] = typed
	_, err := parsePaper([]byte(strings.Join(all, "\n")))
	if want := fmt.Sprintf("line %d: ", i+2); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("%q for %q: expected %q, got %v", typed, lines[i], want, err)
	}
}

func TestPaperRefuses(t *testing.T) {
	_, text := written(100)
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	_, other := written(101)
	for _, c := range []struct{ name, typed, want string }{
		{"nothing", "# nothing\n", "expected a backup"},
		{"no text", "\x00\x01", "expected a backup"},
		{"a line is missing", lines[0] + lines[2] + lines[3], "line 2: 2/4 is missing before it"},
		{"the end is missing", lines[0] + lines[1], "the end is missing: the last line is 2/4"},
		{"the beginning is missing", lines[1] + lines[2] + lines[3], "line 1: 1/4 is missing before it"},
		{"changed places", lines[0] + lines[2] + lines[1] + lines[3], "line 3: expected the line 4/4, got 2/4"},
		{"twice", lines[0] + lines[0] + lines[1] + lines[2] + lines[3], "line 2: expected the line 2/4, got 1/4"},
		{"another number", strings.Replace(text, "2/4:", "3/4:", 1), "line 2: 2/4 is missing before it"},
		{"under another number", lines[0] + strings.Replace(lines[2], "3/4", "2/4", 1) + lines[2] + lines[3], "line 2: a character is wrong"},
		{"of fewer", lines[0] + lines[1] + strings.Replace(lines[2], "3/4", "3/3", 1), "line 3: expected the line 3/4, got 3/3"},
		{"a short line", strings.Replace(string(printPaper(make([]byte, 20))), "1/1", "1/4", 1) + lines[1] + lines[2] + lines[3], "line 1: a character is wrong"},
		{"two mistakes", strings.Replace(strings.Replace(other, "2/4: ", "2/4: U", 1), "4/4: ", "4/4: U", 1), "line 2: a character is wrong, missing or too many\nline 4: "},
		{"a book", strings.Repeat("1/1: 0\n", maxPaper/6), "expected at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parsePaper([]byte(c.typed)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzParsePaper(f *testing.F) {
	for _, n := range []int{1, 26, 27, 60} {
		_, text := written(n)
		f.Add([]byte(text))
		f.Add([]byte("# x\n" + strings.ToLower(text)))
	}
	f.Add([]byte("1/1:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		data, err := parsePaper(text)
		if err != nil {
			return
		}
		again, err := parsePaper(printPaper(data))
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q is parsed as %x, which is printed and parsed as %x, %v", text, data, again, err)
		}
	})
}
