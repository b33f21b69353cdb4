package status

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrRing says that every upstream copies from this mirror: none of them leads to an origin.
var ErrRing = errors.New("all upstreams copy from this mirror, so that nothing new can arrive")

// Versions are the versions of the four files of a repository, 0 if there is none.
type Versions struct {
	Root      int64 `json:"root"`
	Targets   int64 `json:"targets"`
	Snapshot  int64 `json:"snapshot"`
	Timestamp int64 `json:"timestamp"`
}

// Standing is the public state of a server at one moment.
type Standing struct {
	Files      []File     // of metadata, in the order in which they are shown; none: nothing is signed
	Unhashed   int        // archives whose digest is not known yet
	StoreBytes int64      // of archives
	FreeBytes  int64      // on the disk, for archives
	Scrubbed   time.Time  // end of the last scrub; zero: none yet
	Damaged    int        // archives that the last scrub found damaged
	Copy       *Freshness // public; nil: this is no mirror

	// ClockOff says that an origin signs nothing because its clock is off, or that it was when it signed last.
	ClockOff bool

	// CertificateExpires is when the first of the server's own certificates expires; zero: there is none.
	CertificateExpires time.Time

	// Refusals counts received data that did not verify, except from publishers.
	Refusals map[Refusal]int64
}

// File is one metadata file.
type File struct {
	Role            string
	Version         int64
	Issued, Expires time.Time
}

// Freshness is how new a copy is, and how that is known. Times are UTC in whole seconds, and zero times are absent in JSON.
type Freshness struct {
	// Synced is false until the first repository is complete: until then nothing can be served.
	Synced bool `json:"synced"`

	Own      Versions `json:"own"`
	Upstream Versions `json:"upstream"` // the newest that any upstream showed

	// UpdatesBehind is how many updates the newest repository lists that the own one doesn't.
	// SecondsBehind counts from the signed time of the first repository that the own one lacks. Both are 0 if the own
	// one is the newest that is known.
	UpdatesBehind int   `json:"updates_behind"`
	SecondsBehind int64 `json:"seconds_behind"`

	// Checked is when an upstream last showed a repository that was accepted: nothing newer is known. Complete is when
	// the own one last was the newest of all upstreams.
	Checked  time.Time `json:"checked,omitzero"`
	Complete time.Time `json:"complete,omitzero"`

	// Error is why the last sync failed, or makes no progress, and Reason the same in a word or two. Since is when the
	// first of these failures began.
	Error  string    `json:"error,omitempty"`
	Reason Reason    `json:"reason,omitempty"`
	Since  time.Time `json:"error_since,omitzero"`

	// Expires is when boxes begin to refuse the repository, and Expiring the role whose file expires first.
	Expires  time.Time `json:"expires,omitzero"`
	Expiring string    `json:"expiring,omitempty"`
	Expired  bool      `json:"expired"`

	// Ring says that ErrRing holds.
	Ring bool `json:"ring,omitempty"`

	Upstreams []Upstream `json:"upstreams"`

	// Only of the running process.
	Succeeded int64  `json:"-"` // syncs
	Failed    int64  `json:"-"`
	History   []Sync `json:"-"` // the last syncs, the newest first
}

// Upstream is the state of one upstream.
type Upstream struct {
	URL      string    `json:"url"`      // without user and password
	Versions Versions  `json:"versions"` // of the last repository that was accepted
	Checked  time.Time `json:"checked,omitzero"`
	Behind   bool      `json:"behind"`            // it has an older one than another upstream, or than the mirror
	Loop     bool      `json:"loop,omitempty"`    // it copies from this mirror
	Slow     bool      `json:"slow,omitempty"`    // another one was much faster; it is asked last
	Damaged  bool      `json:"damaged,omitempty"` // several of its archives were wrong; it is asked last
	Error    string    `json:"error,omitempty"`   // why its last answer was refused, or it was not reached
	Reason   Reason    `json:"reason,omitempty"`

	Received int64 `json:"-"` // bytes since the process began
}

// Sync is the result of one sync.
type Sync struct {
	At       time.Time // its end
	Took     time.Duration
	Archives int    // fetched
	Bytes    int64  // of these archives
	Reason   Reason // why it failed; "": it did not
}

// Problem returns in a word or two why an upstream is not used, or used last, "" if there is no problem.
func (u Upstream) Problem() string {
	switch {
	case u.Reason != "":
		return string(u.Reason)
	case u.Loop:
		return "copies from here"
	case u.Damaged:
		return "damaged"
	case u.Slow:
		return "slow"
	}
	return ""
}

// Public returns f without messages, which may reveal details of a network.
func (f Freshness) Public() *Freshness {
	f.Error = ""
	f.Upstreams = slices.Clone(f.Upstreams)
	for i := range f.Upstreams {
		f.Upstreams[i].Error = ""
	}
	return &f
}

// Ready reports whether boxes accept the repository.
func (f Freshness) Ready() bool { return f.Synced && !f.Expired }

// Verdict returns nil if the copy is what the upstreams have, as far as is known, and otherwise why it is not, or may not be.
func (f Freshness) Verdict() error {
	switch {
	case !f.Synced:
		return errors.New("not synced")
	case f.Expired:
		return fmt.Errorf("%s expired at %s", f.Expiring, f.Expires.Format(time.RFC3339))
	case f.Error != "" || f.Reason != "":
		return fmt.Errorf("no sync went well since %s", f.Since.Format(time.RFC3339))
	case f.Ring:
		return ErrRing
	case f.SecondsBehind > 0 || f.UpdatesBehind > 0:
		return errors.New("behind the upstream")
	}
	return nil
}
