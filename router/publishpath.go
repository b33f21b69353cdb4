package router

import (
	"math"
	"strconv"
	"strings"

	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/update"
)

// A publishPath is a parsed path below /publish. Its kind says which fields count.
type publishPath struct {
	kind    publishKind
	role    trust.Role // trust.RoleRoot or trust.RoleTargets
	version int64      // from 1 on
	id      update.Digest
	digest  update.Digest
	block   int
	at      int64 // the offset in the block, from 0 on
}

// A publishKind is a resource below /publish.
type publishKind int

const (
	publishState    publishKind = iota // /publish/
	publishPending                     // /publish/pending/<id>
	publishProposal                    // /publish/<role>/<version>
	publishArchive                     // /publish/<id>/<digest>
	publishBlocks                      // /publish/<id>/<digest>.blocks
	publishBlock                       // /publish/<id>/<digest>/<block>
	publishPart                        // /publish/<id>/<digest>/<block>/<offset>
	publishCommit                      // /publish/<id>/commit
)

// parsePublishPath parses the part of a path after /publish, from the slash on. Its only error is errNotFound.
func parsePublishPath(s string) (p publishPath, err error) {
	bad := !strings.HasPrefix(s, "/")
	digest := func(s string) update.Digest {
		d, err := update.ParseDigest(s)
		bad = bad || err != nil
		return d
	}
	number := func(s string, least, most int64) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		bad = bad || err != nil || n < least || n > most || strconv.FormatInt(n, 10) != s
		return n
	}
	parts := strings.Split(strings.TrimPrefix(s, "/"), "/")
	role, last := trust.Role(parts[0]), parts[len(parts)-1]
	stem, list := strings.CutSuffix(last, string(blocks))
	switch n := len(parts); {
	case s == "/":
	case n == 2 && (role == trust.RoleRoot || role == trust.RoleTargets):
		p = publishPath{kind: publishProposal, role: role, version: number(last, 1, math.MaxInt32)}
	case n == 2 && parts[0] == "pending":
		p = publishPath{kind: publishPending, id: digest(last)}
	case n == 2 && last == "commit":
		p = publishPath{kind: publishCommit, id: digest(parts[0])}
	case n == 2 && list:
		p = publishPath{kind: publishBlocks, id: digest(parts[0]), digest: digest(stem)}
	case n == 2:
		p = publishPath{kind: publishArchive, id: digest(parts[0]), digest: digest(last)}
	case n == 3 || n == 4:
		most := int64(update.BlockCount(update.MaxLength))
		p = publishPath{kind: publishBlock, id: digest(parts[0]), digest: digest(parts[1]), block: int(number(parts[2], 0, most))}
		if n == 4 {
			p.kind, p.at = publishPart, number(last, 0, update.BlockSize)
		}
	default:
		bad = true
	}
	if bad {
		return publishPath{}, errNotFound
	}
	return p, nil
}

// allow returns the methods that the resource takes, as Allow spells them.
func (p publishPath) allow() string {
	switch p.kind {
	case publishState, publishPending, publishArchive:
		return "GET, HEAD"
	case publishCommit:
		return "POST, PUT"
	}
	return "PUT"
}

// limit returns the bound of the request's body in bytes.
func (p publishPath) limit() int64 {
	switch p.kind {
	case publishProposal:
		return trust.MaxLength(p.role)
	case publishBlocks:
		return int64(update.BlockCount(update.MaxLength)) * int64(len(update.Digest{}))
	case publishBlock:
		return update.BlockSize
	case publishPart:
		return update.BlockSize - p.at
	}
	return 0
}
