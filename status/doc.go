// Package status describes failures, and how a program stands, in words that all programs share.
//
// A [Kind] is a kind of failure. The sentinels of all packages are kinds, so that errors.Is finds them in any wrapped
// error, and so that one table has the consequences of each: the public reason, the exit code, the HTTP status and the
// code under which an origin reports it to a signer, the label under which refusals are counted, and a hint. An error may be
// of several kinds, for example if several upstreams failed. Kinds stand in the order of their gravity. For each
// consequence, the first kind that has one decides.
//
// [WithHint] and [WithCode] add a hint or an exit code to one error.
package status
