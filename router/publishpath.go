package router

import (
	"fmt"
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

const (
	pendingPart = "pending"
	commitPart  = "commit"
)

// parsePublishPath parses the part of a path after /publish, from the slash on. Every error is errNotFound.
func parsePublishPath(s string) (publishPath, error) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(s, "/"), "/")
	var p publishPath
	var err error
	switch role := trust.Role(first); {
	case role == trust.RoleRoot || role == trust.RoleTargets:
		p.kind, p.role = publishProposal, role
		p.version, err = strconv.ParseInt(rest, 10, 32)
		if p.version < 1 {
			p.version = 1 // String spells it differently, so s is refused below
		}
	case first == pendingPart:
		p.kind = publishPending
		p.id, err = update.ParseDigest(rest)
	case first != "":
		p, err = parseStagedPath(first, rest)
	}
	if err != nil {
		return publishPath{}, fmt.Errorf("%w: %w", errNotFound, err)
	}
	if p.String() != s { // numbers have other spellings
		return publishPath{}, errNotFound
	}
	return p, nil
}

// parseStagedPath parses an ID and what follows it.
func parseStagedPath(id, rest string) (p publishPath, err error) {
	if p.id, err = update.ParseDigest(id); err != nil {
		return p, err
	}
	if rest == commitPart {
		p.kind = publishCommit
		return p, nil
	}
	digest, block, inside := strings.Cut(rest, "/")
	block, at, part := strings.Cut(block, "/")
	stem, list := strings.CutSuffix(digest, string(blocks))
	if p.digest, err = update.ParseDigest(stem); err != nil {
		return p, err
	}
	p.kind = publishArchive
	switch {
	case list:
		p.kind = publishBlocks
	case inside:
		p.kind = publishBlock
		p.block, err = strconv.Atoi(block)
		p.block = max(0, min(p.block, update.BlockCount(update.MaxLength)))
	}
	if part && err == nil {
		p.kind = publishPart
		p.at, err = strconv.ParseInt(at, 10, 64)
		p.at = max(0, min(p.at, update.BlockSize)) // any other number is spelled differently, too
	}
	return p, err
}

// String returns what parsePublishPath parses.
func (p publishPath) String() string {
	switch p.kind {
	case publishState:
		return "/"
	case publishPending:
		return "/" + pendingPart + "/" + p.id.String()
	case publishProposal:
		return fmt.Sprintf("/%s/%d", p.role, p.version)
	case publishCommit:
		return "/" + p.id.String() + "/" + commitPart
	case publishBlocks:
		return "/" + p.id.String() + "/" + p.digest.String() + string(blocks)
	case publishBlock:
		return fmt.Sprintf("/%v/%v/%d", p.id, p.digest, p.block)
	case publishPart:
		return fmt.Sprintf("/%v/%v/%d/%d", p.id, p.digest, p.block, p.at)
	}
	return "/" + p.id.String() + "/" + p.digest.String()
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
