// Package keys holds public keys: how they are written to files, named and compared. Every key is an
// Ed25519 key (RFC 8032).
//
// A public key file is standard PEM of a SubjectPublicKeyInfo (RFC 8410, section 4) as openssl writes
// it, three lines of 26, 60 and 24 characters that each end in LF, 113 bytes in all:
//
//	-----BEGIN PUBLIC KEY-----
//	MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
//	-----END PUBLIC KEY-----
//
// The Base64 is 44 bytes: the prefix 302a300506032b6570032100 and the 32 bytes of the key.
//
// A key has three names. Each is computed from its 32 bytes; for the key above they are:
//
//	ID               74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916
//	fingerprint      74c1-81c7-ad8a-0855
//	SSH fingerprint  SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8
//
// Programs use the ID: it names the key in repository metadata and in URLs. It is the key ID
// of The Update Framework (specification 1.0, section 4.2), the SHA-256, in lower-case hex, of these
// bytes, where <hex> is the key in 64 lower-case hex digits:
//
//	{"keytype":"ed25519","keyval":{"public":"<hex>"},"scheme":"ed25519"}
//
// People compare the fingerprint: the first 16 digits of the ID in groups of four. It has 64 bits, enough to distinguish
// one's own keys. No program decides by it, and a person who accepts a key from somebody else compares the whole ID.
// The SSH fingerprint is the name of the key in ssh-agent; only keys/secret uses it.
//
// The package does no I/O.
package keys
