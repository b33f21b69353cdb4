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
// The first archives of opq-box-update spell it "version"; that file counts where there is no VERSION.
// White space around the digits is accepted.
//
// Entries are regular files, directories, symbolic links that stay inside the top directory, and hard
// links to files that came before. Refused by name is everything else: absolute names and "..",
// devices, FIFOs, sparse files, files with setuid or setgid bits, names that stand twice, that lie
// below something other than a directory, that are too long, are not UTF-8 or hold control characters.
// A symbolic link may climb with ".." at the beginning of its target only, so that where it leads
// does not depend on other links.
//
// The compressed stream may be several streams one after the other, as pbzip2 and pzstd write them. The
// tar archive in it ends with two blocks of zeros; further zeros (tar pads to 10 KiB) are accepted,
// anything else after them is refused, before or after compression, and so is an archive that is cut
// short anywhere.
//
// Inspect and Unpack go by the same rules: what Inspect finds proper, Unpack unpacks. Of what Inspect finds
// improper, Unpack takes three things that boxes have always taken: a script whose first line no system can
// carry out, and file capabilities and setgid bits of directories, which it drops.
//
// # What Build writes
//
// Archives are reproducible: the same files, name and time give the same bytes on every machine. Entries
// are those of the top directory and of VERSION, then the rest in the order of a walk by name. Owner and
// group are 0 without names, all times are the same, modes are 0755 for directories and for files that
// their owner may execute, else 0644. Headers are ustar; PAX records stand only where a name or a size
// needs them. Compression is single-threaded, with fixed settings and without times or file names.
package archive
