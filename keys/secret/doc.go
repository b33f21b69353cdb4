// Package secret holds private keys: in files that only their owner can read, or in an ssh-agent,
// where they stay.
//
// A key is named by the path of its file, or as "ssh-agent:" and the fingerprint that ssh-add -l
// prints: ssh-agent:SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8.
//
// A key file is one PEM block in the spelling of openssl and nothing else, of mode 0600 or less. There are
// two types:
//
//	ENCRYPTED SIGSTORE PRIVATE KEY  written by this package for a person
//	PRIVATE KEY                     written by openssl genpkey -algorithm ed25519, and by this package
//	                                for a server, which can't ask for a passphrase
//
// PRIVATE KEY is PKCS #8 (RFC 8410, section 7), 48 bytes: the prefix
// 302e020100300506032b657004220420 and the seed of 32 bytes.
//
// ENCRYPTED SIGSTORE PRIVATE KEY is the format of sigstore and its cosign, JSON without white space:
//
//	{"kdf":{"name":"scrypt","params":{"N":65536,"r":8,"p":1},"salt":"<32 bytes>"},
//	 "cipher":{"name":"nacl/secretbox","nonce":"<24 bytes>"},"ciphertext":"<64 bytes>"}
//
// (shown here on two lines). Byte strings are Base64. The ciphertext is the PKCS #8 above in a NaCl
// secretbox, under the key of 32 bytes that scrypt makes of the passphrase. This package
// writes N 65536, which takes 64 MiB of memory. It also reads 32768 and 131072, and refuses other
// values, so that a hostile file can't use more than 128 MiB.
//
// Symbolic links are followed. The mode that counts is that of the opened file.
//
// An agent signs messages of up to MaxAgentMessage bytes with keys of type ssh-ed25519. Its keys of
// type sk-ssh-ed25519@openssh.com, which live in a security token, can't sign for us: the token signs
// a structure of its own and never the plain message.
package secret
