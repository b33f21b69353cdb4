package main

import (
	"fmt"

	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpowerquality/box-update-server/internal/cli"
	"github.com/openpowerquality/box-update-server/update"
	"github.com/openpowerquality/box-update-server/update/install"
)

// report is what status says.
type report struct {
	Version string         `json:"boxup"`
	Config  string         `json:"config"`
	State   string         `json:"state"`
	Product update.Product `json:"product"`
	Machine string         `json:"machine_id"`
	Root    *trustedRoot   `json:"root"` // null: the box was given none

	Installed *install.Installed `json:"installed"` // null: nothing
	Previous  *install.Installed `json:"previous"`
	Attempt   *install.Attempt   `json:"attempt"`
	Failures  []install.Failure  `json:"failures"`
	AsideTo   update.Version     `json:"aside_to,omitzero"`
	Reboot    *install.Reboot    `json:"reboot"`
	Damaged   string             `json:"damaged,omitempty"`
	Log       string             `json:"log"`

	Known   *offer         `json:"known"`             // null: nothing is known of updates, or it is expired
	Problem string         `json:"problem,omitempty"` // why
	Checked time.Time      `json:"checked,omitzero"`
	Error   string         `json:"error,omitempty"` // of the last check, where it failed
	Mirrors []mirrorRecord `json:"mirrors"`
	Window  string         `json:"window,omitempty"`
	Today   *int64         `json:"bytes_left_today,omitempty"`
}

// trustedRoot is the newest root that is trusted.
type trustedRoot struct {
	Version     int64         `json:"version"`
	Fingerprint update.Digest `json:"fingerprint"`
	Expires     time.Time     `json:"expires"`
}

func (p *program) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what is installed and what is known of updates",
		Long:  "Says what is installed, what failed, and what is known of updates, without asking anybody and beside a boxup that is at work.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := p.report()
			if err != nil {
				return err
			}
			if p.asJSON {
				return p.streams.JSON(r)
			}
			p.showReport(r)
			return nil
		},
	}
	return p.jsonFlag(cmd)
}

// report returns what status says.
func (p *program) report() (report, error) {
	b, err := p.look()
	if err == nil {
		return b.report(), nil
	}
	if r, ok := p.plainReport(err); ok {
		return r, nil
	}
	return report{}, err
}

// plainReport returns what there is to say of a box without a root, and whether anything is: it has
// installed an update with release.pub alone, or tried to.
func (p *program) plainReport(problem error) (report, bool) {
	c, err := p.plainConfig()
	if err != nil || len(c.Mirrors) > 0 && c.Root != "" {
		return report{}, false
	}
	s, err := install.ReadStatus(c.State)
	if err != nil || len(s.History) == 0 {
		return report{}, false
	}
	r := p.installedReport(c, s)
	r.Problem = brief(problem.Error())
	return r, true
}

// installedReport returns what is known of installations.
func (p *program) installedReport(c config, s install.Status) report {
	return report{
		Version: version, Config: p.configPath, State: c.State, Product: c.Product,
		Installed: s.Installed, Previous: s.Previous, Attempt: s.Attempt, Failures: s.Failures, AsideTo: s.AsideTo, Reboot: s.Reboot,
		Damaged: s.Damaged, Log: s.Log, Mirrors: []mirrorRecord{}, Window: c.Window.String(),
	}
}

func (b *box) report() report {
	s := b.readStatus()
	root := b.state.Root()
	r := b.installedReport(b.config, s)
	r.Machine, r.Root = b.machine, &trustedRoot{root.Version(), root.Digest(), root.Expires()}
	r.Checked, r.Error = b.record.Checked, b.record.Error
	for _, m := range b.record.Mirrors {
		m.URL = cli.MaskURLs(m.URL)
		r.Mirrors = append(r.Mirrors, m)
	}
	if b.MaxBytesPerDay > 0 {
		left := b.allowance().left()
		r.Today = &left
	}
	repo, err := b.trusted()
	if err != nil {
		r.Problem = brief(err.Error())
		return r
	}
	o := b.offer(repo, s, false)
	r.Known = &o
	return r
}

func (p *program) showReport(r report) {
	p.facts("installed", installedWords(r.Installed, "nothing"), "previous", installedWords(r.Previous, ""))
	if a := r.Attempt; a != nil {
		p.facts("under way", fmt.Sprintf("%v: %s, since %s", a.Name, a.Phase, stamp(a.Started)))
	}
	for _, f := range r.Failures {
		key := "failed"
		if f.SetAside {
			key = "set aside"
		}
		p.facts(key, fmt.Sprintf("%v: %d times, the last at %s: %s", f.Name, f.Count, stamp(f.Last), f.Reason))
	}
	if !r.AsideTo.IsZero() {
		p.facts("set aside", "every version up to "+r.AsideTo.String())
	}
	p.facts("damaged", r.Damaged)
	if r.Reboot != nil {
		p.facts("reboot", "was asked for at "+stamp(r.Reboot.Since))
	}
	p.showKnown(r)
	p.facts("window", r.Window)
	if r.Today != nil {
		p.facts("left today", fmt.Sprint(*r.Today))
	}
	if r.Root != nil {
		p.facts("root", fmt.Sprintf("version %d, expires %s", r.Root.Version, stamp(r.Root.Expires)),
			"fingerprint", r.Root.Fingerprint.String())
	}
	p.facts("machine", r.Machine)
	for _, m := range r.Mirrors {
		p.facts("mirror", m.words())
	}
}

func (p *program) showKnown(r report) {
	if o := r.Known; o != nil {
		p.facts("update", nameOr(o.Update, "none: up to date"))
		p.factsHeld(o.Held)
		p.facts("expires", stamp(o.Expires))
		if !o.Stale.IsZero() {
			p.facts("stale", "since "+stamp(o.Stale)+", let in by accept_stale")
		}
	}
	p.facts("problem", r.Problem)
	if !r.Checked.IsZero() {
		p.facts("checked", stamp(r.Checked))
	}
	p.facts("last error", r.Error)
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func installedWords(in *install.Installed, none string) string {
	if in == nil {
		return none
	}
	return fmt.Sprintf("%v, at %s", in.Name, stamp(in.Time))
}

func (m mirrorRecord) words() string {
	text := m.URL
	if m.Behind {
		text += ", behind another one"
	}
	if !m.Slow.IsZero() {
		text += ", much slower than another one, asked last until " + stamp(m.Slow)
	}
	if !m.Until.IsZero() {
		text += ", not asked before " + stamp(m.Until) + ": " + m.Reason
	}
	return text
}

func (p *program) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which boxup this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			at := ""
			if !p.built.IsZero() {
				at = stamp(p.built)
			}
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if p.asJSON {
				return p.streams.JSON(map[string]string{"version": version, "built": at, "go": runtime.Version(), "platform": platform})
			}
			p.facts("version", version, "built", at, "go", runtime.Version(), "platform", platform)
			return nil
		},
	}
	return p.jsonFlag(cmd)
}
