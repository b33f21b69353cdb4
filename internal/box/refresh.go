package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// Bounds for requests to mirrors.
const (
	connections    = 2                // open at a time, to each mirror
	longestBackoff = 20 * time.Second // a longer pause can only be one that a mirror asked for
)

// fetchConfig returns the configuration of a client, without upstreams.
func (b *Box) fetchConfig(c config) (fetch.Config, error) {
	authorities, err := c.certificates()
	if err != nil {
		return fetch.Config{}, err
	}
	if c.Patience == 0 {
		c.Patience = -1 // each server is asked once
	}
	return fetch.Config{
		Redirects: c.Redirects, Roots: authorities, UserAgent: b.userAgent(), Rate: c.Rate, Jitter: b.Random,
		Connections: connections, MaxBackoff: longestBackoff, MaxRetryAfter: longestPause, Patience: c.Patience,
	}, nil
}

// connect makes the client, unless there is one. Its upstreams are the mirrors that did not ask for a pause. If
// all did, the error is fetch.ErrUnavailable.
func (s *session) connect() error {
	if s.client != nil {
		return nil
	}
	ask, first := s.record.mirrorsToAsk(s.Now())
	if len(ask) == 0 {
		return errPaused("every mirror asked for a pause, the first", first)
	}
	c, err := s.fetchConfig(s.config)
	if err != nil {
		return err
	}
	c.Progress = s.Progress
	if len(ask) > 1 { // with a single mirror, the error says everything
		c.Logger = s.Logger
	}
	for _, m := range ask {
		c.Upstreams = append(c.Upstreams, m.URL)
	}
	client, err := fetch.New(c)
	if err != nil {
		return err
	}
	for i, u := range client.Upstreams() {
		u.SetBehind(ask[i].Behind)
		if left := ask[i].Slow.Sub(s.Now()); left > 0 && left <= longestPause { // a longer time came from a wrong clock
			u.SetSlow(time.Now().Add(left))
		}
	}
	s.client, s.asked = client, ask
	return nil
}

// errPaused is the error of asking nobody because of the pause that m asked for. who says who asked for one.
func errPaused(who string, m Mirror) error {
	return status.WithCode(fmt.Errorf("%w: %s until %s: %s", fetch.ErrUnavailable, who, m.Until.UTC().Format(time.RFC3339), m.Reason), status.ExitUnavailable)
}

// noteMirrors records the state of the client's mirrors: which are behind or slow, and which asked for a pause.
func (s *session) noteMirrors() {
	if s.client == nil {
		return
	}
	now := time.Now()
	for i, u := range s.client.Upstreams() {
		st := u.State()
		m := s.record.mirrorOf(s.asked[i].URL)
		m.Behind, m.Slow = st.Behind, time.Time{}
		if left := st.Slow.Sub(now); left > 0 {
			m.Slow = s.Now().Add(left).UTC().Truncate(time.Second)
		}
		m.Until, m.Reason = restOf(st, now, s.Now())
	}
}

// restOf returns the end of the pause that a server asked for, and why it did; the zero time if it asked for none. s.Until is by the
// clock of the process, which shows now; the result is by the clock of the box, which shows at.
func restOf(s fetch.State, now, at time.Time) (until time.Time, reason string) {
	wait := s.Until.Sub(now)
	if s.Refused || wait <= longestBackoff {
		return time.Time{}, ""
	}
	return at.Add(wait.Round(time.Second)).UTC().Truncate(time.Second), brief(s.Reason)
}

// refresh asks the mirrors for newer metadata, and returns the newest repository, which is trusted from then on.
//
// If the first mirror has nothing new, that takes one request, and once a day a second one for a newer root. The other
// mirrors are asked too if there is something new, or if the metadata are so old that the origin must have renewed them.
// A mirror that is behind is asked last from then on.
func (s *session) refresh(ctx context.Context) (*trust.Repository, error) {
	repo, err := s.askMirrors(ctx)
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), err) // errors after an interruption say nothing about a mirror
	}
	s.noteMirrors()
	s.record.RootsAsked = s.state.RootsAsked().UTC().Truncate(time.Second)
	if err == nil {
		s.record.Checked, s.record.Error = s.Now().UTC().Truncate(time.Second), ""
	} else {
		s.record.Error = brief(err.Error())
	}
	return repo, errors.Join(status.Coded(err), status.Coded(s.saveRecord()))
}

func (s *session) askMirrors(ctx context.Context) (*trust.Repository, error) {
	if err := s.connect(); err != nil {
		return nil, err
	}
	before, _ := s.state.Current() // nil: none yet
	repo, err := s.client.Newest(ctx, fetch.Search{
		Trusted: s.state, Clock: s.clock(),
		Enough: func(r *trust.Repository) bool { return r == before && !r.RenewalDue(s.at(r)) },
	})
	if err != nil || repo == before {
		return repo, err
	}
	for _, bound := range s.state.Ledger().Rebound(repo) {
		s.warn("%v", bound)
	}
	return repo, s.state.Commit(repo)
}

// brief returns a message on one line of at most maxReason bytes, without passwords of URLs.
func brief(s string) string {
	s = explain.MaskURLs(strings.ReplaceAll(s, "\n", "; "))
	return strings.ToValidUTF8(s[:min(len(s), maxReason)], "")
}

// refused gives an error the exit code of a refusal. An error of a local file gets its own code instead.
func refused(err error) error {
	var local *fs.PathError
	if disk.Fault(err) || errors.As(err, &local) {
		return status.Coded(err)
	}
	return status.WithCode(err, status.ExitRefused)
}

// unreachable reports whether the only reason for an error is that mirrors were down or busy: none sent anything that was
// refused.
func unreachable(err error) bool {
	for _, e := range []error{fetch.ErrRefused, trust.ErrRollback, trust.ErrExpired} {
		if errors.Is(err, e) {
			return false
		}
	}
	return errors.Is(err, fetch.ErrUnavailable) && !status.Hostile(err)
}
