package archive

import "cmp"

// Limits bound what an archive may ask of whoever reads it. A field that is zero has the default.
type Limits struct {
	Entries int    // entries and the directories that only their contents name; 200,000
	Name    int    // bytes in the name of an entry or the target of a link; 1,024
	Bytes   int64  // bytes of the tar archive, unpacked; 16 GiB
	Window  uint64 // bytes of zstd's window, which a reader holds in memory; 8 MiB (RFC 8878, 3.1.1.1.2)
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Entries: cmp.Or(l.Entries, 200_000),
		Name:    cmp.Or(l.Name, 1024),
		Bytes:   cmp.Or(l.Bytes, 16<<30),
		Window:  cmp.Or(l.Window, zstdWindow),
	}
}
