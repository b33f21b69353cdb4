package server

import (
	"encoding/json"
	"errors"
	"net/netip"
)

// limiting are the settings that bound what one process gives away.
type limiting struct {
	MaxDownloads int64 // archives that are sent at once; 0: any number
	MaxBandwidth int64 // bytes per second of all archives together; 0: any
	MaxIdle      int64 // connections of one address on which nothing is under way; 0: any number

	// TrustedProxies are the reverse proxies that say in X-Forwarded-For whose a request is.
	TrustedProxies []netip.Prefix
}

func defaultLimiting() limiting { return limiting{MaxIdle: 256} }

func (l *limiting) fields() map[string]field {
	return map[string]field{
		"max_downloads":   {"a number of downloads", func(b json.RawMessage) error { return json.Unmarshal(b, &l.MaxDownloads) }},
		"max_bandwidth":   {"a number of bytes per second", func(b json.RawMessage) error { return json.Unmarshal(b, &l.MaxBandwidth) }},
		"max_idle":        {"a number of connections", func(b json.RawMessage) error { return json.Unmarshal(b, &l.MaxIdle) }},
		"trusted_proxies": {"an address or a prefix such as \"10.0.0.0/8\", or a list of them", func(b json.RawMessage) error { return setPrefixes(&l.TrustedProxies, b) }},
	}
}

// setPrefixes takes one address or prefix, or a list of them.
func setPrefixes(p *[]netip.Prefix, b json.RawMessage) error {
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil {
		var one string
		if err := setString(&one, b); err != nil {
			return err
		}
		texts = []string{one}
	}
	prefixes := []netip.Prefix{}
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if ip, e := netip.ParseAddr(text); e == nil {
			prefix, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			return err
		}
		if prefix != prefix.Masked() {
			return errors.New("it has bits beyond its length")
		}
		prefixes = append(prefixes, prefix)
	}
	*p = prefixes
	return nil
}

// check says what can't work.
func (l *limiting) check() (problems []error) {
	if l.MaxDownloads < 0 || l.MaxBandwidth < 0 || l.MaxIdle < 0 {
		problems = append(problems, errors.New("max_downloads, max_bandwidth and max_idle must not be negative"))
	}
	return problems
}

// shown returns the settings as the JSON object that they can be given as.
func (l *limiting) shown() map[string]any {
	m := map[string]any{"max_idle": l.MaxIdle}
	if l.MaxDownloads != 0 {
		m["max_downloads"] = l.MaxDownloads
	}
	if l.MaxBandwidth != 0 {
		m["max_bandwidth"] = l.MaxBandwidth
	}
	if len(l.TrustedProxies) > 0 {
		m["trusted_proxies"] = l.TrustedProxies
	}
	return m
}
