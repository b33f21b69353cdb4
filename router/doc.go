// Package router is the HTTP surface of the Box Update Server: what boxes, mirrors and operators ask
// for and what they are told.
//
// # Routes
//
// All but those below /publish/ take GET and HEAD; another method is answered 405 with Allow.
//
//	/                        health, JSON, always 200; the status page for who prefers HTML
//	/ls                      names of all updates, ascending by version, joined by newlines
//	/version                 the newest version in decimal digits
//	/latest                  303 to the newest update
//	/update/<name>           an archive by name
//	/update/<name>.sha256    its checksum line
//	/update/<name>.sig       its detached signature, 64 bytes, by the first key that signed
//	/sha256/<digest>         an archive by digest
//	/sha256/<digest>.sha256  its checksum line, with the newest of its names
//	/sha256/<digest>.sig     its detached signature, for that name
//	/sha256/<digest>.blocks  its block list
//	/updates.json            the catalog
//	/metadata/<file>         signed metadata of the repository
//	/targets/<digest>.<name> an archive, where TUF clients look for it
//	/publish/…               publishing; docs/PUBLISH.md specifies it
//	/livez, /readyz          "ok", or 503; /readyz?verbose tells each part and warning
//	/healthz                 as /, with the program's version, and 503 when not ok
//	/metrics                 what Prometheus asks for
//	/page.css, /page.js      what the status page needs
//
// Repeated leading slashes count as one. Apart from that every resource has one spelling: a path with
// percent-encoding, in upper case or with a slash at its end is not found. What is not found is
// answered 404 with the text "Resource not found." and nothing is opened for it.
//
// A .sig by another key is had with ?key=<key ID>. Of the metadata, files with a number never change, and
// timestamp.json is revalidated.
//
// /version and /latest name the newest update that every box may install.
//
// An update whose digest is not known yet is served by name, without ETag and Repr-Digest; its
// checksum line is answered 503 with Retry-After. An unknown digest is answered 503 too while there
// is an update that has never been hashed, since it may be that one's; else 404. An update that
// replaced another under its name does not count here: the digest of the bytes that are gone is
// answered 404 at once. Where there are no updates any more, /version and /latest are answered 503;
// where there never was one, 404.
//
// # The catalog
//
// /updates.json is one JSON object; updates ascend by version:
//
//	{
//	  "product": "opq-box-update",
//	  "newest": "opq-box-update-1550190683.tar.bz2",
//	  "updates": [
//	    {
//	      "name": "opq-box-update-1550190683.tar.bz2",
//	      "version": 1550190683,
//	      "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
//	      "length": 1048576,
//	      "time": "2019-02-15T00:31:23Z",
//	      "signatures": {}
//	    }
//	  ]
//	}
//
// "newest" is what /latest names, null where there is none. "version" is a whole number of up to
// 32 digits. "sha256" is null while it is not known. "length" is in bytes. "time" is in RFC 3339, UTC,
// whole seconds. "signatures" goes from key ID to detached signature, 128 hex digits; one whose key is not
// known is left out. "unsigned" is true for an update that lies beside a list of signed ones. Readers
// must ignore fields that they don't know.
//
// # The status page
//
// A browser that asks for / gets a page for people: an Accept that names text/html and not application/json
// decides. It is rendered when something that it says changes, not on each request. The list has 40 updates on
// a page, ?page=2 and so on have the older ones. All that it says comes through html/template, its policy
// lets nothing run or load but its own two files, and without them it can be read all the same. Links are
// relative, so that a reverse proxy may strip a prefix.
//
// # Metrics
//
// Every series is there from the start. Requests are counted by the pattern of their route, never by what a
// client sends. What the router does not know itself comes from Config.Standing.
//
// # How bytes come
//
// Only publishing takes bodies. Their length has to be told first. What is refused by its path, its length
// or an unknown ID is refused before its body is asked for. All bodies share an amount of memory, of which
// those that anybody can send, lists and roots, get less than half; whoever has waited in vain for a share
// is answered 503. A body has no total time limit: it is cut, with 408, when less than Config.BodyRate comes
// over Config.BodyWindow, and the slowest of those that anybody can send also when others wait for its memory.
//
// # How bytes leave
//
// Answers other than archives are rendered once for each catalog and sent from memory. Archives,
// whole and in ranges, leave by sendfile; several ranges in one answer do not, nor does a body of up to
// 64 kB, which leaves with its header. No download has a total time limit: a client is cut when it takes
// less than Config.MinRate over Config.StallWindow, and what counts as taken is what the client's kernel has acknowledged.
//
// A file that is written to while it is being sent is noticed from one piece to the next, and the
// download then ends short of its Content-Length.
package router
