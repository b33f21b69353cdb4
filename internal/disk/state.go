package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// A state file is a small file of bookkeeping, which is replaced as a whole and which nobody has signed. Disks turn
// bits; a turned one must not be believed, and must not stop anything. So it has a checksum, and a copy beside it:
//
//	<path>       the content. A JSON object gets one more field at its end, "checksum", the SHA-256 of the object
//	             without it, in hex: a program that knows nothing of checksums reads and writes the file all the same
//	<path>.copy  SHA-256 in hex of all that follows
//	             SHA-256 in hex of the content before this one, as long as that one may still be at <path>; else "-"
//	             the content
//
// The copy is replaced first. A crash between the two leaves the content before, which the copy names too, so that it
// is not taken for damage. Of a file that is no JSON object the copy says what its content is; so such a file that
// a program without checksums replaced counts as damaged, and a JSON object that lacks the field does not.
const (
	copySuffix = ".copy"
	maxBefore  = 64 << 20 // bytes; a longer file is not named as the one before
)

// ErrDamaged says that a file does not hold what was written to it.
var ErrDamaged = errors.New("damaged")

// CopyPath returns the path of the copy beside a state file.
func CopyPath(path string) string { return path + copySuffix }

// WriteState makes path hold data, with a checksum and a copy that ReadState falls back on. After an error, or a crash
// at any instant, ReadState returns what was there before or data.
func (f FS) WriteState(path string, data []byte, perm fs.FileMode) error {
	before := "-"
	if had, err := readIntact(path, maxBefore); err == nil && !isObject(had) {
		// What is damaged must not be named; what has no copy is of a program without checksums.
		if copied, err := readCopy(path, maxBefore); err == nil && copied.names(had) || errors.Is(err, fs.ErrNotExist) {
			before = sum(had)
		}
	}
	rest := append([]byte(before+"\n"), data...)
	if err := f.WriteFile(CopyPath(path), append([]byte(sum(rest)+"\n"), rest...), perm); err != nil {
		return err
	}
	return f.WriteFile(path, seal(data), perm)
}

// RemoveState removes a state file and its copy. A file that is not there is no error.
func (f FS) RemoveState(path string) error {
	// A copy alone counts for nothing.
	if err := f.Remove(path); err != nil {
		return err
	}
	return f.Remove(CopyPath(path))
}

// ReadState returns the content of a state file of at most limit bytes; the error is fs.ErrNotExist where there is
// none, whatever copy there is. check, which may be nil, says what is wrong with a content that nothing vouches for,
// because it is of a program that writes no checksums.
//
// Where the file is damaged, or the disk can't read it, the content is that of the copy. Where one of the two is
// damaged, damage says which; the caller tells it, and writes the state again. Where both are, the error is
// ErrDamaged, and the caller makes the state anew from what it can verify.
func ReadState(path string, limit int64, check func([]byte) error) (data []byte, damage, err error) {
	had, err := readIntact(path, limit+maxSeal)
	if err != nil && !lost(err) {
		return nil, nil, err
	}
	for try := 1; ; try++ {
		copied, copyErr := readCopy(path, limit)
		if copyErr != nil && !lost(copyErr) && !errors.Is(copyErr, fs.ErrNotExist) {
			return nil, nil, copyErr
		}
		if err == nil {
			data, err = judge(had, copied, copyErr == nil, check)
			if err == nil && int64(len(data)) > limit {
				err = fmt.Errorf("more than %d bytes", limit)
			}
		}
		if err == nil && lost(copyErr) {
			return data, fmt.Errorf("%s: %w; %s itself is intact", CopyPath(path), copyErr, path), nil
		}
		if err == nil {
			return data, nil, nil
		}
		// A writer may have been between the two.
		if again, againErr := readIntact(path, limit+maxSeal); try < 5 && againErr == nil && !bytes.Equal(again, had) {
			had, err = again, nil
			continue
		}
		if copyErr != nil {
			// The file is there, so that this is not fs.ErrNotExist, even where there is no copy.
			return nil, nil, fmt.Errorf("%s: %w: %w; its copy: %v", path, ErrDamaged, err, copyErr)
		}
		return copied.data, fmt.Errorf("%s: %w: %w; its copy is used", path, ErrDamaged, err), nil
	}
}

