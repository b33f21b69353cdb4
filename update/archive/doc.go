// Package archive builds, inspects and unpacks the archives that updates are made of.
//
// An update named <product>-<N>.<format> is a tar archive, compressed with bzip2 (tar.bz2), gzip
// (tar.gz) or zstd (tar.zst; RFC 8878 with a window of 8 MiB at most). A proper update has exactly
// one top directory, which holds at least the version and the script that installs it:
//
//	opq-box-update-1550190683/
//	opq-box-update-1550190683/VERSION              the digits of N and a newline
//	opq-box-update-1550190683/install_update.sh    a regular file that may be executed
//	opq-box-update-1550190683/…                    what the script installs
//
// The first archives of opq-box-update call the file "version"; it counts if there is no VERSION. White space around
// the digits is accepted.
//
// Entries are regular files, directories, symbolic links that stay inside the top directory, and hard links to earlier
// files. Everything else is refused by name: absolute names and "..", devices, FIFOs, sparse files, files with setuid
// or setgid bits, names that occur twice, that lie below something other than a directory, that are too long, are not
// UTF-8 or have control characters. A symbolic link may have ".." only at the beginning of its target, so that its
// destination does not depend on other links.
//
// The compressed stream may be several streams one after the other, as pbzip2 and pzstd write them. The tar archive in
// it ends with two blocks of zeros. Further zeros (tar pads to 10 KiB) are accepted. Anything else after them is
// refused, before or after compression, and so is an archive that is cut short anywhere.
//
// Inspect and Unpack apply the same rules: Unpack unpacks what Inspect finds proper. Unpack also accepts three things
// that Inspect finds improper and that boxes have always accepted: a script whose first line no system can execute,
// and file capabilities and setgid bits of directories, which it drops.
//
// # What Build writes
//
// Archives are reproducible: the same files, name and time give the same bytes on every machine. The first entries are
// the top directory and VERSION; the others follow in the order of a walk by name. Owner and group are 0 without names,
// all times are the same, modes are 0755 for directories and for files that their owner may execute, else 0644. Headers
// are ustar, with PAX records only if a name or a size needs them. Compression is single-threaded, with fixed settings
// and without times or file names.
package archive
