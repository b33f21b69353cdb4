package store

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
)

// A Warning is something that a person should see to. Whatever tells how a server is goes by the same warnings:
// the status document, the probes, the status page, the metrics and the commands. docs/SERVING.md says how.
type Warning struct {
	Subject string `json:"subject,omitempty"` // what it is about, such as archives; "" where the text says it
	Urgent  bool   `json:"urgent"`            // something is refused or not served, or soon will be
	Text    string `json:"text"`              // one line: what is wrong, since or until when, and what to do
}

// String returns the warning as one line.
func (w Warning) String() string {
	if w.Subject == "" {
		return w.Text
	}
	return w.Subject + ": " + w.Text
}

// lookEvery is how often Lost looks whether all archives are in place.
const lookEvery = 30 * time.Second

// presence is which archives were not in place at some time.
type presence struct {
	repo *trust.Repository
	at   time.Time
	lost []trust.Release
}

// Lost returns what Missing does, as it was at most lookEvery before a time, for those who ask often.
func (s *Store) Lost(repo *trust.Repository, at time.Time) []trust.Release {
	s.mu.Lock()
	last := s.looked
	s.mu.Unlock()
	if since := at.Sub(last.at); last.repo == repo && since >= 0 && since < lookEvery {
		return last.lost
	}
	now := presence{repo, at, s.Missing(repo)}
	s.mu.Lock()
	s.looked = now
	s.mu.Unlock()
	return now.lost
}

// WarnOfLost returns a warning of the archives that are listed and not in place, none where all are. advice says what
// brings them back.
func (s *Store) WarnOfLost(repo *trust.Repository, at time.Time, advice string) []Warning {
	lost := s.Lost(repo, at)
	if len(lost) == 0 {
		return nil
	}
	return []Warning{{"archives", true, fmt.Sprintf("%d that are listed can't be served, the first is %v: %s", len(lost), lost[0].Name(), advice)}}
}
