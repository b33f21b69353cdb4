// Package mirror keeps a verified copy of a repository, over links that are slow, cut and sometimes hostile. Nobody has
// to trust a mirror, because it serves the bytes that were signed.
//
// Parties: the upstreams, an origin or other mirrors, which package fetch asks; the store, which has the copy; and the
// server of the store.
//
// # A sync
//
//	ask       every upstream for a newer repository, verified from the pinned root; the newest one wins
//	compare   what it lists, and the store keeps, with what is in place
//	room      refuse, before anything is fetched, what would not fit on the disk or below the limit
//	fetch     archives by digest, several at once, the biggest first, block by block
//	commit    targets, snapshot and, last, the timestamp: from then on the new list is served
//	collect   once a day, archives that are not listed or not kept any more
//
// Until the commit, the old repository is served, whole. If a sync is killed or cut, the next one continues: it does not
// fetch again the blocks that are on the disk. If there is nothing new, a sync is one conditional request.
//
// An upstream that is behind the mirror, or shows expired or inconsistent metadata, changes nothing. The freshness names
// it, and the others are asked.
//
// # Files
//
// Beside what package store keeps:
//
//	<dir>/mirror.json  the result of the last sync, for other processes; see Freshness
package mirror
