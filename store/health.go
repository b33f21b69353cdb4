package store

import (
	"fmt"
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// lookEvery is how often Lost looks whether all archives are in place.
const lookEvery = 30 * time.Second

// presence records which archives were not in place at some time.
type presence struct {
	repo *trust.Repository
	at   time.Time
	lost []trust.Release
}

// Lost returns what Missing returns, but at most lookEvery old, for callers that ask often.
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

// WarnOfLost returns a warning about the archives that are listed and not in place, none if all are there. advice
// says how to bring them back.
func (s *Store) WarnOfLost(repo *trust.Repository, at time.Time, advice string) []status.Warning {
	lost := s.Lost(repo, at)
	if len(lost) == 0 {
		return nil
	}
	return []status.Warning{{Subject: "archives", Urgent: true, Text: fmt.Sprintf("%d that are listed can't be served, the first is %v: %s", len(lost), lost[0].Name(), advice)}}
}
