package signer

import (
	"errors"

	"github.com/openpowerquality/box-update-server/internal/disk"
	"github.com/openpowerquality/box-update-server/keys/secret"
	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/signing"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
)

// hintAhead is what to do where what is published was signed at a time that is still to come.
const hintAhead = "if this clock is wrong, set it; if it is right, the origin's was wrong or its key is stolen: replace that with boxsign rotate online, since boxes that saw the later time refuse what that key signs before it"

// hintJump is what to do where all that is published was signed long ago by this clock.
const hintJump = "make sure that the clock of this computer is right: boxes that see what it signs refuse all that is signed before; if it is, a signer's word is enough: boxsign renew --list"

// withHint says what to do about an error that can happen to every command that signs. It returns nil
// for nil.
func withHint(err error) error {
	var refused *publish.Error
	if errors.As(err, &refused) && refused.Hint != "" {
		return status.WithHint(err, refused.Hint)
	}
	if disk.NoSpace(err) {
		return status.WithHint(err, "nothing was published; free some space and run the command again")
	}
	for _, h := range []struct {
		is   error
		hint string
	}{
		{secret.ErrPassphrase, "try again; a passphrase that is lost can't be recovered: replace the key, as docs/TRUST.md says; a file that is damaged comes back with boxsign restore, once it is moved away"},
		{trust.ErrKey, "take another key with --keys or the flag for its role, or have a root signer let this one in: boxsign root add-key"},
		{publish.ErrNoFile, "name its file too, or have the signer who has it say boxsign publish FILE again; where it is lost for good, boxsign withdraw takes it off the list"},
		{publish.ErrChanged, "the file was changed while it was being sent: build it again with another version"},
		{publish.ErrOrigin, "say it on the origin, in its directory, or let its server do it"},
		{disk.ErrLocked, "wait until that program has ended; where it is a server, stop it"},
		{trust.ErrAhead, hintAhead},
		{trust.ErrJump, hintJump},
		{trust.ErrClock, "set the clock of this computer and run the command again"},
		{trust.ErrSecondDigest, "a name keeps its digest for ever, even when it was withdrawn: build it again with another version"},
		{trust.ErrRollback, "these keys have signed, or seen, a newer repository: find that one, or restore it from where it is served; if a thief of the online key counted versions up, see docs/TRUST.md"},
		{trust.ErrFork, "this is not the repository that these keys know: use another --repo, or other --keys"},
		{trust.ErrStranded, "what is published must be signed by the keys of the next root first: boxsign rotate does all steps, boxsign root threshold says which are left"},
		{trust.ErrTooMany, "retire the oldest with --keep N"},
		{trust.ErrConflict, "somebody else published meanwhile: run the command again, and it builds on that"},
		{signing.ErrSignature, "do not install it"},
	} {
		if errors.Is(err, h.is) {
			return status.WithHint(err, h.hint)
		}
	}
	return err
}
