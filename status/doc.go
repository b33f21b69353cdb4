// Package status says what went wrong, in words that every program and every surface shares.
//
// A [Kind] is a kind of failure. The sentinels of all packages are kinds, so that errors.Is finds them in any wrapped
// error, and so that one table tells what follows from each: the reason that anyone may see, the exit code, the HTTP status
// and the code under which it travels from an origin to a signer, the label under which refusals are counted, and what
// to do about it. An error may be of several kinds, when several upstreams failed for example. Kinds stand in the
// table in the order of their gravity, and the first one that has an exit code, a reason and so on decides.
//
// [WithHint] and [WithCode] add to one error what the table can't know.
package status
