package keys

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxPEM bounds a PEM file in bytes. An RSA key of 16,384 bits fits, so that the error can name its algorithm.
const MaxPEM = 16 << 10

const remedy = "; openssl pkey -in KEY writes a key as expected, with -pubin a public one"

// DecodePEM returns the type, one of kinds, and the bytes of the one block in b. A key file is one block in the one spelling
// that openssl and pem.EncodeToMemory write. DecodePEM refuses text around the block, headers, CRLF, and a missing last
// newline. hint returns what to do about a block of another type.
func DecodePEM(b []byte, hint func(kind string) string, kinds ...string) (kind string, der []byte, err error) {
	if len(b) > MaxPEM {
		return "", nil, fmt.Errorf("expected at most %d bytes, got more", MaxPEM)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return "", nil, errors.New("expected a PEM block, found none" + remedy)
	}
	if !slices.Contains(kinds, block.Type) {
		return "", nil, fmt.Errorf("expected a PEM block %s, got %.80q%s", strings.Join(kinds, " or "), block.Type, hint(block.Type))
	}
	if len(block.Headers) > 0 || !bytes.Equal(pem.EncodeToMemory(block), b) {
		return "", nil, errors.New("expected exactly one PEM block without headers, in lines of 64 characters that end in LF, and nothing before or after it" + remedy)
	}
	return block.Type, block.Bytes, nil
}

// CheckAlgorithm refuses every key algorithm but Ed25519. The error names the other one.
func CheckAlgorithm(oid asn1.ObjectIdentifier) error {
	if got := algorithmName(oid); got != "Ed25519" {
		return fmt.Errorf("expected an Ed25519 key, got %s; openssl genpkey -algorithm ed25519 makes one that fits", got)
	}
	return nil
}

func algorithmName(oid asn1.ObjectIdentifier) string {
	switch oid.String() {
	case "1.3.101.112": // RFC 8410, section 3, as the next three
		return "Ed25519"
	case "1.3.101.113":
		return "Ed448"
	case "1.3.101.110":
		return "X25519"
	case "1.3.101.111":
		return "X448"
	case "1.2.840.113549.1.1.1":
		return "RSA"
	case "1.2.840.113549.1.1.10":
		return "RSA-PSS"
	case "1.2.840.10045.2.1":
		return "ECDSA"
	}
	return "unknown (" + oid.String() + ")"
}
