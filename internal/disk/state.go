package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/status"
)

// A state file is a small file of bookkeeping, which is replaced as a whole and has no signature. Disks flip bits. A
// flipped bit must not be believed, and must not stop a program. So a state file has a checksum, and a copy beside it:
//
//	<path>       the content. A JSON object gets one more field at its end, "checksum", the SHA-256 of the object
//	             without it, in hex: a program that knows nothing of checksums can still read and write the file
//	<path>.copy  SHA-256 in hex of all that follows
//	             SHA-256 in hex of the previous content, as long as that may still be at <path>; else "-"
//	             the content
//
// The copy is replaced first. A crash between the two leaves the previous content at <path>. The copy names that, so it
// does not count as damaged. A file that is no JSON object has its checksum only in the copy. So if a program without
// checksums replaces such a file, it counts as damaged; a JSON object without the field does not.
const (
	copySuffix = ".copy"
	maxBefore  = 64 << 20 // bytes; the copy does not name a longer previous content
)

// ErrDamaged says that a file does not hold what was written to it.
var ErrDamaged = errors.New("damaged")

// CopyPath returns the path of the copy beside a state file.
func CopyPath(path string) string { return path + copySuffix }

// WriteState writes data to path, with a checksum and with a copy as a fallback for ReadState. After an error, or a crash at
// any instant, ReadState returns the previous content or data.
func (f FS) WriteState(path string, data []byte, perm fs.FileMode) error {
	before := "-"
	if had, err := readIntact(path, maxBefore); err == nil && !isObject(had) {
		// A damaged content must not be named. A content without a copy is of a program without checksums.
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
	// A copy without its state file has no effect.
	if err := f.Remove(path); err != nil {
		return err
	}
	return f.Remove(CopyPath(path))
}

// ReadState returns the content of a state file of at most limit bytes. The error is fs.ErrNotExist if there is no such
// file, even if there is a copy. check, which may be nil, returns an error for a bad content that has no checksum, because
// it is of a program that writes none.
//
// If the file is damaged, or the disk can't read it, the content is that of the copy. If one of the two is damaged, damage
// says which; the caller reports it, and writes the state again. If both are, the error is ErrDamaged, and the caller makes
// a new state of what it can verify.
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
		// A writer may have been between its two writes.
		if again, againErr := readIntact(path, limit+maxSeal); try < 5 && againErr == nil && !bytes.Equal(again, had) {
			had, err = again, nil
			continue
		}
		if copyErr != nil {
			// The file exists, so the error must not be fs.ErrNotExist, even if there is no copy.
			return nil, nil, fmt.Errorf("%s: %w: %w; its copy: %v", path, ErrDamaged, err, copyErr)
		}
		return copied.data, fmt.Errorf("%s: %w: %w; its copy is used", path, ErrDamaged, err), nil
	}
}

// WriteJSON writes v to a state file as a JSON object, which gets a checksum as its last field.
func (f FS) WriteJSON(path string, v any, perm fs.FileMode) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.WriteState(path, append(raw, '\n'), perm)
}

// ReadJSON returns what WriteJSON wrote, of at most limit bytes. damage and err are those of ReadState. After an error v is
// zero.
func ReadJSON[T any](path string, limit int64) (v T, damage, err error) {
	raw, damage, err := ReadState(path, limit, func(raw []byte) error { return parseJSON(raw, new(T)) })
	if err == nil {
		err = parseJSON(raw, &v)
	}
	if err != nil {
		var zero T
		return zero, nil, err
	}
	return v, damage, nil
}

func parseJSON(raw []byte, v any) error { return explain.JSON(raw, json.Unmarshal(raw, v)) }

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

// stateCopy is the content of a copy.
type stateCopy struct {
	before string
	data   []byte
}

// names reports whether had is the content in the copy, or the previous one.
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

// readIntact returns the bytes of a file, ErrDamaged if there are more than limit or the disk can't read them.
func readIntact(path string, limit int64) ([]byte, error) {
	raw, err := ReadFile(path, limit)
	switch {
	case status.Unreadable(err):
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

// seals are the spellings of the field "checksum": how it begins and ends, and how an object without it ends.
var seals = []struct{ begin, end, close string }{
	{",\n  \"checksum\": \"", "\"\n}\n", "\n}\n"},
	{`,"checksum":"`, "\"}\n", "}\n"},
}

const maxSeal = 100 // bytes; each seal is shorter

func isObject(b []byte) bool { return bytes.HasPrefix(b, []byte("{")) }

// seal adds a checksum to a JSON object that has fields and ends as in seals. It returns any other content as it is.
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

// unseal returns the argument of seal, and whether seal added a checksum. It returns an error if the checksum is wrong.
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
