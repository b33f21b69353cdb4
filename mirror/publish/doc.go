// Package publish is the signer's side of publishing: a Remote is the repository at a URL, which it
// reads, and to whose origin it brings what was signed. docs/PUBLISH.md is the protocol.
//
// Parties:
//
//	signer  signs lists and roots; has the archives
//	origin  checks the signatures, takes archives block by block, commits
//
// Nothing that a Remote reads is trusted: metadata go through a trust.State, archives are compared with
// their digests, and the origin's own answers are bounded and only say what to send next.
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
// Once the server has answered, what fails for now (no connection, a cut, 408, 429, 502, 503 and 504) is
// tried again, with growing pauses or when Retry-After says, until nothing has gone forward for
// Config.Patience. After a cut the origin is asked what has arrived, so that only blocks whose way was cut
// are sent twice. Another process goes on with the same file where this one stopped.
//
// What the origin has acknowledged, and nothing else, says how fast the link is. A slow one carries one part
// of a block at a time, so that a cut or a stop costs some seconds of it; a fast one carries whole blocks in
// parallel. An origin that is too old to take parts gets whole blocks on any link.
//
// A request ends when it stalls: the answer to a part must begin within 2 minutes, to a larger body within
// what it takes at 4 kB/s beyond that, and each 64 KiB of an answer must pass within 30 s.
package publish
