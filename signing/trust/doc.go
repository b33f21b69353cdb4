// Package trust holds the signed metadata of a repository, The Update Framework 1.0: what a signer
// makes, an origin publishes, a mirror passes on and a box believes.
//
// Parties and roles:
//
//	root       root keys, offline, k of n   says who holds which role           1 year
//	targets    release keys, offline, k of n  lists the updates                 1 year
//	snapshot   online key, on the origin    names the newest targets file      30 days
//	timestamp  online key, on the origin    names the newest snapshot           7 days
//
// Files: N.root.json, N.targets.json and N.snapshot.json never change under their number, and
// timestamp.json is replaced. Each is one line of canonical JSON, so that its content has one
// spelling, and is kept as the bytes that were signed:
//
//	{"signatures":[{"keyid":"<key ID>","sig":"<128 hex digits>"}],"signed":{…}}
//
// All four are read by structs of this package, after their length and spelling were checked. Other clients of the
// standard are in its tests alone: they accept what it makes, and what they refuse it refuses, too.
//
// Keys are Ed25519, hashes SHA-256; whatever names a file gives its length, hash and version. All
// times are UTC in whole seconds. Beyond the standard, each signed part carries "issued", the time at
// which it was signed. A target's path is the name of an update, and its custom field holds:
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
// Who signs a list that others have signed can't change it; such a cosigner's detached signatures
// stand in its signature entry, {"keyid":…,"sig":…,"updates":{"<name>":"<128 hex digits>"}}, and the
// next list takes them into custom.
//
// Reading. A State is a directory of metadata that was verified before. Refresh asks a Fetcher for
// what is new and returns a Repository; Commit makes it the current one. A Repository, and each
// Release in it, exists only verified.
//
//	state, err := trust.Open(trust.Config{Dir: dir, Pinned: root})
//	repo, err := state.Refresh(ctx, mirror, trust.Clock{Now: time.Now()})
//	err = state.Commit(repo)
//
// Writing. Init makes a repository. EditTargets and EditRoot make a Proposal, which Plan describes and
// which may need more signatures (Cosign, Merge) until it is Complete; whoever receives one checks it
// with CheckTargets or CheckRoot. Next makes of complete proposals the repository that follows:
//
//	edit, err := repo.EditTargets(state.Ledger(), 0, now)
//	err = edit.Add(addition)
//	proposal, err := edit.Sign(ctx, release)
//	next, err := repo.Next(ctx, now, trust.Change{Targets: proposal}, online)
//
// A signer refreshes a State of its own beside its keys from whatever it signs on, with Clock.Repair
// set, and commits there what it published: a base older than it has seen is ErrRollback.
//
// Replacing a key takes two roots, so that whatever is published is accepted at every instant: the
// first adds the new key, then something signed by the new key is published, and the second root drops
// the old key. From the second on, boxes forget the versions that the old online key counted.
//
// A name keeps its digest for ever: the Ledger of each State remembers withdrawn names too.
package trust
