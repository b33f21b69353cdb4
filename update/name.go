// Package update holds the nouns of the Box Update Server: what an update is called, which bytes it
// is made of, and how both are written down. It opens no file.
//
// An update is an archive with a name and a digest:
//
//	opq-box-update-1550190683.tar.bz2
//	└── product ──┘ └ version┘ └ format
//
// Its checksum line is what sha256sum prints, 64 hex digits, two spaces, the name and a newline:
//
//	e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  opq-box-update-1550190683.tar.bz2
//
// Its block list is the concatenation of the 32-byte SHA-256 digests of its blocks of 4 MiB, in
// order; the last block may be shorter, and an empty archive has no block.
//
// Every parser here is strict: it accepts the one spelling that the matching String or Bytes prints,
// so that an update has exactly one URL, one file name and one line.
package update

import (
	"cmp"
	"fmt"
	"strings"
)

// DefaultProduct is the product of an installation that does not name one.
const DefaultProduct Product = "opq-box-update"

// maxProduct bounds a product, so that <digest>.<name>.sha256 stays under the 255 bytes that a file
// name may have.
const maxProduct = 100

// maxName is the length in bytes of the longest name.
const maxName = maxProduct + len("-") + maxVersionDigits + len(".") + len(TarBzip2)

// Product is what an update is for, the part of a name before the version: lower-case ASCII letters,
// digits, '-', '_' and '.', beginning with a letter and ending with a letter or digit, without "..".
type Product string

// ParseProduct parses 1 to 100 bytes.
func ParseProduct(s string) (Product, error) {
	if s == "" || len(s) > maxProduct {
		return "", fmt.Errorf("product %s: expected 1 to %d bytes, got %d", quote(s), maxProduct, len(s))
	}
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && !isLower(c) && c != '-' && c != '_' && c != '.' {
			return "", fmt.Errorf("product %s: expected lower-case letters, digits, '-', '_' and '.', got %s at byte %d", quote(s), character(s, i), i)
		}
	}
	if last := s[len(s)-1]; !isLower(s[0]) || !isLower(last) && !isDigit(last) || strings.Contains(s, "..") {
		return "", fmt.Errorf("product %s: expected a letter first, a letter or digit last, and no \"..\"", quote(s))
	}
	return Product(s), nil
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

// Format is how an update is packed: a tar archive, compressed.
type Format string

// The formats, by the ending of the file name.
const (
	TarBzip2 Format = "tar.bz2"
	TarGzip  Format = "tar.gz"
	TarZstd  Format = "tar.zst"
)

// ParseFormat parses "tar.bz2", "tar.gz" or "tar.zst".
func ParseFormat(s string) (Format, error) {
	f := Format(s)
	if f.rank() == 0 {
		return "", fmt.Errorf("format %s: expected tar.bz2, tar.gz or tar.zst", quote(s))
	}
	return f, nil
}

// rank orders the formats by how many boxes unpack them; every box unpacks bzip2.
func (f Format) rank() int {
	switch f {
	case TarBzip2:
		return 3
	case TarGzip:
		return 2
	case TarZstd:
		return 1
	}
	return 0
}

// Name is the name of an update, <product>-<version>.<format>. It is the base name of a file and the
// last part of a URL and never holds a slash. The zero Name names nothing.
type Name struct {
	product Product
	version Version
	format  Format
}

// NewName puts a name together from parsed parts.
func NewName(p Product, v Version, f Format) Name { return Name{p, v, f} }

// ParseName parses the name of an update of any product.
func ParseName(s string) (Name, error) {
	if len(s) > maxName {
		return Name{}, fmt.Errorf("name %s: expected at most %d bytes, got %d", quote(s), maxName, len(s))
	}
	stem, ext, ok := cutFormat(s)
	dash := strings.LastIndexByte(stem, '-')
	if !ok || dash < 0 {
		return Name{}, fmt.Errorf("name %s: expected <product>-<version>.tar.bz2, .tar.gz or .tar.zst", quote(s))
	}
	p, err := ParseProduct(stem[:dash])
	if err != nil {
		return Name{}, fmt.Errorf("name %s: %w", quote(s), err)
	}
	v, err := ParseVersion(stem[dash+1:])
	if err != nil {
		return Name{}, fmt.Errorf("name %s: %w", quote(s), err)
	}
	return Name{p, v, ext}, nil
}

func cutFormat(s string) (stem string, f Format, ok bool) {
	for _, f := range []Format{TarBzip2, TarGzip, TarZstd} {
		if stem, ok := strings.CutSuffix(s, "."+string(f)); ok {
			return stem, f, true
		}
	}
	return "", "", false
}

// Product returns what the update is for.
func (n Name) Product() Product { return n.product }

// Version returns the update's version.
func (n Name) Version() Version { return n.version }

// Format returns how the update is packed.
func (n Name) Format() Format { return n.format }

// Top returns the name of the one top directory of the archive, <product>-<version>.
func (n Name) Top() string { return string(n.product) + "-" + n.version.digits }

// String returns the file name, "" for the zero Name.
func (n Name) String() string {
	if n.IsZero() {
		return ""
	}
	return n.Top() + "." + string(n.format)
}

// IsZero reports whether n is the zero Name.
func (n Name) IsZero() bool { return n == Name{} }

// Compare orders names by product, then by version as a number, then by format so that the one which
// every box unpacks is the greatest: .tar.zst, .tar.gz, .tar.bz2.
func (n Name) Compare(m Name) int {
	return cmp.Or(
		cmp.Compare(n.product, m.product),
		n.version.Compare(m.version),
		cmp.Compare(n.format.rank(), m.format.rank()),
	)
}

// CompareByVersion orders names by version and then as Compare does: the order of a catalog, in which the newest is last
// even with several products.
func (n Name) CompareByVersion(m Name) int {
	return cmp.Or(n.version.Compare(m.version), n.Compare(m))
}

// MarshalText returns the spelling of String.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText accepts what ParseName accepts.
func (n *Name) UnmarshalText(b []byte) error {
	v, err := ParseName(string(b))
	if err != nil {
		return err
	}
	*n = v
	return nil
}
