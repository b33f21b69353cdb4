package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/openpowerquality/box-update-server/keys"
	"github.com/openpowerquality/box-update-server/origin"
	"github.com/openpowerquality/box-update-server/signing/trust"
	"github.com/openpowerquality/box-update-server/store"
)

// keys checks the key files, without the repository that they are for.
func (c *checked) keys(ctx context.Context) (found []Finding) {
	if c.settings.OnlineKey != "" {
		if _, err := onlineKeys(ctx, c.settings.OnlineKey); err != nil {
			found = append(found, wrong("online_key", "the file must be there, belong to the account that the server runs as, and have mode 0600", "%v", err))
		}
	}
	if c.settings.ReleaseKey != "" {
		if _, err := readPublicKey(c.settings.ReleaseKey); err != nil {
			found = append(found, wrong("release_key", "it is release.pub, which boxsign init made", "%v", err))
		}
	}
	return found
}

// repository opens and verifies what the data directory holds, and gives the warnings that every report gives on it.
func (c *checked) repository(ctx context.Context) (found []Finding) {
	const check = "repository"
	s := c.settings
	if len(s.Upstream) == 0 && !hasRepository(s.DataDir) {
		return nil
	}
	config, err := storeConfig(s, nil, c.Now)
	if err != nil {
		return []Finding{wrong(check, "get N.root.json from a release signer, not from the upstream", "%v", err)}
	}
	st, err := store.OpenReadOnly(ctx, config)
	if err != nil {
		return []Finding{wrong(check, "bring data_dir back from a backup; a mirror may begin again with an empty data_dir", "%v", err)}
	}
	c.store = st
	repo := st.Repository()
	if repo == nil && len(st.Damage()) == 0 {
		return []Finding{warning(check, "wait for the first sync, or see the checks of the upstreams", "nothing has been synced yet")}
	}
	if repo != nil {
		found = append(found, ok(check, "targets %d with %d updates verifies", repo.Version(trust.RoleTargets), len(repo.Releases())))
	}
	if _, c.warnings, err = readStanding(st, s, c.Built, c.Now()); err != nil {
		return append(found, wrong(check, "see the message", "%v", err))
	}
	expiring := map[string]bool{} // by role
	for _, w := range c.warnings {
		// Archives may lie in updates_dir. Another check reports the clock.
		if w.Subject == origin.SubjectClock || w.Subject == store.SubjectLost && s.UpdatesDir != "" {
			continue
		}
		// A check has one name, whether or not all is well.
		if w.Expiring != "" {
			w.Subject, expiring[w.Expiring] = expiryOf(w.Expiring), true
		} else if w.Subject == store.SubjectDamage {
			w.Subject = check
		}
		found = append(found, Finding{Warning: w})
	}
	if repo == nil {
		return found
	}
	for _, role := range trust.Roles() {
		if until := repo.Expires(role); !expiring[string(role)] && until.After(c.Now()) {
			found = append(found, ok(expiryOf(string(role)), "version %d until %s", repo.Version(role), stamped(until)))
		}
	}
	room, err := st.Room(ctx, st.Missing(repo))
	if err == nil && len(s.Upstream) > 0 && room.Need > room.Free {
		found = append(found, wrong("disk", "make room, or keep fewer updates with keep_newest", "what is missing takes %d MB, and %d MB are free", room.Need>>20, room.Free>>20))
	}
	return append(found, c.signer(ctx, repo)...)
}

func expiryOf(role string) string { return "expiry of " + role }

// signer checks that the root names the online key.
func (c *checked) signer(ctx context.Context, repo *trust.Repository) []Finding {
	if len(c.settings.Upstream) > 0 {
		return nil
	}
	if c.settings.OnlineKey == "" {
		return []Finding{warning("online_key", "set online_key to the file online.pem that boxsign init made", "it is not set: nothing can be published or renewed")}
	}
	signers, err := onlineKeys(ctx, c.settings.OnlineKey)
	if err != nil {
		return nil // another check reported it
	}
	for _, s := range signers {
		named := func(k keys.Public) bool { return k.ID() == s.Public().ID() }
		if slices.ContainsFunc(repo.Root().Keys(trust.RoleTimestamp), named) {
			return []Finding{ok("online_key", "the repository names it")}
		}
	}
	return []Finding{wrong("online_key", "use the key that the repository names, or replace it with boxsign rotate online", "root %d does not name it", repo.Root().Version())}
}

// clock compares the clock with signed times.
func (c *checked) clock(context.Context) []Finding {
	const check, advice = "clock", "set the clock, and keep it synchronized: timedatectl set-ntp true"
	at := c.Now()
	if built := c.Built; at.Before(built) {
		return []Finding{wrong(check, advice, "it says %s, and this program was built at %s", stamped(at), stamped(built))}
	}
	if c.store == nil || c.store.Repository() == nil {
		return nil
	}
	if len(c.settings.Upstream) > 0 {
		if err := c.store.Repository().CheckClock(at); err != nil {
			return []Finding{wrong(check, advice, "%v", err)}
		}
		return []Finding{ok(check, "it is not behind the signed timestamp")}
	}
	for _, w := range c.warnings {
		if w.Subject == origin.SubjectClock {
			return []Finding{{Warning: w}}
		}
	}
	return []Finding{ok(check, "it is neither behind what was signed nor far ahead of it")}
}

func stamped(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// adviceFor returns what to do about an upstream that gave an error.
func adviceFor(err error) string {
	switch {
	case errors.Is(err, trust.ErrExpired):
		return "the metadata of the upstream is expired: tell its operator, and check the clock"
	case errors.Is(err, trust.ErrRollback):
		return "the upstream has older metadata than this server: is it a mirror that is behind? use another upstream"
	case errors.Is(err, trust.ErrThreshold), errors.Is(err, trust.ErrFork), errors.Is(err, trust.ErrMismatch), errors.Is(err, trust.ErrMalformed):
		return "the metadata of the upstream can't be verified with the root here: is it the right URL, and the right root?"
	}
	return "is the URL right, and can it be reached from here? try curl URL/metadata/timestamp.json"
}
