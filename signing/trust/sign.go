package trust

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/signing"
)

// encode signs metadata with those signers whose key root has for the role, beside the signatures that
// are there, and returns the file. extra goes into the new signature entries beside the signature.
func encode[T metadata.Roles](ctx context.Context, root *Root, role Role, meta *metadata.Metadata[T], by []signing.Signer, extra map[string]any) ([]byte, error) {
	for _, s := range by {
		id := s.Public().ID()
		if _, ok := root.roles[role].find(id); !ok {
			continue
		}
		meta.Signatures = slices.DeleteFunc(meta.Signatures, func(old metadata.Signature) bool { return old.KeyID == string(id) })
		if _, err := meta.Sign(signing.Sigstore(ctx, s)); err != nil {
			return nil, fmt.Errorf("sign %s with key %s: %w", role, id.Fingerprint(), err)
		}
		meta.Signatures[len(meta.Signatures)-1].UnrecognizedFields = extra
	}
	return cjson.EncodeCanonical(meta)
}

// cloned keeps the signatures of one file from being changed with those of another.
func cloned[T metadata.Roles](meta *metadata.Metadata[T]) *metadata.Metadata[T] {
	c := *meta
	c.Signatures = slices.Clone(meta.Signatures)
	return &c
}

func expiry(at time.Time, life time.Duration) time.Time {
	return at.UTC().Truncate(time.Second).Add(life)
}

func issuedAt(at time.Time) map[string]any { return map[string]any{issuedField: formatTime(at)} }
