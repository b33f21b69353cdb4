// Package update holds the nouns of the Box Update Server: what an update is called, which bytes it
// is made of, and how both are written down. It does no I/O.
//
// An update is an archive with a name and a digest:
//
//	opq-box-update-1550190683.tar.bz2
//	└── product ──┘ └ version┘ └ format
//
// Its checksum line is what sha256sum prints, 64 hex digits, two spaces, the name and a newline:
//
//	e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  opq-box-update-1550190683.tar.bz2
//
// Its block list is the concatenation of the 32-byte SHA-256 digests of its blocks of 4 MiB, in
// order; the last block may be shorter, and an empty archive has no block.
//
// Every parser here is strict: it accepts the one spelling that the matching String or Bytes prints,
// so that an update has exactly one URL, one file name and one line.
package update
