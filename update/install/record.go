package install

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/update"
)

const (
	recordName   = "record.json"
	recordFormat = 1
	maxRecord    = 64 << 10 // bytes
	maxFailures  = 16       // in the record
	maxHistory   = 20       // in the record
	maxReason    = 500      // bytes
)

// record is the content of record.json.
type record struct {
	Format     int         `json:"format"`
	Installed  *Installed  `json:"installed,omitempty"`
	Previous   *Installed  `json:"previous,omitempty"`
	Attempt    *Attempt    `json:"attempt,omitempty"`
	Failures   []Failure   `json:"failures,omitempty"`
	Reboot     *Reboot     `json:"reboot,omitempty"`
	Damaged    string      `json:"damaged,omitempty"`
	FilledDisk *FilledDisk `json:"filled_disk,omitempty"`

	// AsideTo is the highest version that was set aside and is no longer among Failures. No version up to it is
	// tried.
	AsideTo update.Version `json:"aside_to,omitzero"`
	History []Event        `json:"history,omitempty"`
}

// errRecord says that a record can't be used.
var errRecord = errors.New("malformed record")

// readRecord returns the record in a directory, an empty one if there is none. damage is not nil if the record or its
// copy is damaged and the other one is intact. The error is errRecord if both are damaged.
func readRecord(dir string) (r record, damage, err error) {
	path := filepath.Join(dir, recordName)
	raw, damage, err := disk.ReadState(path, maxRecord, func(raw []byte) error {
		_, err := parseRecord(raw)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return record{Format: recordFormat}, nil, nil
	case errors.Is(err, disk.ErrDamaged):
		return record{}, nil, fmt.Errorf("%w: %w", errRecord, err)
	case err != nil:
		return record{}, nil, err
	}
	if r, err = parseRecord(raw); err != nil {
		return record{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, damage, nil
}

// parseRecord parses what record.bytes returns, and refuses what it never would. Unknown fields are ignored: a later
// boxup may have added them, and the earlier one that a box went back to must still know what is installed.
func parseRecord(raw []byte) (record, error) {
	if len(raw) > maxRecord {
		return record{}, fmt.Errorf("%w: expected at most %d bytes, got more", errRecord, maxRecord)
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, explain.JSON(raw, err))
	}
	if err := r.check(); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	return r, nil
}

func (r record) check() error {
	if r.Format != recordFormat {
		return fmt.Errorf("expected format %d, got %d", recordFormat, r.Format)
	}
	for _, in := range []*Installed{r.Installed, r.Previous} {
		if in != nil && (in.Digest.IsZero() || in.Name.IsZero() || in.Length < 0) {
			return errors.New("an installed update lacks name, digest or length")
		}
	}
	if len(r.Failures) > maxFailures || len(r.History) > maxHistory {
		return errors.New("too many failures or events")
	}
	for _, f := range r.Failures {
		if f.Name.IsZero() || f.Digest.IsZero() || f.Count < 1 {
			return errors.New("a failure lacks name, digest or count")
		}
	}
	for _, e := range r.History {
		if e.Name.IsZero() || e.Digest.IsZero() {
			return errors.New("an event lacks name or digest")
		}
	}
	return r.checkAttempt()
}

func (r record) checkAttempt() error {
	a := r.Attempt
	if a == nil {
		return nil
	}
	if id, err := hex.DecodeString(a.ID); err != nil || len(id) != 16 || strings.ToLower(a.ID) != a.ID {
		return fmt.Errorf("attempt: expected an ID of 32 hex digits, got %q", a.ID)
	}
	if a.Name.IsZero() || a.Digest.IsZero() || a.Length < 0 || a.Tries < 0 {
		return errors.New("the attempt lacks name, digest or length")
	}
	if !slices.Contains([]Phase{PhaseBefore, PhaseScript, PhaseCheck, PhaseOver, PhaseBack}, a.Phase) {
		return fmt.Errorf("attempt: unknown phase %q", a.Phase)
	}
	if a.Phase == PhaseBack && r.Installed == nil {
		return errors.New("attempt: nothing to go back to")
	}
	return nil
}

func (r record) bytes() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // escaping would make reasons up to six times as long
	e.SetIndent("", "  ")
	err := e.Encode(r)
	return b.Bytes(), err
}

func (r record) write(disk disk.FS, dir string) error {
	raw, err := r.bytes()
	if err != nil {
		return err
	}
	return disk.WriteState(filepath.Join(dir, recordName), raw, 0o600)
}

// addFailure adds a failure to the record and returns it with its count. most is the count from which on the version is
// set aside.
func (r *record) addFailure(f Failure, most int) Failure {
	at := slices.IndexFunc(r.Failures, func(old Failure) bool { return old.Name == f.Name && old.Digest == f.Digest })
	if at >= 0 {
		f.Count = r.Failures[at].Count
		f.SetAside = f.SetAside || r.Failures[at].SetAside
		r.Failures = slices.Delete(r.Failures, at, at+1)
	}
	f.Count++
	f.SetAside = f.SetAside || f.Count >= most
	r.Failures = append(r.Failures, f)
	if len(r.Failures) > maxFailures {
		r.dropFailure()
	}
	return f
}

// dropFailure drops the failure of the lowest version, except the latest failure, whose count must not start again. If
// that version was set aside, it and all lower ones stay refused, by AsideTo; otherwise a box with a full record
// would install them in turn for ever.
func (r *record) dropFailure() {
	lowest := 0
	for at, f := range r.Failures[:len(r.Failures)-1] {
		if f.Name.Version().Compare(r.Failures[lowest].Name.Version()) < 0 {
			lowest = at
		}
	}
	if v := r.Failures[lowest].Name.Version(); r.Failures[lowest].SetAside && v.Compare(r.AsideTo) > 0 {
		r.AsideTo = v
	}
	r.Failures = slices.Delete(r.Failures, lowest, lowest+1)
}

func (r *record) addEvent(e Event) {
	r.History = append(r.History, e)
	r.History = r.History[max(0, len(r.History)-maxHistory):]
}

// setInstalled records that an update was installed, and forgets the failures of versions that are not newer.
func (r *record) setInstalled(in Installed) {
	if r.Installed != nil && r.Installed.Digest != in.Digest {
		r.Previous = r.Installed
	}
	r.Installed, r.Attempt, r.Damaged, r.FilledDisk = &in, nil, "", nil
	r.Failures = slices.DeleteFunc(r.Failures, func(f Failure) bool {
		return f.Name.Version().Compare(in.Name.Version()) <= 0
	})
	if in.Name.Version().Compare(r.AsideTo) >= 0 {
		r.AsideTo = update.Version{}
	}
	r.addEvent(Event{Time: in.Time, Name: in.Name, Digest: in.Digest, Outcome: OutcomeInstalled})
}

// reasonOf returns the message of an error in one line of at most maxReason bytes, without control characters.
func reasonOf(err error) string {
	s := strings.Map(func(c rune) rune {
		if c == '\n' {
			return ';'
		}
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(err.Error(), "?"))
	return strings.ToValidUTF8(s[:min(len(s), maxReason)], "")
}
