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
package mirror
