// Package mirror keeps a full, verified copy of a repository, over links that are slow, cut and sometimes
// hostile. Nobody has to trust a mirror: what it serves is the bytes that were signed.
//
// Parties: the upstreams, an origin or other mirrors, which package fetch asks; the store, in which the
// copy lies; whoever serves the store.
//
// # A sync
//
//	ask       every upstream for a newer repository, verified from the pinned root; the newest one wins
//	compare   what it lists and the store keeps with what is in place
//	room      refuse what would not fit on the disk, or below the cap, before anything is fetched
//	fetch     archives by digest, several at once, the biggest first, block by block
//	commit    targets, snapshot and, last, the timestamp: from then on the new list is served
//	collect   now and then, archives that are not listed or not kept any more
//
// Until the commit the old repository is served, whole. A sync that is killed or cut at any instant is
// gone on with by the next one: blocks that are on the disk are not fetched again. With nothing new a
// sync is one conditional request.
//
// An upstream that is behind what the mirror has, shows expired metadata, or a mix, changes nothing: it is
// named in the freshness, and the others are asked.
//
// # Files
//
// Beside what package store keeps:
//
//	<dir>/mirror.json  when the last sync was and how it went, for other processes; see Freshness
//
// # Exports
//
// An export carries a repository to where no network leads. It is a POSIX tar archive whose entries are
// regular files in this order, and nothing else:
//
//	export                    the text "box-update-export 1\n"
//	metadata/<N>.root.json    all roots that the exporter has, ascending, at least one
//	metadata/<N>.targets.json
//	metadata/<N>.snapshot.json
//	metadata/timestamp.json
//	sha256/<digest>.blocks    for each archive, in the order of the list: its block list,
//	sha256/<digest>           and the archive
//	end                       empty: without it the export was cut
//
// It is written and read front to back, so that it may go through a pipe. Each entry is named by what
// holds it: metadata are verified from the importer's own pinned root before a byte of an archive is
// read, each block against its block list before it is written, and each block list against the metadata.
// An export made with Since leaves older archives out, and an importer must have them.
package mirror
