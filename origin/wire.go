package origin

import (
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// State is what a signer needs to know before it signs.
type State struct {
	status.Versions

	// Reserved is the highest version of a list that was signed and may still be published, 0 for none. The next list
	// gets a higher one.
	Reserved int64 `json:"reserved"`

	// Staged are the versions of the complete lists that wait for archives, ascending. Their IDs are secret; their
	// signers have them.
	Staged []int64 `json:"staged"`

	Pending []Pending `json:"pending"`
}

// Pending is a proposal that lacks signatures.
type Pending struct {
	Role    trust.Role    `json:"role"` // trust.RoleRoot or trust.RoleTargets
	Version int64         `json:"version"`
	ID      update.Digest `json:"sha256"` // of the file as signed so far
	Since   time.Time     `json:"since"`
	Needs   []Need        `json:"needs"`
}

// Need is one threshold of a proposal.
type Need struct {
	Root      int64      `json:"root"` // the root that asks
	Role      trust.Role `json:"role"`
	Threshold int        `json:"threshold"`
	Have      []keys.ID  `json:"have"`    // who signed
	Missing   []keys.ID  `json:"missing"` // who could sign
}

func needsOf(p *trust.Proposal) []Need {
	var out []Need
	for _, n := range p.Needs() {
		out = append(out, Need{n.Root, n.Role, n.Threshold, ids(n.Have), ids(n.Missing)})
	}
	return out
}

func ids(ks []keys.Public) []keys.ID {
	out := []keys.ID{}
	for _, k := range ks {
		out = append(out, k.ID())
	}
	return out
}

// Status is the status of a proposal.
type Status string

// The statuses.
const (
	StatusPending   Status = "pending"   // it is kept, and needs more signatures
	StatusStaged    Status = "staged"    // it is complete, and needs its archives and Commit
	StatusCommitted Status = "committed" // it is published
)

// Outcome is the answer to a proposal.
type Outcome struct {
	Status  Status          `json:"status"`
	ID      update.Digest   `json:"id"`      // the digest of the file, with all signatures that came for it
	Current status.Versions `json:"current"` // what is published now

	Needs    []Need    `json:"needs,omitempty"`    // of a pending one
	Archives []Archive `json:"archives,omitempty"` // of a staged list: those that are not in place
}

// Archive is an archive of a staged list that is not in place yet.
type Archive struct {
	Name    update.Name   `json:"name"`
	Digest  update.Digest `json:"sha256"`
	Length  int64         `json:"length"`
	Blocks  bool          `json:"blocks"`  // the block list is here; it comes before the blocks
	Missing []Range       `json:"missing"` // the blocks that are not here

	// Begun are missing blocks of which the first bytes are here. It is nil if the origin is too old to accept a block
	// in parts.
	Begun []Begun `json:"begun"`
}

// Begun is how many bytes of a block are here: the next part begins there.
type Begun struct {
	Block int   `json:"block"`
	Have  int64 `json:"have"`
}

// Range is a range of blocks: from the first number up to, but not including, the second.
type Range [2]int

// ranges returns ascending numbers as ranges.
func ranges(numbers []int) []Range {
	out := []Range{}
	for _, i := range numbers {
		if n := len(out); n > 0 && out[n-1][1] == i {
			out[n-1][1]++
			continue
		}
		out = append(out, Range{i, i + 1})
	}
	return out
}
