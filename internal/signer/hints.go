package signer

import (
	"errors"

	"github.com/openpowerquality/box-update-server/mirror/publish"
	"github.com/openpowerquality/box-update-server/status"
)

// withHint adds a hint to an error that any signing command can return: the origin's hint if it sent one, else the
// hint for that kind of failure. It returns nil for nil.
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
