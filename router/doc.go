// Package router is the HTTP surface of the Box Update Server: the routes for boxes, mirrors, signers and operators,
// and the answers to them.
//
// # Routes
//
// All routes except those below /publish/ take GET and HEAD; other methods are answered 405 with Allow.
//
//	/                        health, JSON, always 200; the status page for clients that prefer HTML
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
//	/metrics                 metrics for Prometheus
//	/page.css, /page.js      style and script of the status page
//
// Repeated leading slashes count as one. Apart from that every resource has one spelling: a path with
// percent-encoding, in upper case or with a slash at its end is not found. Such paths are answered 404 with the text
// "Resource not found.", and no file is opened for them.
//
// The query ?key=<key ID> asks for the .sig of another key. Metadata files with a number never change; caches must
// revalidate timestamp.json.
//
// /version and /latest name the newest update that every box may install.
//
// An update whose digest is not known yet is served by name, without ETag and Repr-Digest; its checksum line is
// answered 503 with Retry-After. An unknown digest is answered 503 too while some update has never been hashed, since
// the digest may be that update's; otherwise 404. An update that replaced another of the same name does not count
// here: the digest of the replaced bytes is answered 404 at once. When no updates are left, /version and /latest are
// answered 503; when there never was one, 404.
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
// "newest" is what /latest names, null if there is none. "version" is a whole number of up to 32 digits. "sha256"
// is null while it is not known. "length" is in bytes. "time" is in RFC 3339, UTC, whole seconds. "signatures" maps
// key IDs to detached signatures of 128 hex digits; a signature whose key is not known is left out. "unsigned" is
// true for an update that is served beside a signed list but is not in it; otherwise it is absent. Readers must
// ignore fields that they don't know.
//
// # The status page
//
// A request for / whose Accept names text/html and not application/json gets a page for people. The page is rendered
// at most once a second, not on each request. It lists 40 updates; ?page=2 and so on list older ones.
// html/template escapes all of its text, its Content-Security-Policy allows only its own style sheet and script, and
// it can be read without them. Links are relative, so that a reverse proxy may strip a prefix.
//
// # Metrics
//
// Every series exists from the start. Requests are counted by the pattern of their route, never by text from a
// client. Values that the router does not know itself come from Config.Standing.
//
// # Request bodies
//
// Only publishing takes bodies, and their length must be declared. A request with a wrong path, a wrong length or an
// unknown ID is refused before the client is asked for the body. Lists and roots, which anybody can send, share one
// amount of memory; blocks and block lists share another one. A request that gets no memory is answered 503. A body
// has no total time limit. It is cut, with 408, when less than Config.BodyRate comes over Config.BodyWindow; the
// slowest list or root is also cut when others need its memory.
//
// # Response bodies
//
// Answers other than archives are rendered once for each catalog and sent from memory. Archives, whole or as one
// range, are sent by sendfile. Several ranges in one answer are copied, and so is a body of up to 64 kB, which is
// sent together with its header. Downloads have no total time limit: a client is cut when its kernel acknowledges
// less than front.Config.MinRate over front.Config.StallWindow.
//
// Before each piece the router checks whether the file was written to since it was opened. If it was, the download
// ends short of its Content-Length.
package router
