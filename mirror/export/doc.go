// Package export carries a repository in a file to places without a network.
//
// An export is a POSIX tar archive that consists of these regular files, in this order:
//
//	export                    the text "box-update-export 1\n"
//	metadata/<N>.root.json    all roots that the exporter has, ascending, at least one
//	metadata/<N>.targets.json
//	metadata/<N>.snapshot.json
//	metadata/timestamp.json
//	sha256/<digest>.blocks    for each archive, in the order of the list: its block list,
//	sha256/<digest>           and the archive
//	end                       empty; an export without it was cut
//
// It is written and read from front to back, so that it may go through a pipe. An importer verifies the metadata from its
// own pinned root before it reads an archive, each block list against the metadata, and each block against its block list
// before it writes the block. An export with Since leaves out older archives, which the importer must have.
package export
