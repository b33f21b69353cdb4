package signer

import (
	"errors"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/status"
)

// withHint says what to do about an error that can happen to every command that signs: what the origin says, or
// what is known of its kind. It returns nil for nil.
func withHint(err error) error {
	hint := status.SignerHint(err)
	if refused := (*publish.Error)(nil); errors.As(err, &refused) && refused.Hint != "" {
		hint = refused.Hint
	}
	if hint == "" {
		return err
	}
	return status.WithHint(err, hint)
}
