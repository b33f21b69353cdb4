package router

import (
	"time"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Stats is what is known of what is served, and of what keeps it up to date, beyond the catalog. Its
// methods are called concurrently, when somebody looks, and must not block.
type Stats interface {
	// Standing returns how things stand now. The caller does not change it.
	Standing() Standing

	// Conditions returns which boxes an update of the catalog is for, and from when on. The zero value
	// means all of them.
	Conditions(u update.Update) trust.Conditions
}

// Standing is how things stand at one moment, for anyone to see.
type Standing struct {
	Roles      []RoleStanding // in the order in which they are shown; none: nothing is signed
	Unhashed   int            // archives of which the digest is not known yet
	StoreBytes int64          // that archives take
	FreeBytes  int64          // that the disk has left for them
	Scrubbed   time.Time      // when all of them had been read again the last time; zero: not yet
	Damaged    int            // of them that were found damaged by that
	Sync       *SyncStanding  // nil: this is no mirror

	// ClockOff says that an origin signs nothing since its clock is off, or that it was when it signed last.
	ClockOff bool

	// CertificateExpires is when the first of the server's own certificates expires; zero: there is none.
	CertificateExpires time.Time

	// Refusals counts what others than publishers sent that did not verify.
	Refusals map[status.Refusal]int64
}

// RoleStanding is one metadata file.
type RoleStanding struct {
	Role            trust.Role
	Version         int64
	Issued, Expires time.Time
}

// SyncStanding is how a copy is kept up to date. Zero times mean that it never happened.
type SyncStanding struct {
	Synced        bool      // there is something to serve
	Checked       time.Time // when an upstream last showed something that was accepted
	Complete      time.Time // when the copy last was the newest of all upstreams
	SecondsBehind int64
	UpdatesBehind int
	Problem       string    // why no sync goes well, in a word or two; empty: the last one did
	Since         time.Time // since when
	Succeeded     int64     // syncs since the start
	Failed        int64
	Upstreams     []UpstreamStanding
	History       []SyncRecord // the newest first
}

// UpstreamStanding is one upstream.
type UpstreamStanding struct {
	URL      string // without user and password
	Checked  time.Time
	Behind   bool   // it has older metadata than another one, or than the copy
	Problem  string // in a word or two; empty: none
	Received int64  // bytes since the start
}

// SyncRecord is how one sync went.
type SyncRecord struct {
	At       time.Time // its end
	Took     time.Duration
	Archives int   // that were fetched
	Bytes    int64 // of them
	Problem  string
}

// standing returns how things stand, as far as anybody knows.
func (c Config) standing() Standing {
	if c.Stats == nil {
		return Standing{}
	}
	return c.Stats.Standing()
}

func (c Config) conditions(u update.Update) trust.Conditions {
	if c.Stats == nil {
		return trust.Conditions{}
	}
	return c.Stats.Conditions(u)
}
