package status

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrRing says that every upstream copies from this mirror: no way leads to an origin.
var ErrRing = errors.New("all upstreams copy from this mirror, so that nothing new can arrive")

// Versions are those of the four files of a repository, 0 where there is none.
type Versions struct {
	Root      int64 `json:"root"`
	Targets   int64 `json:"targets"`
	Snapshot  int64 `json:"snapshot"`
	Timestamp int64 `json:"timestamp"`
}

// Standing is how a server stands at one moment, for anyone to see.
type Standing struct {
	Files      []File     // of metadata, in the order in which they are shown; none: nothing is signed
	Unhashed   int        // archives of which the digest is not known yet
	StoreBytes int64      // that archives take
	FreeBytes  int64      // that the disk has left for them
	Scrubbed   time.Time  // when all of them had been read again the last time; zero: not yet
	Damaged    int        // of them that were found damaged by that
	Copy       *Freshness // public; nil: this is no mirror

	// ClockOff says that an origin signs nothing since its clock is off, or that it was when it signed last.
	ClockOff bool

	// CertificateExpires is when the first of the server's own certificates expires; zero: there is none.
	CertificateExpires time.Time

	// Refusals counts what others than publishers sent that did not verify.
	Refusals map[Refusal]int64
}

// File is one metadata file.
type File struct {
	Role            string
	Version         int64
	Issued, Expires time.Time
}

// Freshness is how new a copy is, and how that is known. Times are UTC in whole seconds, and absent in
// JSON where there is none.
type Freshness struct {
	// Synced is false until the first repository is complete: until then nothing can be served.
	Synced bool `json:"synced"`

	Own      Versions `json:"own"`
	Upstream Versions `json:"upstream"` // the newest that any upstream showed

	// UpdatesBehind is how many updates the newest repository lists that the own one doesn't.
	// SecondsBehind counts from when the first repository was issued that the own one lacks, by its
	// signed time. Both are 0 where the own one is the newest that is known.
	UpdatesBehind int   `json:"updates_behind"`
	SecondsBehind int64 `json:"seconds_behind"`

	// Checked is when an upstream last showed a repository that was accepted: what is newer than that
	// can't be known. Complete is when the own one last was the newest of all upstreams.
	Checked  time.Time `json:"checked,omitzero"`
	Complete time.Time `json:"complete,omitzero"`

	// Error is why the last sync failed, or does not get on, and Reason the same in a word or two. Since is
	// when the first one did after which none went well.
	Error  string    `json:"error,omitempty"`
	Reason Reason    `json:"reason,omitempty"`
	Since  time.Time `json:"error_since,omitzero"`

	// Expires is when boxes begin to refuse what is served, and Expiring the role whose file expires
	// first.
	Expires  time.Time `json:"expires,omitzero"`
	Expiring string    `json:"expiring,omitempty"`
	Expired  bool      `json:"expired"`

	// Ring says that ErrRing holds.
	Ring bool `json:"ring,omitempty"`

	Upstreams []Upstream `json:"upstreams"`

	// Of the running process alone.
	Succeeded int64  `json:"-"` // syncs
	Failed    int64  `json:"-"`
	History   []Sync `json:"-"` // the last syncs, the newest first
}

// Upstream is what one upstream showed last.
type Upstream struct {
	URL      string    `json:"url"`      // without user and password
	Versions Versions  `json:"versions"` // of the last repository that was accepted
	Checked  time.Time `json:"checked,omitzero"`
	Behind   bool      `json:"behind"`            // it has an older one than another upstream, or than the mirror
	Loop     bool      `json:"loop,omitempty"`    // it copies from this mirror
	Slow     bool      `json:"slow,omitempty"`    // another one was much faster: it is asked last
	Damaged  bool      `json:"damaged,omitempty"` // several of its archives were wrong: it is asked last
	Error    string    `json:"error,omitempty"`   // why it was refused, or not reached, the last time
	Reason   Reason    `json:"reason,omitempty"`

	Received int64 `json:"-"` // bytes since the process began
}

// Sync is how one sync went.
type Sync struct {
	At       time.Time // its end
	Took     time.Duration
	Archives int    // that were fetched
	Bytes    int64  // of them
	Reason   Reason // why it failed; "": it went well
}

// Problem says in a word or two why an upstream is not used, or used last: "" for none.
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

// Public returns what anyone may see: without messages, which tell of what lies inside a network.
func (f Freshness) Public() *Freshness {
	f.Error = ""
	f.Upstreams = slices.Clone(f.Upstreams)
	for i := range f.Upstreams {
		f.Upstreams[i].Error = ""
	}
	return &f
}

// Ready reports whether boxes accept what is served at the time of a Freshness.
func (f Freshness) Ready() bool { return f.Synced && !f.Expired }

// Verdict returns nil for a copy that is what upstream has, as far as is known, and else why it is not, or may not be.
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
