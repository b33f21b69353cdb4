package status

import "syscall"

// A Kind is a kind of failure. It is an error whose text says no more than that kind does; wrap it to say what
// failed and why. Kinds stand in the order of their gravity.
type Kind uint8

// The kinds.
const (
	_ Kind = iota

	// Of an installation that went wrong: what is told first, whatever else did.
	RolledBack // the check after it failed: the update before runs again
	NoWayBack  // the check after it failed, and so did going back

	// Of this computer, and what is on its media. Nobody else is to blame for them.
	NoSpace      // too little room on the disk, or below a cap
	BrokenExport // a file is no whole export, whatever else kept it from being read
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
	Refused      // an upstream sent what it must not
	SecondDigest // a name has another digest than before
	Stranded     // a new root does not accept what is published
	Fork         // there are two files for one version
	Rollback     // older than what was accepted before
	Mismatch     // not the file that the metadata name
	Conflict     // somebody else published meanwhile
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
	NoResource   // a URL that leads nowhere
	Method       // an HTTP method that the resource does not take
	NoLength     // a body without a length
	TooLarge     // a body that is too large
	Slow         // a body that came too slowly
	Cut          // a body that ended early
	Busy         // too many bodies at once
	Unavailable  // nobody could be reached
	NotFound     // an upstream does not have the file
	NoMetadata   // metadata are not there
	lastKind     = NoMetadata
)

// The exit codes that several programs share. What is only a result, such as "an update is there", is a code of the
// program that documents it.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnavailable = 3 // nobody who has it could be reached
	ExitRefused     = 4 // what came was refused: wrong, older than what was seen, or expired
	ExitNoSpace     = 5 // too little room on the disk, or below a cap

	// Of boxup.
	ExitHeld       = 11 // an update is there and waits: maintenance window, daily cap, set aside
	ExitImproper   = 12 // the archive is no proper update
	ExitScript     = 13 // the install script failed
	ExitRolledBack = 14 // the check after the installation failed
)

// Reason says in a word or two why something failed. It tells nothing of a network or a disk, so that anyone may see it.
type Reason string

// The reasons.
const (
	ReasonNoSpace     Reason = "no space"    // on the disk, or below the cap
	ReasonRefused     Reason = "refused"     // an upstream sent what is wrong
	ReasonExpired     Reason = "expired"     // it shows metadata that ran out
	ReasonBehind      Reason = "behind"      // it shows older metadata than are here
	ReasonUnavailable Reason = "unavailable" // it is down, cut or busy
	ReasonMissing     Reason = "not found"   // it does not have what it lists
	ReasonOther       Reason = "failed"      // see the log
)

// Refusal says why something that was sent did not verify. It is a label of metrics.
type Refusal string

// The refusals.
const (
	RefusedMalformed    Refusal = "malformed"     // not what its kind requires
	RefusedThreshold    Refusal = "threshold"     // too few signatures, or by the wrong keys
	RefusedExpired      Refusal = "expired"       // metadata that ran out
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

// Wire is how a failure is told to a signer over HTTP. docs/PUBLISH.md lists the codes.
type Wire struct {
	Code   string
	Status int
	Hint   string // what to do; "" where that is plain
}

// facts is all that follows from a kind. The zero value of each field says that nothing does.
type facts struct {
	text    string          // of the error
	is      Kind            // the wider kind that this one is, too
	system  []syscall.Errno // what the system says of it
	hostile bool            // it can't have come from an upstream that is only behind, or cut

	reason  Reason
	refusal Refusal
	exit    int
	wire    Wire
	signer  string // what to do about it at the signer's command line
	box     string // what to do about it on a box
}
