package trust

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/openpowerquality/box-update-server/signing"
)

// sign signs with those signers whose key root has for the role, and returns old with their signatures
// in place of those by the same keys. updates goes into the new entries.
func sign(ctx context.Context, root *Root, role Role, signed []byte, old []fileSignature, by []signing.Signer, updates json.RawMessage) ([]fileSignature, error) {
	out := slices.Clone(old)
	for _, s := range by {
		id := s.Public().ID()
		if _, ok := root.roles[role].find(id); !ok {
			continue
		}
		sig, err := s.Sign(ctx, signed)
		if err != nil {
			return nil, fmt.Errorf("sign %s with key %s: %w", role, id.Fingerprint(), err)
		}
		if !s.Public().Verify(signed, sig[:]) {
			return nil, fmt.Errorf("sign %s with key %s: the signer returned what its key does not verify", role, id.Fingerprint())
		}
		out = slices.DeleteFunc(out, func(s fileSignature) bool { return s.Key == id })
		out = append(out, fileSignature{id, sig, updates})
	}
	return out, nil
}

// encode returns the file of metadata that this package made, signed as sign does.
func encode[T metadata.Roles](ctx context.Context, root *Root, role Role, content T, by []signing.Signer) ([]byte, error) {
	signed, err := cjson.EncodeCanonical(content)
	if err != nil {
		return nil, err
	}
	return encodeSigned(ctx, root, role, signed, by)
}

func encodeSigned(ctx context.Context, root *Root, role Role, signed []byte, by []signing.Signer) ([]byte, error) {
	sigs, err := sign(ctx, root, role, signed, []fileSignature{}, by, nil)
	if err != nil {
		return nil, err
	}
	return join(sigs, signed)
}

func expiry(at time.Time, life time.Duration) time.Time {
	return at.UTC().Truncate(time.Second).Add(life)
}

func issuedAt(at time.Time) map[string]any { return map[string]any{issuedField: formatTime(at)} }
