// Package fetch is the downloader of mirrors and boxes. It brings metadata and archives over HTTP from
// one or more upstreams that nobody has to trust, over links that are slow, capped and cut.
//
// Parties: the upstreams, each a base URL; the client, which asks them; a store, which verifies blocks and keeps them.
// The requests:
//
//	<base>/metadata/<name>            metadata, conditionally where the caller has a file already
//	<base>/sha256/<digest>.blocks     the block list of an archive
//	<base>/sha256/<digest>            the archive, whole or one range of bytes at a time
//	<base>/targets/<digest>.<name>    the same, from a server that has TUF's paths alone
//
// An archive comes into a store block by block. If no upstream has its block list, it comes in one piece and is
// verified by the digest of the whole:
//
//	bytes, err := fetch.Archives{Client: client, Store: s}.Bring(ctx, rel, nil)
//
// WholeFile brings an archive that no signed list names into a file. Send
// sends one request, for other purposes such as publishing.
//
// An upstream that is down, cut or busy is asked again after growing pauses, and the others are asked meanwhile. A
// wrong block is logged, and the next upstream is asked for that block alone. An upstream with several wrong archives
// is asked last for an hour; one that sends something that no damaged disk explains is set aside. No upstream can
// make the client read without bound: lengths are known beforehand, and an answer that is slower than a limit is cut.
//
// A call has these time limits:
//
//	Silence      30 s   from a request on, until its answer begins; then another upstream is asked
//	StallWindow  30 s   an answer that brings fewer than StallRate bytes a second in it is cut
//	Race         30 s   with one upstream; then another one is tried too, and asked instead if it is far faster
//	overdue      10 s   in Newest, while nothing comes; then the next upstream is asked too
//	Patience     2 min  of waiting in all the call, while next to nothing comes; then it ends with ErrUnavailable
//
// Upstreams share Patience, so Silence and overdue are shorter if there are many.
//
// The client speaks only HTTP/1.1: each download has a connection of its own, so that a cut costs one block of one
// download.
package fetch
