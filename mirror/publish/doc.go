// Package publish is the signer's side of publishing. A Remote is the repository at a URL: it reads the repository, and
// sends signed lists, roots and archives to its origin. docs/PUBLISH.md is the protocol.
//
// Parties:
//
//	signer  signs lists and roots; has the archives
//	origin  checks the signatures, accepts archives block by block, commits
//
// Nothing that a Remote reads is trusted: a trust.State verifies metadata, archives are compared with their digests, and
// the origin's own answers are bounded and only say what to send next.
//
//	remote, err := publish.New(publish.Config{URL: "https://updates.example.org/box-update-server/"})
//	base, err := state.Refresh(ctx, remote, clock)
//	…
//	err = remote.Publish(ctx, trust.Change{Targets: proposal}, files)
//	base, err = state.Refresh(ctx, remote, clock)
//	err = remote.Check(ctx, release, publish.Ends)
//
// # Cuts and restarts
//
// Once the server has answered, temporary failures (no connection, a cut, 408, 429, 502, 503 and 504) are retried, after
// growing pauses or the Retry-After, until there was no progress for Config.Patience. After a cut the origin is asked what
// has arrived, so that only blocks in flight are sent twice. Another process with the same file continues where this one
// stopped.
//
// The speed of the link is measured only by what the origin has acknowledged. A slow link carries one part of a block at
// a time, so that a cut costs some seconds of it; a fast one carries whole blocks in parallel. An origin that is too old
// to accept parts gets whole blocks on any link.
//
// A stalled request ends: the answer to a part must begin within 2 minutes, the answer to a larger body within 2 minutes
// and its length at 4 kB/s, and each 64 KiB of an answer must come within 30 s.
package publish
