// Package export carries a repository in a file to where no network leads.
//
// An export is a POSIX tar archive whose entries are
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
package export
