package box

import (
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// Report is the result of Status.
type Report struct {
	Version string         `json:"boxup"`
	Config  string         `json:"config"`
	State   string         `json:"state"`
	Product update.Product `json:"product"`
	Machine string         `json:"machine_id"`
	Root    *TrustedRoot   `json:"root"` // null: the box has none

	Installed *install.Installed `json:"installed"` // null: nothing
	Previous  *install.Installed `json:"previous"`
	Attempt   *install.Attempt   `json:"attempt"`
	Failures  []install.Failure  `json:"failures"`
	AsideTo   update.Version     `json:"aside_to,omitzero"`
	Reboot    *install.Reboot    `json:"reboot"`
	Damaged   string             `json:"damaged,omitempty"`
	Log       string             `json:"log"`

	Known   *Offer    `json:"known"`             // null: no metadata are known, or they are expired
	Problem string    `json:"problem,omitempty"` // why Known is null
	Checked time.Time `json:"checked,omitzero"`
	Error   string    `json:"error,omitempty"` // why the last check failed
	Mirrors []Mirror  `json:"mirrors"`
	Window  string    `json:"window,omitempty"`
	Today   *int64    `json:"bytes_left_today,omitempty"`
}

// TrustedRoot is the newest root that is trusted.
type TrustedRoot struct {
	Version     int64         `json:"version"`
	Fingerprint update.Digest `json:"fingerprint"`
	Expires     time.Time     `json:"expires"`
}

// Status returns what is installed and what is known of updates. It asks no mirror, changes nothing, and also works while
// another boxup makes changes.
func (b *Box) Status() (Report, error) {
	s, err := b.openToRead()
	if err == nil {
		return s.report(), nil
	}
	if r, ok := b.plainReport(err); ok {
		return r, nil
	}
	return Report{}, err
}

// plainReport returns the report of a box that is updated in the plain mode, with problem as its Problem. It returns false
// if the box is configured with mirrors and a root, or never tried to install an update.
func (b *Box) plainReport(problem error) (Report, bool) {
	c, err := b.plainConfig()
	if err != nil || len(c.Mirrors) > 0 && c.Root != "" {
		return Report{}, false
	}
	s, err := install.ReadStatus(c.State)
	if err != nil || len(s.History) == 0 {
		return Report{}, false
	}
	r := b.installedReport(c, s)
	r.Problem = brief(problem.Error())
	return r, true
}

// installedReport returns the part of a report that is about installations.
func (b *Box) installedReport(c config, s install.Status) Report {
	return Report{
		Version: b.Version, Config: b.ConfigPath, State: c.State, Product: c.Product,
		Installed: s.Installed, Previous: s.Previous, Attempt: s.Attempt, Failures: s.Failures, AsideTo: s.AsideTo, Reboot: s.Reboot,
		Damaged: s.Damaged, Log: s.Log, Mirrors: []Mirror{}, Window: c.Window.String(),
	}
}

func (s *session) report() Report {
	installed := s.readStatus()
	root := s.state.Root()
	r := s.installedReport(s.config, installed)
	r.Machine, r.Root = s.machine, &TrustedRoot{root.Version(), root.Digest(), root.Expires()}
	r.Checked, r.Error = s.record.Checked, s.record.Error
	for _, m := range s.record.Mirrors {
		m.URL = explain.MaskURLs(m.URL)
		r.Mirrors = append(r.Mirrors, m)
	}
	if s.MaxBytesPerDay > 0 {
		left := s.allowance().Left()
		r.Today = &left
	}
	repo, err := s.trusted()
	if err != nil {
		r.Problem = brief(strings.Join(append([]string{err.Error()}, status.Hints(err)...), ": "))
		return r
	}
	o := s.offer(repo, installed, false)
	r.Known = &o
	return r
}
