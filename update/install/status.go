package install

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/openpowerquality/box-update-server/update"
)

// Status is the content of the record, for others to read.
type Status struct {
	Version   update.Version `json:"version"`   // the installed one; zero if none is
	Installed *Installed     `json:"installed"` // nil if nothing is
	Previous  *Installed     `json:"previous"`  // what was installed before; nil if nothing was
	Attempt   *Attempt       `json:"attempt"`   // what is under way or was interrupted; nil if nothing is
	Failures  []Failure      `json:"failures"`  // of versions that are not installed, the latest last
	AsideTo   update.Version `json:"aside_to"`  // no version up to this one is tried; zero: each is judged by itself
	Reboot    *Reboot        `json:"reboot"`    // nil if none was asked for
	Damaged   string         `json:"damaged"`   // why what is installed may not work, "" if it should
	History   []Event        `json:"history"`   // the latest last
	Log       string         `json:"log"`       // the path of the log
}

// Installed is an update that was installed.
type Installed struct {
	Name   update.Name   `json:"name"`
	Digest update.Digest `json:"digest"`
	Length int64         `json:"length"` // bytes of the archive
	Time   time.Time     `json:"time"`   // when its installation was recorded
}

// Phase is the phase of an installation.
type Phase string

// The phases in their order. The last two are for an update that failed.
const (
	PhaseBefore Phase = "before" // the hooks of PreHooks run
	PhaseScript Phase = "script" // install_update.sh runs
	PhaseCheck  Phase = "check"  // the script succeeded, the hooks of PostHooks run
	PhaseOver   Phase = "over"   // the installation failed, the hooks of PostHooks run
	PhaseBack   Phase = "back"   // the update before is reinstalled
)

// Attempt is an installation that is under way or was interrupted.
type Attempt struct {
	ID      string        `json:"id"` // 32 hex digits, begins BOXUP_RUN
	Name    update.Name   `json:"name"`
	Digest  update.Digest `json:"digest"`
	Length  int64         `json:"length"`
	Started time.Time     `json:"started"`
	Phase   Phase         `json:"phase"`
	Tries   int           `json:"tries,omitempty"`  // how often Resume started the phase again
	Reason  string        `json:"reason,omitempty"` // what went wrong, in words
	Reboot  bool          `json:"reboot,omitempty"` // a reboot is due if it ends well
	Asked   bool          `json:"asked,omitempty"`  // the script asked for a reboot
}

// run returns the prefix of BOXUP_RUN for the programs that the attempt runs in this phase.
func (a *Attempt) run() string { return fmt.Sprintf("%s.%s.", a.ID, a.Phase) }

// Failure is what is known of an update that failed.
type Failure struct {
	Name     update.Name   `json:"name"`
	Digest   update.Digest `json:"digest"`
	Count    int           `json:"count"`
	Last     time.Time     `json:"last"`
	Reason   string        `json:"reason"` // of the last failure, in words
	SetAside bool          `json:"set_aside"`
}

// Reboot is a reboot that was asked for or is due and has not happened.
type Reboot struct {
	Due   bool      `json:"due"`   // Installer.Reboot carries it out
	Asked bool      `json:"asked"` // by a script
	Since time.Time `json:"since"`
	Boot  string    `json:"boot"` // the boot ID of the machine at that time, "" if it has none
}

// Outcome is how an installation ended.
type Outcome string

// The outcomes.
const (
	OutcomeInstalled   Outcome = "installed"
	OutcomeRefused     Outcome = "refused"     // the archive can't be installed
	OutcomeStopped     Outcome = "stopped"     // a hook of PreHooks failed, or the box itself was at fault
	OutcomeFailed      Outcome = "failed"      // the script failed
	OutcomeInterrupted Outcome = "interrupted" // the script was interrupted
	OutcomeRolledBack  Outcome = "rolled back" // the update before is installed again
	OutcomeDamaged     Outcome = "damaged"     // going back failed
)

// Event is an installation that has ended.
type Event struct {
	Time    time.Time     `json:"time"`
	Name    update.Name   `json:"name"`
	Digest  update.Digest `json:"digest"`
	Outcome Outcome       `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
}

// SetAside reports whether an update is refused because it failed, and why. Another archive of the same name is not
// refused if the release keys were replaced: a thief of the old keys may have listed the one that failed. The zero
// digest stands for any archive.
func (s Status) SetAside(n update.Name, d update.Digest) (reason string, ok bool) {
	for _, f := range s.Failures {
		if f.Name == n && f.SetAside && (f.Digest == d || d.IsZero()) {
			return f.Reason, true
		}
	}
	if n.Version().Compare(s.AsideTo) <= 0 && !s.AsideTo.IsZero() {
		return fmt.Sprintf("so many versions failed that boxup tries none up to %v", s.AsideTo), true
	}
	return "", false
}

// ReadStatus returns the status below a state directory, without the lock and without changing anything. If nothing
// is recorded yet, nothing is installed; that is no error.
func ReadStatus(dir string) (Status, error) {
	dir = filepath.Join(dir, subDir)
	r, _, err := readRecord(dir) // the installer reports damage
	if err != nil {
		return Status{}, err
	}
	return r.status(dir, bootID()), nil
}

// Status returns the present content of the record.
func (i *Installer) Status() Status { return i.rec.status(i.dir, i.c.BootID) }

// status returns a copy that the caller may keep.
func (r record) status(dir, boot string) Status {
	s := Status{
		Installed: copyOf(r.Installed),
		Previous:  copyOf(r.Previous),
		Attempt:   copyOf(r.Attempt),
		Failures:  append([]Failure{}, r.Failures...),
		Damaged:   r.Damaged,
		AsideTo:   r.AsideTo,
		History:   append([]Event{}, r.History...),
		Log:       filepath.Join(dir, logDir, logName),
	}
	if r.Installed != nil {
		s.Version = r.Installed.Name.Version()
	}
	if r.Reboot != nil && r.Reboot.Boot == boot {
		s.Reboot = copyOf(r.Reboot)
	}
	return s
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
