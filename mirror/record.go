package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

const (
	recordName = "mirror.json"
	maxRecord  = 256 << 10 // bytes
	maxMessage = 2000      // bytes of an error message in the record
	maxHistory = 20        // syncs of this process that are remembered
)

// record is what a mirror stores about its syncs, for itself and other processes.
type record struct {
	Checked       time.Time         `json:"checked,omitzero"`
	Complete      time.Time         `json:"complete,omitzero"`
	Error         string            `json:"error,omitempty"`
	Reason        status.Reason     `json:"reason,omitempty"`
	Since         time.Time         `json:"error_since,omitzero"`
	Newest        status.Versions   `json:"newest"`
	UpdatesBehind int               `json:"updates_behind"`
	BehindSince   time.Time         `json:"behind_since,omitzero"`
	Upstreams     []status.Upstream `json:"upstreams"`

	damage error // how the disk damaged it since it was written; nil: it is intact
}

// openRecord returns the record in the directory of a store, an empty one if there is none or both copies are damaged.
func openRecord(dir string) (record, error) {
	r, damage, err := readRecord(dir)
	if errors.Is(err, disk.ErrDamaged) {
		damage, err = err, nil
	}
	r.damage = damage
	return r, err
}

// readRecord returns the record in the directory of a store, an empty one if there is none. damage says why it comes from
// the second copy.
func readRecord(dir string) (r record, damage, err error) {
	raw, damage, err := disk.ReadState(filepath.Join(dir, recordName), maxRecord, func(raw []byte) error {
		_, err := parseRecord(raw)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil, nil
	}
	if err != nil {
		return record{}, nil, err
	}
	r, err = parseRecord(raw)
	return r, damage, err
}

func parseRecord(raw []byte) (r record, err error) {
	if len(raw) > maxRecord {
		return record{}, fmt.Errorf("%s: more than %d bytes", recordName, maxRecord)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return record{}, fmt.Errorf("%s: %w", recordName, err)
	}
	return r, nil
}

// save writes the record. It only logs an error, because nothing depends on the record. The caller holds mu.
func (m *Mirror) save() {
	if err := m.record.write(m.c.FS, m.c.Store.Dir()); err != nil {
		m.c.Logger.Warn("record of syncs not written", "err", err)
		return
	}
	m.record.damage = nil
}

func (r record) write(disk disk.FS, dir string) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return disk.WriteState(filepath.Join(dir, recordName), append(raw, '\n'), 0o600)
}

// noteSync records the result of a sync, unless the caller ended it.
func (m *Mirror) noteSync(ctx context.Context, began time.Time, result Result, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	now := m.c.Now()
	at := seconds(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	one := status.Sync{At: now, Took: now.Sub(began), Archives: result.Archives, Bytes: result.Bytes, Reason: status.ReasonOf(err)}
	m.history = slices.Insert(m.history[:min(len(m.history), maxHistory-1)], 0, one)
	r := &m.record
	if err == nil {
		m.succeeded++
		r.clearProblem()
		r.Complete, r.UpdatesBehind, r.BehindSince = at, 0, time.Time{}
	} else {
		m.failed++
		r.noteProblem(message(err), one.Reason, at)
	}
	r.Upstreams = m.askedUpstreams(r.Upstreams)
	m.save()
}

// clearProblem removes what went wrong.
func (r *record) clearProblem() { r.Error, r.Reason, r.Since = "", "", time.Time{} }

// noteProblem records what went wrong.
func (r *record) noteProblem(text string, reason status.Reason, at time.Time) {
	if r.Error == "" {
		r.Since = at
	}
	r.Error, r.Reason = text, reason
}

// askedUpstreams returns what is known of the configured upstreams, in their order.
func (m *Mirror) askedUpstreams(known []status.Upstream) []status.Upstream {
	out := []status.Upstream{}
	for _, u := range m.c.Client.Upstreams() {
		f := *find(&known, u)
		f.Slow, f.Damaged = askedLast(u.State())
		out = append(out, f)
	}
	return out
}

// askedLast returns why an upstream is asked last.
func askedLast(s fetch.State) (slow, damaged bool) { return !s.Slow.IsZero(), !s.Damaged.IsZero() }

// find returns what is known of an upstream, after adding it if it is new.
func find(all *[]status.Upstream, u *fetch.Upstream) *status.Upstream {
	for i := range *all {
		if (*all)[i].URL == u.String() {
			return &(*all)[i]
		}
	}
	*all = append(*all, status.Upstream{URL: u.String()})
	return &(*all)[len(*all)-1]
}

// noteLook records the result of asking an upstream: a repository, or an error.
func (m *Mirror) noteLook(u *fetch.Upstream, repo *trust.Repository, err error) {
	at := seconds(m.c.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	known := find(&m.record.Upstreams, u)
	if err != nil {
		known.Error, known.Reason = message(err), status.ReasonOf(err)
		known.Behind = u.State().Behind
		return
	}
	known.Error, known.Reason, known.Versions, known.Checked = "", "", repo.Versions(), at
	m.record.Checked = at
	if loop := m.loops(u); loop != known.Loop {
		if known.Loop = loop; loop {
			m.c.Logger.Warn("an upstream copies from this mirror", "upstream", u.String())
		}
	}
}

func (m *Mirror) noteBehind(u *fetch.Upstream, behind bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	find(&m.record.Upstreams, u).Behind = behind
}

// message returns the message of an error on one line of bounded length.
func message(err error) string {
	s := strings.ReplaceAll(err.Error(), "\n", "; ")
	return strings.ToValidUTF8(s[:min(len(s), maxMessage)], "")
}
