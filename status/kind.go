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

import "syscall"

// A Kind is a kind of failure. It is an error with a general text; wrap it to say what failed and why. Kinds stand in the
// order of their gravity.
type Kind uint8

// The kinds.
const (
	_ Kind = iota

	// Of a failed installation. These come first, whatever else failed.
	RolledBack // the check after it failed: the update before runs again
	NoWayBack  // the check after it failed, and so did going back

	// Of this computer and its media.
	NoSpace      // too little room on the disk, or below a cap
	BrokenExport // a file is no complete export
	Machine      // the disk is read-only or fails, or there is no memory for a program
	Locked       // another process uses the directory
	Passphrase   // a private key can't be read with this passphrase

	// Of installing an update.
	ScriptFailed    // the install script failed
	HookFailed      // a hook of the box failed before anything was changed
	NoInstallScript // the archive lacks one
	OtherVersion    // the archive is of another version than its name says
	Improper        // the archive is no proper update
	SetAside        // it failed too often
	Unverified      // the file is not the archive that was verified
	Downgrade       // it is older than what is installed
	OtherProduct    // it is for another product

	// Of what was sent, fetched or signed.
	Refused      // an upstream sent something wrong
	SecondDigest // a name has another digest than before
	Stranded     // a new root does not accept what is published
	Fork         // there are two files for one version
	Rollback     // older than what was accepted before
	Mismatch     // not the file that the metadata name
	Conflict     // another signer published meanwhile
	Threshold    // too few signatures
	Key          // the root does not name the key
	Expired      // past its expiry
	OriginBehind // the origin's clock is behind what was signed before
	OriginAhead  // the origin's clock is too far ahead of what was signed
	ClockBehind  // this clock is behind what was signed before; a Clock
	ClockAhead   // this clock is too far ahead of what was signed; a Clock
	Clock        // the clock of the signer is off
	TooMany      // more updates than a list holds
	Malformed    // not what its kind requires
	NoProposal   // no such proposal or archive is staged
	NoBlocks     // an archive's block list is missing
	Gap          // the part before is missing
	Incomplete   // archives are missing
	Corrupt      // bytes that do not have their digest
	Signature    // a detached signature does not fit
	NoKey        // the online key is missing
	NoFile       // an archive is neither at the origin nor here
	Changed      // a file is not what was signed
	OriginOnly   // only the origin can do that
	NoResource   // there is nothing at the URL
	Method       // an HTTP method that the resource does not support
	NoLength     // a body without a length
	TooLarge     // a body that is too large
	Slow         // a body that arrived too slowly
	Cut          // a body that ended early
	Busy         // too many bodies at once
	Unavailable  // no upstream could be reached
	NotFound     // an upstream does not have the file
	NoMetadata   // there are no metadata
	lastKind     = NoMetadata
)

// The exit codes of all programs.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnavailable = 3 // no upstream that has it could be reached
	ExitRefused     = 4 // an answer was refused: wrong, older than one before, or expired
	ExitNoSpace     = 5 // too little room on the disk, or below a cap

	// Of boxup alone.
	ExitLocked     = 6  // another boxup is running
	ExitAvailable  = 10 // an update is available for this box
	ExitHeld       = 11 // there is an update that waits: maintenance window, daily cap, set aside
	ExitImproper   = 12 // the archive is no proper update
	ExitScript     = 13 // the install script failed
	ExitRolledBack = 14 // the check after the installation failed

	ExitInterrupted = 130 // by Ctrl-C, as shells have it: 128 and the number of SIGINT
)

// Reason says in a word or two why something failed. It reveals nothing about a network or a disk, so that it can be public.
type Reason string

// The reasons.
const (
	ReasonNoSpace     Reason = "no space"    // on the disk, or below the cap
	ReasonRefused     Reason = "refused"     // an upstream sent something wrong
	ReasonExpired     Reason = "expired"     // its metadata have expired
	ReasonBehind      Reason = "behind"      // its metadata are older than the own ones
	ReasonUnavailable Reason = "unavailable" // it is down, cut or busy
	ReasonMissing     Reason = "not found"   // it does not have what it lists
	ReasonOther       Reason = "failed"      // see the log
)

// Refusal says why received data did not verify. It is a label of metrics.
type Refusal string

// The refusals.
const (
	RefusedMalformed    Refusal = "malformed"     // not what its kind requires
	RefusedThreshold    Refusal = "threshold"     // too few signatures, or by the wrong keys
	RefusedExpired      Refusal = "expired"       // metadata that have expired
	RefusedRollback     Refusal = "rollback"      // older than what was accepted before
	RefusedFork         Refusal = "fork"          // another file under a version that was accepted before
	RefusedMismatch     Refusal = "mismatch"      // not the file that the metadata name
	RefusedSecondDigest Refusal = "second_digest" // a name with other bytes than before
	RefusedCorrupt      Refusal = "corrupt"       // bytes that don't have their digest
)

// Refusals returns all refusals, in the order in which they are shown.
func Refusals() []Refusal {
	return []Refusal{RefusedMalformed, RefusedThreshold, RefusedExpired, RefusedRollback,
		RefusedFork, RefusedMismatch, RefusedSecondDigest, RefusedCorrupt}
}

// Wire is the report of a failure to a signer over HTTP. docs/PUBLISH.md lists the codes.
type Wire struct {
	Code   string
	Status int
	Hint   string // what to do; "" if that is obvious
}

// facts are the consequences of a kind. The zero value of a field means that there is none.
type facts struct {
	text    string          // of the error
	is      Kind            // the wider kind to which this one belongs
	system  []syscall.Errno // errors of the system that are of this kind
	hostile bool            // an upstream that is only behind, or cut, can't be the cause

	reason  Reason
	refusal Refusal
	exit    int
	wire    Wire
	signer  string // what to do about it at the signer's command line
	box     string // what to do about it on a box
}