// judge returns the content of a state file that is intact.
func judge(had []byte, copied stateCopy, haveCopy bool, check func([]byte) error) ([]byte, error) {
	data, sealed, err := unseal(had)
	switch {
	case sealed || err != nil:
		return data, err
	case haveCopy && copied.names(had):
		return had, nil
	case haveCopy && !isObject(had):
		return nil, errors.New("it is not what was written")
	case check != nil:
		return had, check(had)
	}
	return had, nil
}

// stateCopy is what a copy holds.
type stateCopy struct {
	before string
	data   []byte
}

// names reports whether a state file with that content is one that the copy may lie beside.
func (c stateCopy) names(had []byte) bool { return bytes.Equal(had, c.data) || sum(had) == c.before }

func readCopy(path string, limit int64) (stateCopy, error) {
	const head = 2*sha256.Size + 1
	raw, err := readIntact(CopyPath(path), limit+2*head)
	if err != nil {
		return stateCopy{}, err
	}
	if len(raw) < head || sum(raw[head:])+"\n" != string(raw[:head]) {
		return stateCopy{}, fmt.Errorf("%w: its checksum does not fit", ErrDamaged)
	}
	before, data, ok := bytes.Cut(raw[head:], []byte("\n"))
	if !ok {
		return stateCopy{}, fmt.Errorf("%w: it lacks its second line", ErrDamaged)
	}
	return stateCopy{string(before), data}, nil
}

// readIntact returns the bytes of a file, ErrDamaged where there are more than limit or the disk can't read them.
func readIntact(path string, limit int64) ([]byte, error) {
	raw, err := ReadFile(path, limit)
	switch {
	case Unreadable(err):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case errors.Is(err, ErrTooLong):
		return nil, fmt.Errorf("%w: more than %d bytes", ErrDamaged, limit)
	}
	return raw, err
}

func lost(err error) bool { return errors.Is(err, ErrDamaged) }

func sum(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

// seals are the spellings of the last field of a JSON object: between two others, what begins it, and what ends it.
var seals = []struct{ begin, end, close string }{
	{",\n  \"checksum\": \"", "\"\n}\n", "\n}\n"},
	{`,"checksum":"`, "\"}\n", "}\n"},
}

const maxSeal = 100 // bytes; each seal is shorter

func isObject(b []byte) bool { return bytes.HasPrefix(b, []byte("{")) }

// seal adds its checksum to a JSON object that has fields and ends as seals have it, and returns all else as it is.
func seal(data []byte) []byte {
	if isObject(data) && !bytes.Equal(data, []byte("{}\n")) {
		for _, s := range seals {
			if body, ok := bytes.CutSuffix(data, []byte(s.close)); ok {
				return []byte(string(body) + s.begin + sum(data) + s.end)
			}
		}
	}
	return data
}

// unseal returns what seal was given, and whether it added a checksum; an error where that does not fit.
func unseal(had []byte) (data []byte, sealed bool, err error) {
	for _, s := range seals {
		rest, ok := strings.CutSuffix(string(had), s.end)
		at := len(rest) - 2*sha256.Size
		if !ok || at < 0 || !strings.HasSuffix(rest[:at], s.begin) {
			continue
		}
		data = []byte(strings.TrimSuffix(rest[:at], s.begin) + s.close)
		if got := sum(data); got != rest[at:] {
			return nil, true, fmt.Errorf("expected checksum %s, got %s", rest[at:], got)
		}
		return data, true, nil
	}
	return had, false, nil
}
