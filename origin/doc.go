// Package origin is the publishing side of a repository: whatever changes a store goes through an
// Origin, which checks it against the signatures of those who hold the keys.
//
// Parties:
//
//	signer  holds root or release keys; sends what it signed, and archives
//	origin  holds the online key; signs snapshot and timestamp over what the signers signed
//
// A list ("targets") or a root that a signer sends is a proposal. Below its threshold it is pending:
// the one metadata file is kept, for further signers to add their signatures, and nothing else is
// accepted for it. A complete root is committed at once. A complete list is staged: the origin takes
// the archives that it names, block by block, and commits it when all are there.
//
//	outcome, err := o.Propose(ctx, trust.RoleTargets, raw)  // staged under outcome.ID
//	err = o.PutBlocks(ctx, outcome.ID, digest, list)        // for each of outcome.Archives
//	err = o.PutBlock(ctx, outcome.ID, digest, i, block)     // for each block that is missing, or
//	err = o.PutPart(ctx, outcome.ID, digest, i, at, part)   // for each part of it, on a slow link
//	current, err := o.Commit(ctx, outcome.ID)
//
// Nothing but signatures authorizes a caller. The ID of a staged list is the digest of its file with
// all signatures: who knows it holds what the threshold signed, and can bring no byte that the
// signers did not name. Every call may be repeated, by another process too, and after a restart
// of the origin.
//
// # Files
//
// Beside what package store keeps:
//
//	<dir>/staging/publish/<version>.<role>.<digest>.<unix time>  a proposal, as signed so far
//	<dir>/staging/publish/<digest>.blocks                        a block list, by its own digest
//
// Both are named by what is in them, are written durably, and are gone when the proposal went out, no
// longer follows what is published, or was kept for a week. What an earlier boxsign left waiting in a directory,
// <dir>/staging/<N>.<role>.json, is taken over by Open.
//
// A signer who publishes in a directory of this computer opens an Origin on it as well: see Config.Local.
package origin
