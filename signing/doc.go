// Package signing makes and opens the detached signature of an update.
//
// Three files lie beside each other, here for an update of product p and version 7:
//
//	p-7.tar.gz         the archive
//	p-7.tar.gz.sha256  its checksum line, for convenience; verification never reads it
//	p-7.tar.gz.sig     its detached signature, 64 raw bytes
//
// The signature is plain Ed25519 (RFC 8032, section 5.1.6; no prehash, no context) over exactly the
// checksum line that sha256sum prints: 64 hex digits of the archive's SHA-256, two spaces, the name, a
// newline. With the key whose seed is 32 zero bytes, and an archive of the six bytes "hello\n":
//
//	public key  3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
//	line        5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03  p-7.tar.gz\n
//	signature   48cfffa33daa5b6f6d97b271d96769c3f8e6857723464d96929951b7d2897f33
//	            ab57642cb4848528ece0be6c9d6a63efa779d2abf7e0fd5291c47ee0bf67e207
//
// With the public key file, openssl 3.0 or newer verifies that in constant memory:
//
//	sha256sum p-7.tar.gz > L
//	openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in L -sigfile p-7.tar.gz.sig
//
// The line is always made from the archive at hand and from the name under which it was requested. A
// line from the network is never verified: a hostile mirror would send the genuine line and signature
// of another update.
//
// Several keys may sign one update, each with its own signature. The caller chooses the keys that
// count, and one of them is enough.
package signing
