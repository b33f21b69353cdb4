package box

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/settings"
)

const (
	recordName = "box.json"
	maxRecord  = 1 << 20               // bytes
	maxReason  = 600                   // bytes
	maxMachine = settings.MaxMachineID // bytes
)

// record is what a box remembers beside the trusted metadata, in box.json. Without it, the box asks mirrors too often
// or in another order, forgets the daily cap, and gets a new machine id if that was made here.
type record struct {
	Machine string   `json:"machine_id,omitempty"` // made here, if neither the configuration nor the system has one
	Mirrors []Mirror `json:"mirrors"`              // in the order in which they are asked

	Checked time.Time `json:"checked,omitzero"` // when the box last accepted the repository of a mirror
	Error   string    `json:"error,omitempty"`  // why a later check failed

	// RootsAsked is when a mirror last answered that there is no newer root. The box asks for one once a day.
	RootsAsked time.Time `json:"roots_asked,omitzero"`

	// Day and Bytes say how much of max_bytes_per_day is used.
	Day   string `json:"day,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`

	Part part `json:"part,omitzero"` // the update that is being downloaded on a metered link
}

// Mirror is what is known of a mirror.
type Mirror struct {
	URL    string    `json:"url"`
	Behind bool      `json:"behind,omitempty"` // it has older metadata than another mirror
	Slow   time.Time `json:"slow,omitzero"`    // until then it is asked last, because another mirror was much faster
	Until  time.Time `json:"until,omitzero"`   // it asked for a pause until then
	Reason string    `json:"reason,omitempty"` // why
}

// readRecord reads the record in a state directory. A missing record is the zero record, without an error. damage says
// why the record can't be read, beside the zero record; or why only its copy can be read, beside that copy.
func readRecord(dir string) (r record, damage error) {
	b, damage, err := disk.ReadState(filepath.Join(dir, recordName), maxRecord, func(b []byte) error {
		_, err := parseRecord(b)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("the record of mirrors is lost: %w", err)
	}
	if r, err = parseRecord(b); err != nil {
		return record{}, fmt.Errorf("the record of mirrors is lost: %s: %w", filepath.Join(dir, recordName), err)
	}
	return r, damage
}

// parseRecord parses a record. It ignores unknown fields, which a later boxup may have added.
func parseRecord(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, explain.JSON(b, err)
	}
	if len(r.Mirrors) > settings.MaxMirrors || r.Bytes < 0 || len(r.Machine) > maxMachine {
		return record{}, errors.New("expected fewer mirrors, a shorter machine ID, or no negative number of bytes")
	}
	return r, nil
}

func (r record) raw() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// write writes the record, unless the file has the same content.
func (r record) write(fsys disk.FS, dir string) error {
	b, err := r.raw()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, recordName)
	if was, damage, err := disk.ReadState(path, maxRecord, nil); err == nil && damage == nil && bytes.Equal(was, b) {
		return nil
	}
	return fsys.WriteState(path, b, 0o600)
}

// arrangeMirrors makes Mirrors the configured mirrors. Known ones keep their order, and each new one gets a random place,
// so that the boxes of a fleet have different orders and spread over all mirrors.
func (r *record) arrangeMirrors(urls []string, random func() float64) {
	r.Mirrors = slices.DeleteFunc(slices.Clone(r.Mirrors), func(m Mirror) bool { return !slices.Contains(urls, m.URL) })
	for _, u := range urls {
		if slices.ContainsFunc(r.Mirrors, func(m Mirror) bool { return m.URL == u }) {
			continue
		}
		place := int(random() * float64(len(r.Mirrors)+1))
		r.Mirrors = slices.Insert(r.Mirrors, place, Mirror{URL: u})
	}
}

// longestPause bounds the pause that a mirror can ask for.
const longestPause = time.Hour

// paused reports whether the mirror asked for a pause that includes that time. It ignores a pause that ends after longestPause,
// which came from a wrong clock.
func (m Mirror) paused(now time.Time) bool {
	return m.Until.After(now) && !m.Until.After(now.Add(longestPause))
}

// mirrorsToAsk returns the mirrors that may be asked now, in order, and the paused mirror whose pause ends first, the zero
// Mirror if none is paused.
func (r *record) mirrorsToAsk(now time.Time) (ask []Mirror, first Mirror) {
	for _, m := range r.Mirrors {
		if !m.paused(now) {
			ask = append(ask, m)
		} else if first.Until.IsZero() || m.Until.Before(first.Until) {
			first = m
		}
	}
	return ask, first
}

// paused returns the record of a server that asked for a pause, and whether it did.
func (r *record) paused(url string, now time.Time) (m Mirror, yes bool) {
	for _, m := range r.Mirrors {
		if m.URL == url && m.paused(now) {
			return m, true
		}
	}
	return Mirror{}, false
}

// notePause records the pause that a server asked for, or that it asked for none. The server need not be a configured
// mirror.
func (r *record) notePause(m Mirror) {
	at := slices.IndexFunc(r.Mirrors, func(old Mirror) bool { return old.URL == m.URL })
	switch {
	case at >= 0:
		r.Mirrors[at].Until, r.Mirrors[at].Reason = m.Until, m.Reason
	case !m.Until.IsZero() && len(r.Mirrors) < settings.MaxMirrors:
		r.Mirrors = append(r.Mirrors, m)
	}
}

// mirrorOf returns the record of a configured mirror, to be changed. For another URL it returns one that is not kept.
func (r *record) mirrorOf(url string) *Mirror {
	for i := range r.Mirrors {
		if r.Mirrors[i].URL == url {
			return &r.Mirrors[i]
		}
	}
	return &Mirror{} // not kept
}

// machineID returns the machine id: the configured one, the one of the system, or the one of the record. If there is
// none, it makes one and sets r.Machine; the caller writes the record.
func (r *record) machineID(configured, systemFile string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	const length = 32
	if b, err := disk.ReadFile(systemFile, length+1); err == nil {
		id := string(bytes.TrimSuffix(b, []byte("\n")))
		if _, err := hex.DecodeString(id); err == nil && len(id) == length {
			return id, nil
		}
	}
	if r.Machine == "" {
		var id [length / 2]byte
		if _, err := rand.Read(id[:]); err != nil {
			return "", fmt.Errorf("machine id: %w", err)
		}
		r.Machine = hex.EncodeToString(id[:])
	}
	return r.Machine, nil
}
