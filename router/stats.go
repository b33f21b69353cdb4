package router

import (
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/status"
	"github.com/openpowerquality/box-update-server/update"
)

// Stats is what is known of what is served, and of what keeps it up to date, beyond the catalog. Its
// methods are called concurrently, when somebody looks, and must not block.
type Stats interface {
	// Standing returns how things stand now. The caller does not change it.
	Standing() status.Standing

	// Conditions returns which boxes an update of the catalog is for, and from when on. The zero value
	// means all of them.
	Conditions(u update.Update) trust.Conditions
}

// standing returns how things stand, as far as anybody knows.
func (c Config) standing() status.Standing {
	if c.Stats == nil {
		return status.Standing{}
	}
	return c.Stats.Standing()
}

func (c Config) conditions(u update.Update) trust.Conditions {
	if c.Stats == nil {
		return trust.Conditions{}
	}
	return c.Stats.Conditions(u)
}
