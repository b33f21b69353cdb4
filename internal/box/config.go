package box

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/openpowerquality/box-update-server/internal/explain"
	"github.com/openpowerquality/box-update-server/internal/settings"
	"github.com/openpowerquality/box-update-server/mirror/fetch"
)

// config is what an operator says about a box.
type config struct{ settings.Box }

// readConfig reads the configuration.
func readConfig(path string) (config, error) {
	c, err := settings.ReadBox(path)
	return config{c}, err
}

// parseConfig parses a configuration that lies at path.
func parseConfig(path string, b []byte) (config, error) {
	c, err := settings.ParseBox(path, b)
	return config{c}, err
}

// hasPassword reports whether one of the URLs has a user or a password, which is for nobody else to read.
func hasPassword(urls []string) bool {
	return slices.ContainsFunc(urls, func(s string) bool { return explain.MaskURLs(s) != s })
}

// certificates returns the authorities in the configured file, nil for those of the system.
func (c *config) certificates() (*x509.CertPool, error) {
	pool, err := fetch.Authorities(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	return pool, nil
}
