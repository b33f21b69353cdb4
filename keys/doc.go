// Package keys holds public keys: how they are written down, named and compared. Every key is an
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
//	ID               dbe7a0ee8f1be54c1ddb1a1d07ac8ae1f0eda56f0e3e3c66e0ec7b6bd1ab1ad8
//	fingerprint      dbe7-a0ee-8f1b-e54c
//	SSH fingerprint  SHA256:…
//
// The ID is what programs use: it names the key in repository metadata and in URLs. It is the key ID
// of The Update Framework (specification 1.0, section 4.2), the SHA-256, in lower-case hex, of these
// bytes, where <hex> is the key in 64 lower-case hex digits:
//
//	{"keytype":"ed25519","keyval":{"public":"<hex>"},"scheme":"ed25519"}
//
// The fingerprint is what people compare: the first 16 digits of the ID in groups of four. It has 64
// bits, enough to tell one's own keys apart and to notice a wrong one, and no program decides by it.
// The SSH fingerprint is what ssh-agent calls the key; only keys/secret uses it.
//
// The package does no I/O.
package keys
