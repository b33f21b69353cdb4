package signer

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// A backup is the file that age makes (age-encryption.org/v1, one scrypt recipient) of a bundle:
//
//	boxsign backup 1
//	made 2026-03-01T12:00:00Z
//	file release.pem 645
//	-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
//	…
//	-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
//
//	file release.pub 113
//	…
//	end
//
// Each file is its path in the directory of keys, its length in bytes, its bytes, and a newline. Paths are in
// ascending order. A person can get a key out of a backup with age and a text editor alone.
const (
	bundleBegin = "boxsign backup 1\n"
	bundleEnd   = "end\n"
)

// maxBundle bounds a bundle in bytes. The largest list, the largest ledger and the roots of centuries fit in.
const maxBundle = 64 << 20

// bundle is what a backup holds.
type bundle struct {
	made  time.Time // in whole seconds
	files []bundled
}

// bundled is one file of a directory of keys.
type bundled struct {
	path string // with slashes
	data []byte
}

// keyFile matches the name of a file of a key: its part, whether it is the next key or a replaced one (by
// fingerprint), and its suffix.
var keyFile = regexp.MustCompile(`^(root|release|online)(\.next|\.[0-9a-f]{4}(?:-[0-9a-f]{4}){3})?(\.pem|\.agent|\.pub)$`)

// kept reports whether a backup holds the file at a path in the directory of keys.
func kept(file string) bool {
	if keyFile.MatchString(file) {
		return true
	}
	dir, name := path.Split(file)
	if dir != trustedDir+"/" {
		return false
	}
	_, _, ok := trust.ParseFileName(name)
	return ok || name == trust.LedgerName
}

// Bytes returns the bundle in the form that parseBundle parses.
func (b bundle) Bytes() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%smade %s\n", bundleBegin, stamp(b.made))
	for _, f := range b.files {
		fmt.Fprintf(&out, "file %s %d\n%s\n", f.path, len(f.data), f.data)
	}
	out.WriteString(bundleEnd)
	return out.Bytes()
}

// parseBundle parses the one accepted spelling of a bundle. It doesn't look into the files; check does.
func parseBundle(raw []byte) (bundle, error) {
	rest, ok := bytes.CutPrefix(raw, []byte(bundleBegin))
	if !ok {
		return bundle{}, fmt.Errorf("expected %q", strings.TrimSpace(bundleBegin))
	}
	line, rest, _ := bytes.Cut(rest, []byte("\n"))
	made, err := time.Parse(time.RFC3339, strings.TrimPrefix(string(line), "made "))
	if err != nil || "made "+stamp(made) != string(line) {
		return bundle{}, fmt.Errorf("expected when it was made, got %.60q", line)
	}
	b := bundle{made: made}
	for !bytes.Equal(rest, []byte(bundleEnd)) {
		var f bundled
		if f, rest, err = parseBundled(rest); err != nil {
			return bundle{}, err
		}
		if n := len(b.files); n > 0 && b.files[n-1].path >= f.path {
			return bundle{}, fmt.Errorf("file %s after %s", f.path, b.files[n-1].path)
		}
		b.files = append(b.files, f)
	}
	return b, nil
}

// parseBundled parses the file that text begins with, and returns what follows it.
func parseBundled(text []byte) (bundled, []byte, error) {
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	words := strings.Split(string(line), " ")
	if len(words) != 3 || words[0] != "file" || !kept(words[1]) {
		return bundled{}, nil, fmt.Errorf("expected a file or the end, got %.60q", line)
	}
	n, err := strconv.Atoi(words[2])
	if err != nil || strconv.Itoa(n) != words[2] || n < 0 || n >= len(rest) || rest[n] != '\n' {
		return bundled{}, nil, fmt.Errorf("file %s: expected %.20s bytes and a newline", words[1], words[2])
	}
	return bundled{words[1], rest[:n]}, rest[n+1:], nil
}

// find returns the content of the file at path, nil if the bundle lacks it.
func (b bundle) find(path string) []byte {
	for _, f := range b.files {
		if f.path == path {
			return f.data
		}
	}
	return nil
}

// trusted returns the files of the trusted state.
func (b bundle) trusted() []bundled {
	var out []bundled
	for _, f := range b.files {
		if strings.HasPrefix(f.path, trustedDir+"/") {
			out = append(out, f)
		}
	}
	return out
}
