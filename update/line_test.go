package update_test

import (
	"strings"
	"testing"

	"github.com/openpowerquality/box-update-server/update"
)

// line is what ParseChecksumLine returns, as one value.
type line struct {
	digest update.Digest
	name   update.Name
}

func parseLine(s string) (line, error) {
	d, n, err := update.ParseChecksumLine([]byte(s))
	return line{d, n}, err
}

func TestParseChecksumLineRefuses(t *testing.T) {
	const shape = `: expected 64 hex digits, two spaces, a name and a newline`
	refuses(t, parseLine, []refusal[string]{
		{"empty", "", `checksum line ""` + shape},
		{"digest only", goodDigest, `checksum line "` + goodDigest + `"` + shape},
		{"one space", strings.Replace(goodLine, "  ", " ", 1), `checksum line "` + goodDigest + ` opq-box-update-"…` + shape},
		{"binary mark", strings.Replace(goodLine, "  ", " *", 1), `checksum line "` + goodDigest + ` *opq-box-update"…` + shape},
		{"tab", strings.Replace(goodLine, "  ", " \t", 1), `checksum line "` + goodDigest + ` \topq-box-update"…` + shape},
		{"digest a digit short", goodLine[1:], `checksum line "` + goodLine[1:81] + `"…` + shape},
		{"byte before", "\\" + goodLine, `checksum line "\\` + goodLine[:79] + `"…` + shape},
		{"three spaces", strings.Replace(goodLine, "  ", "   ", 1), `checksum line: name " ` + goodName + `": product " opq-box-update": expected lower-case letters, digits, '-', '_' and '.', got ' ' at byte 0`},
		{"no newline", strings.TrimSuffix(goodLine, "\n"), `checksum line: expected a newline at its end`},
		{"no name", goodDigest + "  \n", `checksum line: name "": expected <product>-<version>.tar.bz2, .tar.gz or .tar.zst`},
		{"neither name nor newline", goodDigest + "  ", `checksum line: expected a newline at its end`},
		{"two newlines", goodLine + "\n", `checksum line: name "` + goodName + `\n": expected <product>-<version>.tar.bz2, .tar.gz or .tar.zst`},
		{"carriage return", strings.Replace(goodLine, "\n", "\r\n", 1), `checksum line: name "` + goodName + `\r": expected <product>-<version>.tar.bz2, .tar.gz or .tar.zst`},
		{"upper-case digest", replaceAt(goodLine, 0, 'E'), `checksum line: digest "E` + goodDigest[1:] + `": expected lower-case hex digits, got 'E' at byte 0`},
		{"directory", strings.Replace(goodLine, "  ", "  ./", 1), `checksum line: name "./` + goodName + `": product "./opq-box-update": expected lower-case letters, digits, '-', '_' and '.', got '/' at byte 1`},
		{"a byte too long", goodDigest + "  p" + longest() + "\n", `checksum line: expected at most 208 bytes, got 209`},
	})
}

func TestChecksumLine(t *testing.T) {
	for _, s := range []string{goodLine, goodDigest + "  " + longest() + "\n"} {
		l := must(t, parseLine, s)
		if got := string(update.ChecksumLine(l.digest, l.name)); got != s {
			t.Errorf("checksum line is %q, want %q", got, s)
		}
	}
}

// No line that differs in one byte says the same, and no beginning of a line is a line.
func TestChecksumLineEveryByteCounts(t *testing.T) {
	good := must(t, parseLine, goodLine)
	for i := range len(goodLine) {
		if _, err := parseLine(goodLine[:i]); err == nil {
			t.Errorf("the first %d bytes are accepted", i)
		}
		for c := range 256 {
			changed := replaceAt(goodLine, i, byte(c))
			if l, err := parseLine(changed); err == nil && l == good && changed != goodLine {
				t.Errorf("%q says the same as %q", changed, goodLine)
			}
		}
	}
}

func FuzzParseChecksumLine(f *testing.F) {
	for _, s := range []string{goodLine, goodLine + goodLine, strings.TrimSuffix(goodLine, "\n"), strings.Replace(goodLine, "  ", " *", 1), ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, n, err := update.ParseChecksumLine(b)
		if err != nil {
			return
		}
		if got := update.ChecksumLine(d, n); string(got) != string(b) {
			t.Errorf("%q prints as %q", b, got)
		}
	})
}
