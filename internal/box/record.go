package box

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// record is what a box remembers beside the metadata that it trusts, in box.json. Losing it costs a
// little politeness and nothing else.
type record struct {
	Machine string   `json:"machine_id,omitempty"` // made here, where neither configuration nor system has one
	Mirrors []Mirror `json:"mirrors"`              // in the order in which they are asked

	Checked time.Time `json:"checked,omitzero"` // when a mirror last showed a repository that was accepted
	Error   string    `json:"error,omitempty"`  // why that failed since

	// RootsAsked is when a mirror last said that there is no newer root: once a day that costs a second request.
	RootsAsked time.Time `json:"roots_asked,omitzero"`

	// Day and Bytes say how much of max_bytes_per_day is used.
	Day   string `json:"day,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`

	Part part `json:"part,omitzero"` // what comes on a metered link, and is not installed yet
}

// Mirror is what is known of a mirror.
type Mirror struct {
	URL    string    `json:"url"`
	Behind bool      `json:"behind,omitempty"` // it has older metadata than another one that was seen
	Slow   time.Time `json:"slow,omitzero"`    // until then it is asked last: another one was much faster
	Until  time.Time `json:"until,omitzero"`   // it asked not to be asked before
	Reason string    `json:"reason,omitempty"`
}

// readRecord reads the record in a state directory. One that is missing is empty, and so is one that is lost; lost
// says why, or what damage it had a copy against.
func readRecord(dir string) (r record, lost error) {
	b, damage, err := disk.ReadState(filepath.Join(dir, recordName), maxRecord, func(b []byte) error {
		_, err := parseRecord(b)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("what is remembered of mirrors is lost: %w", err)
	}
	if r, err = parseRecord(b); err != nil {
		return record{}, fmt.Errorf("what is remembered of mirrors is lost: %s: %w", filepath.Join(dir, recordName), err)
	}
	return r, damage
}

// parseRecord leaves out what a later boxup may have added.
func parseRecord(b []byte) (record, error) {
	var r record
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&r); err != nil {
		return record{}, explain.JSON(b, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return record{}, errors.New("expected nothing after the object")
	}
	if len(r.Mirrors) > settings.MaxMirrors || r.Bytes < 0 || len(r.Machine) > maxMachine {
		return record{}, errors.New("more mirrors, bytes or letters than it can have")
	}
	return r, nil
}

func (r record) raw() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// write writes the record, where it differs from what is there.
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

// arrangeMirrors makes the mirrors those that are configured. Those that are known keep their places, and new
// ones get a place at random: so each box has an order of its own, and the fleet spreads over all.
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

// longestPause bounds what a mirror can ask for.
const longestPause = time.Hour

// paused reports whether the mirror asked not to be asked yet. A pause that ends later than one can comes from a clock
// that was wrong.
func (m Mirror) paused(now time.Time) bool {
	return m.Until.After(now) && !m.Until.After(now.Add(longestPause))
}

// mirrorsToAsk returns the mirrors that can be asked, and until when the first of the others wants to be left
// alone.
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

// paused returns what is known of a server, and whether it wants to be left alone.
func (r *record) paused(url string, now time.Time) (m Mirror, yes bool) {
	for _, m := range r.Mirrors {
		if m.URL == url && m.paused(now) {
			return m, true
		}
	}
	return Mirror{}, false
}

// notePause takes in for how long a server that need not be configured wants to be left alone, if at all.
func (r *record) notePause(m Mirror) {
	at := slices.IndexFunc(r.Mirrors, func(old Mirror) bool { return old.URL == m.URL })
	switch {
	case at >= 0:
		r.Mirrors[at].Until, r.Mirrors[at].Reason = m.Until, m.Reason
	case !m.Until.IsZero() && len(r.Mirrors) < settings.MaxMirrors:
		r.Mirrors = append(r.Mirrors, m)
	}
}

// mirrorOf returns what is known of a configured mirror.
func (r *record) mirrorOf(url string) *Mirror {
	for i := range r.Mirrors {
		if r.Mirrors[i].URL == url {
			return &r.Mirrors[i]
		}
	}
	return &Mirror{} // nobody keeps it
}

// machineID returns the machine id: the configured one, the system's, or one that is made once. That one
// is for the caller to write.
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
