package status

import (
	"net/http"
	"slices"
)

// The hints about clocks. A clock may be right, if the time in a signed file is not, or if an origin was off for long.
const (
	hintOriginBehind = "set the clock of the origin; if it is right, replace the online key: boxsign rotate online"
	hintOriginAhead  = "set the clock of the origin; if it is right, because the origin was off for long, start it with clock_checked set to today, or publish a list: boxsign renew --list"
	hintClockBehind  = "if this clock is wrong, set it; if it is right, the origin's clock was wrong or its key is stolen: replace the key with boxsign rotate online, since boxes that saw the later time refuse what the key signs with an earlier one"
	hintClockAhead   = "make sure that the clock of this computer is right: boxes that have seen what it signs refuse everything with an earlier time; if it is right, sign the list again: boxsign renew --list"
)

// logFile stands in a hint for the file with the output of an installation.
const logFile = "LOG"

// hintLog is the hint on a box about a script or hook that failed.
const hintLog = "its output is in " + logFile

// hintMistake is the hint on a box about an update that was signed and can't be installed.
const hintMistake = "it was signed by mistake: a release signer must publish another update"

// table has the facts of each kind.
var table = [lastKind + 1]facts{
	NoSpace: {
		text: "no space left", system: full,
		reason: ReasonNoSpace, exit: ExitNoSpace,
		wire:   Wire{"no_space", http.StatusInsufficientStorage, "make room on the disk of the origin, then continue"},
		signer: "nothing was published; free some space and run the command again",
		box:    "make room; no update is blamed for this, and the next run continues",
	},
	Machine: {
		text:   "not possible on this computer now",
		system: append(slices.Clone(unreadable), readOnly),
		reason: ReasonOther, exit: ExitFailed,
		box: "the disk of this box fails or is read-only: check it; no update is blamed for this, and the next run continues",
	},
	Locked:       {text: "locked by another process", signer: "wait until that program has ended; if it is a server, publish to its URL instead"},
	Passphrase:   {text: "wrong passphrase", signer: "try again; a lost passphrase can't be recovered: replace the key, as docs/TRUST.md says; if the file is damaged, move it away and restore it with boxsign restore"},
	BrokenExport: {text: "no whole export", exit: ExitRefused},

	RolledBack:      {text: "check failed, went back to the previous update", exit: ExitRolledBack, box: hintLog},
	NoWayBack:       {text: "check failed, and there is no way back", exit: ExitRolledBack, box: hintLog + "; look after this box"},
	ScriptFailed:    {text: "install script failed", exit: ExitScript, box: hintLog},
	HookFailed:      {text: "hook failed", exit: ExitFailed, box: hintLog},
	NoInstallScript: {text: "no install script", exit: ExitImproper, box: hintMistake},
	OtherVersion:    {text: "another version", exit: ExitImproper, box: hintMistake},
	Improper:        {text: "improper update", exit: ExitImproper, box: hintMistake},
	SetAside:        {text: "set aside", exit: ExitHeld, box: "wait for a newer one, or try it again with boxup install --force NAME"},
	Unverified:      {text: "not the verified archive", exit: ExitRefused, box: "this is not the file that was signed: get it again"},
	Downgrade:       {text: "lower than the version that is installed", exit: ExitRefused, box: "--allow-downgrade lets it in, for one run"},
	OtherProduct:    {text: "another product", exit: ExitRefused, box: `this box is for another product: see "product" in its configuration`},

	Refused: {text: "refused", reason: ReasonRefused, exit: ExitRefused},
	SecondDigest: {
		text: "name already has another digest", hostile: true,
		reason: ReasonRefused, refusal: RefusedSecondDigest, exit: ExitRefused,
		wire:   Wire{"second_digest", http.StatusConflict, "build the update again under a new version"},
		signer: "a name keeps its digest for ever, even after it is withdrawn: build the update again with another version",
	},
	Stranded: {
		text:   "the new root does not accept what is published",
		wire:   Wire{"stranded", http.StatusConflict, "add the new key first, publish with it, then remove the old one"},
		signer: "the keys of the next root must first sign what is published: to replace a key, boxsign rotate release or boxsign rotate online does all steps; boxsign root threshold says which are left",
	},
	Fork: {
		text: "two different files for one version", hostile: true,
		reason: ReasonRefused, refusal: RefusedFork, exit: ExitRefused,
		signer: "this is not the repository that these keys know: use another --repo, or other --keys",
	},
	Rollback: {
		text:   "older than what was accepted before",
		reason: ReasonBehind, refusal: RefusedRollback, exit: ExitRefused,
		wire:   Wire{"rollback", http.StatusConflict, "sign again on top of what is published now"},
		signer: "these keys have signed or seen a newer repository: find it, or restore it from a server that serves it; if a thief of the online key raised the versions, see docs/TRUST.md",
	},
	Mismatch: {
		text: "not the file that the signed metadata names", hostile: true,
		reason: ReasonRefused, refusal: RefusedMismatch, exit: ExitRefused,
	},
	Conflict: {
		text:   "made on another base",
		wire:   Wire{"conflict", http.StatusConflict, "read what is published now, and sign again on top of it"},
		signer: "somebody else published meanwhile: run the command again, and it continues from there",
	},
	Threshold: {
		text: "not enough signatures", hostile: true,
		reason: ReasonRefused, refusal: RefusedThreshold, exit: ExitRefused,
		wire: Wire{"threshold", http.StatusForbidden, "sign with a key that the root names for this role"},
	},
	Key: {
		text: "key is not in the root", refusal: RefusedThreshold,
		wire:   Wire{"key", http.StatusForbidden, "sign with a key that the root names for this role"},
		signer: "use another key with --keys or the flag for its role, or ask a root signer to add this key: boxsign root add-key",
	},
	Expired: {
		text:   "expired",
		reason: ReasonExpired, refusal: RefusedExpired, exit: ExitRefused,
		wire: Wire{"expired", http.StatusUnprocessableEntity, "sign it again"},
	},
	OriginBehind: {text: "the clock of the origin is behind", wire: Wire{"origin_clock", http.StatusServiceUnavailable, hintOriginBehind}},
	OriginAhead:  {text: "the clock of the origin is ahead", wire: Wire{"origin_ahead", http.StatusServiceUnavailable, hintOriginAhead}},
	ClockBehind:  {text: "clock is off, or that of the origin was", is: Clock, signer: hintClockBehind},
	ClockAhead:   {text: "clock is off: it is far ahead of all that was signed", is: Clock, signer: hintClockAhead},
	Clock: {
		text:   "clock is off",
		wire:   Wire{"signer_clock", http.StatusUnprocessableEntity, "set the clocks of signer and origin, and sign again"},
		signer: "set the clock of this computer and run the command again",
	},
	TooMany: {
		text:   "too many updates",
		wire:   Wire{"too_many", http.StatusBadRequest, "retire old updates with --keep"},
		signer: "retire the oldest with --keep N",
	},
	Malformed: {
		text: "malformed metadata", hostile: true,
		reason: ReasonRefused, refusal: RefusedMalformed, exit: ExitRefused,
		wire: Wire{"malformed", http.StatusBadRequest, ""},
	},
	NoProposal: {text: "no such proposal or archive", wire: Wire{"not_found", http.StatusNotFound, "send the list again"}},
	NoBlocks:   {text: "the block list is missing", wire: Wire{"no_blocks", http.StatusConflict, "send the block list first"}},
	Gap: {
		text: "the origin does not have the bytes before this part",
		wire: Wire{"gap", http.StatusConflict, "ask how much of the block has arrived, and continue from there"},
	},
	Incomplete: {text: "archives are missing", wire: Wire{"incomplete", http.StatusConflict, "send the list again to see what is missing"}},
	Corrupt: {
		text: "corrupt", refusal: RefusedCorrupt, exit: ExitRefused,
		wire: Wire{"corrupt", http.StatusUnprocessableEntity, "send it again"},
	},
	Signature: {text: "signature does not fit", exit: ExitRefused, signer: "do not install it"},
	NoKey:     {text: "the online key is not here", wire: Wire{"no_key", http.StatusServiceUnavailable, "give the origin the online key that the root names"}},
	NoFile: {
		text:   "the origin does not have the archive, and it is not among the files here",
		signer: "name its file too, or ask the signer who has it to run boxsign publish FILE again; if it is lost for good, remove it from the list with boxsign withdraw",
	},
	Changed:    {text: "the file is not what was signed", signer: "the file was changed while it was being sent: build it again with another version"},
	OriginOnly: {text: "only the origin can do that", signer: "run the command at the origin, in its directory, or let its server do it"},

	NoResource: {text: "no such resource", wire: Wire{"not_found", http.StatusNotFound, ""}},
	Method:     {text: "method not allowed", wire: Wire{"method", http.StatusMethodNotAllowed, ""}},
	NoLength:   {text: "the request has no Content-Length", wire: Wire{"length", http.StatusLengthRequired, "send the length of the body first"}},
	TooLarge:   {text: "the body is too large", wire: Wire{"too_large", http.StatusRequestEntityTooLarge, ""}},
	Slow:       {text: "the body came too slowly", wire: Wire{"slow", http.StatusRequestTimeout, "send it again"}},
	Cut:        {text: "the body ended early", wire: Wire{"malformed", http.StatusBadRequest, "send it again"}},
	Busy:       {text: "too many bodies at once", wire: Wire{"busy", http.StatusServiceUnavailable, "try again soon"}},

	Unavailable: {text: "unavailable", reason: ReasonUnavailable, exit: ExitUnavailable},
	NotFound:    {text: "not found", reason: ReasonMissing, exit: ExitUnavailable},
	NoMetadata:  {text: "metadata not found", reason: ReasonMissing, exit: ExitUnavailable},
}

// internal is the report of errors that only the operator may see.
var internal = Wire{"internal", http.StatusInternalServerError, ""}
