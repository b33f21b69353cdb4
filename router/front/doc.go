// Package front carries HTTP over TCP and TLS for many slow clients. It sends files by sendfile, cuts clients that
// stall and no others, keeps idle connections at little cost, bounds how many an address has, and says which client
// sent a request.
package front
