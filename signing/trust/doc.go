// Package trust holds the signed metadata of a repository, The Update Framework 1.0: what a signer makes, an origin
// publishes, a mirror passes on and a box believes.
//
// Parties and roles:
//
//	root       root keys, offline, k of n     names the keys of each role       1 year
//	targets    release keys, offline, k of n  lists the updates                 1 year
//	snapshot   online key, on the origin      names the newest targets file    30 days
//	timestamp  online key, on the origin      names the newest snapshot         7 days
//
// Files: N.root.json, N.targets.json and N.snapshot.json never change under their number, and timestamp.json is
// replaced. Each is one line of canonical JSON, so that its content has one spelling, and is kept as the bytes that
// were signed:
//
//	{"signatures":[{"keyid":"<key ID>","sig":"<128 hex digits>"}],"signed":{…}}
//
// This package reads all four with structs of its own, after it has checked their length and spelling. Its tests
// compare it with other clients of the standard: they accept what it makes, and it refuses whatever they refuse.
//
// Keys are Ed25519 and hashes are SHA-256. A file that names another gives its length, hash and version. All times
// are UTC in whole seconds. Beyond the standard, each signed part carries "issued", the time at which it was signed.
// A target's path is the name of an update, and its custom field holds:
//
//	{"blocks":"<digest of the block list>",
//	 "hardware":["…"],                     for these boxes only; optional
//	 "min_version":"<version>",            to be installed over this or newer; optional
//	 "rollout":{"paused_at":60,"steps":[{"after":0,"percent":5}]},  seconds from time on; optional
//	 "sigs":{"<key ID>":"<128 hex digits>"},  detached signatures, see package signing
//	 "time":"2026-01-31T12:00:00Z",        when it was published
//	 "unpacked":1234,                      bytes, 0 where not known
//	 "version":"<version>"}                that of the name
//
// A cosigner signs a list that others have signed already and can't change it. Its detached signatures are therefore
// in its signature entry, {"keyid":…,"sig":…,"updates":{"<name>":"<128 hex digits>"}}, and the next list takes them
// into custom.
//
// Reading. A State is a directory of verified metadata. Refresh asks a Fetcher for newer metadata and returns a
// Repository; Commit makes it the current one. A Repository, and each Release in it, exists only verified.
//
//	state, err := trust.Open(trust.Config{Dir: dir, Pinned: root})
//	repo, err := state.Refresh(ctx, mirror, trust.Clock{Now: time.Now()})
//	err = state.Commit(repo)
//
// Writing. Init makes a repository. EditTargets and EditRoot begin an edit, and Sign makes it a Proposal, which Plan
// describes. Cosign and Merge add signatures until it is Complete. Whoever receives a proposal checks it with
// CheckTargets or CheckRoot. Next makes the repository that follows from complete proposals:
//
//	edit, err := repo.EditTargets(state.Ledger(), 0, now)
//	err = edit.Add(addition)
//	proposal, err := edit.Sign(ctx, release)
//	next, err := repo.Next(ctx, now, trust.Change{Targets: proposal}, online)
//
// A signer keeps a State of its own beside its keys. It refreshes that State, with Clock.AcceptExpired set, from the
// repository that it is about to change, and commits there what it published. A base that is older than it has seen
// is ErrRollback.
//
// Replacing a key takes two roots, so that boxes accept what is published at every instant: the first root adds the
// new key, then something signed by the new key is published, and the second root drops the old key. From the second
// on, boxes no longer compare with the versions that the old online key signed.
//
// A name keeps its digest for ever: the Ledger of each State remembers withdrawn names too.
package trust

import (
	"errors"

	"github.com/openpowerquality/box-update-server/status"
)

// The errors that a caller may branch on. Each refusal wraps one of them and says which file, role, version or key is
// at fault, what was expected, and what to do.
var (
	ErrMalformed    error = status.Malformed    // a file is not what its role requires, whoever signed it
	ErrThreshold    error = status.Threshold    // too few keys of a role signed a file
	ErrExpired      error = status.Expired      // a file is past its expiry at the reference time
	ErrRollback     error = status.Rollback     // metadata are older than what was accepted before
	ErrFork         error = status.Fork         // two different files carry one version, or two roots are no chain
	ErrMismatch     error = status.Mismatch     // a file is not the one that the signed file above it names
	ErrSecondDigest error = status.SecondDigest // a name is offered with another digest than it had before
	ErrConflict     error = status.Conflict     // a proposal does not follow the repository to which it is offered
	ErrStranded     error = status.Stranded     // a new root would no longer accept what is published now
	ErrClock        error = status.Clock        // the clock of the signing computer, or this one, is off
	ErrAhead        error = status.ClockBehind  // by this clock, the published timestamp was signed in the future
	ErrJump         error = status.ClockAhead   // this clock is too far ahead of all signed times to be believed
	ErrKey          error = status.Key          // a key does not have the role
	ErrTooMany      error = status.TooMany      // a list would exceed MaxUpdates
	ErrNotFound     error = status.NoMetadata   // a file is not there; a Fetcher says so of its source

	// ErrUnchanged is what a Fetcher returns if its source says that the caller's file is the current one.
	ErrUnchanged = errors.New("metadata unchanged")

	ErrNone = errors.New("no complete repository") // a directory holds no complete repository
)
