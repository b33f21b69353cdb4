// Package fetch is the downloader of mirrors and boxes. It brings metadata and archives over HTTP from
// one or more upstreams that nobody has to trust, over links that are slow, capped and cut.
//
// Parties: the upstreams, each a base URL; the client, which asks them; a Sink, which verifies blocks and
// keeps them (store.Ingest is one). What is asked for:
//
//	<base>/metadata/<name>            metadata, conditionally where the caller has a file already
//	<base>/sha256/<digest>.blocks     the block list of an archive
//	<base>/sha256/<digest>            the archive, whole or one range of bytes at a time
//	<base>/targets/<digest>.<name>    the same, from a server that has TUF's paths alone
//
// An archive comes into a store block by block; where no upstream has its block list it comes in one piece, and is judged
// by the digest of the whole:
//
//	bytes, err := fetch.Archives{Client: client, Store: s}.Bring(ctx, rel, nil)
//
// Blocks, Download and Whole are the steps of that. WholeFile brings an archive of which no signed list tells, into a file.
// Send is one request, for whoever asks for something else: publishing, for example, which brings what others fetch.
//
// An upstream that is down, cut or busy is asked again, with growing pauses, while others are asked
// instead. A wrong block is told, and costs that block, which the next one is asked for. An upstream of which several archives
// are wrong is asked last for an hour; one that sends what no damaged disk explains is set aside.
// Nothing that an upstream sends makes the client read without bound: lengths are known beforehand, and
// an answer that is slower than a limit is cut.
//
// A call has these time limits:
//
//	Silence      30 s   from a request on, until its answer begins; then another upstream is asked
//	StallWindow  30 s   an answer that brings fewer than StallRate bytes a second in it is cut
//	Race         30 s   with one upstream; then another one is tried beside it, and asked instead where it is far faster
//	overdue      10 s   in Newest, while nothing comes; then the next upstream is asked beside
//	Patience     2 min  of waiting in all the call, while next to nothing comes; then it ends with ErrUnavailable
//
// Several upstreams share Patience, so that Silence and overdue are less where there are many.
//
// HTTP/1.1 alone is spoken: each download has a connection of its own, so that a cut costs one block of
// one download.
package fetch
