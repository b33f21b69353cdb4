// Package origin is the publishing side of a repository: every change of a store goes through an Origin, which checks
// the signatures of the signers.
//
// Parties:
//
//	signer  holds root or release keys; sends signed roots and lists, and archives
//	origin  holds the online key; signs snapshot and timestamp
//
// A root or a list ("targets") that a signer sends is a proposal. Below its threshold it is pending: the origin keeps
// its file, so that further signers can add their signatures, and accepts nothing else for it. A complete root is
// committed at once. A complete list is staged: the origin accepts the archives that it names, block by block, and
// commits it when all have arrived.
//
//	outcome, err := o.Propose(ctx, trust.RoleTargets, raw)  // staged under outcome.ID
//	err = o.PutBlocks(ctx, outcome.ID, digest, list)        // for each of outcome.Archives
//	err = o.PutBlock(ctx, outcome.ID, digest, i, block)     // for each block that is missing, or
//	err = o.PutPart(ctx, outcome.ID, digest, i, at, part)   // for each part of it, on a slow link
//	current, err := o.Commit(ctx, outcome.ID)
//
// Only signatures authorize a caller. The ID of a staged list is the digest of its file with all signatures. A caller
// who knows it has what the threshold signed, and can bring only bytes that the signers named. Every call may be
// repeated, also by another process and after a restart of the origin.
//
// # Files
//
// Beside what package store keeps:
//
//	<dir>/staging/publish/<version>.<role>.<digest>.<unix time>        a proposal, as signed so far
//	<dir>/staging/publish/<version>.<role>.<digest>.<unix time>.local  one that the signer of the directory keeps
//	<dir>/staging/publish/<digest>.blocks                              a block list, by its own digest
//
// All are named by their content and durable. They are removed when the proposal is published, does not follow what
// is published any more, or was kept for a week.
//
// A signer who publishes in a directory of this computer also opens an Origin on it: see Config.Local. What that Origin
// keeps has no time limit. When a server opens the directory later, it takes over the proposals that lack signatures, and
// keeps them for a week from then. It leaves alone complete ones, which their signer holds back, and those that are damaged
// or that it can't read. It treats alike what an earlier boxsign left, <dir>/staging/<N>.<role>.json.
package origin
