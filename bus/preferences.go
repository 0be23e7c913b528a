package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pealhq/peal"
)

// Preferences returns what a user has stored; the zero value if that is nothing,
// or nothing that can be read. The bucket's leader is asked. The error is a
// peal.ErrUnavailable or ctx's.
func (b *Bus) Preferences(ctx context.Context, in peal.Inbox) (peal.Preferences, error) {
	h := b.homeOf(in.Tenant)
	return readPreferences(ctx, h, prefKey(h.region, in), peal.DecodePreferences)
}

// TenantPreferences returns what a tenant has stored, as Preferences does.
func (b *Bus) TenantPreferences(ctx context.Context, t peal.Tenant) (peal.TenantPreferences, error) {
	h := b.homeOf(t)
	return readPreferences(ctx, h, tenantPrefKey(h.region, t), peal.DecodeTenantPreferences)
}

// SetPreferences stores p, which is valid, in the place of what the user had,
// and returns when it is on disk. Unless it is nil, check is given what would be
// replaced, perhaps more than once, and an error of it is returned as it is and
// leaves everything as it was: between check and storing nobody else stores.
//
// The error is a peal.ErrUnavailable or ctx's too; then p may have been stored.
func (b *Bus) SetPreferences(ctx context.Context, in peal.Inbox, p peal.Preferences, check func(now peal.Preferences) error) error {
	h := b.homeOf(in.Tenant)
	defer func() { h.wishes.users.forget(in, time.Now()) }()
	return setPreferences(ctx, h, prefKey(h.region, in), p.Encode(), peal.DecodePreferences, check)
}

// SetTenantPreferences stores those of a tenant, as SetPreferences does.
func (b *Bus) SetTenantPreferences(ctx context.Context, t peal.Tenant, p peal.TenantPreferences, check func(now peal.TenantPreferences) error) error {
	h := b.homeOf(t)
	defer func() { h.wishes.tenants.forget(t, time.Now()) }()
	return setPreferences(ctx, h, tenantPrefKey(h.region, t), p.Encode(), peal.DecodeTenantPreferences, check)
}

// prefKey is the key of a user's preferences: three tokens.
func prefKey(r Region, in peal.Inbox) string {
	return keySubject(prefBucket(r), string(in.Tenant), string(in.Namespace), escape(string(in.User)))
}

// tenantPrefKey is the key of a tenant's preferences: one token, so that it is no
// user's.
func tenantPrefKey(r Region, t peal.Tenant) string { return keySubject(prefBucket(r), string(t)) }

func readPreferences[P any](ctx context.Context, h *home, key string, decode func([]byte) (P, error)) (p P, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.bus.cfg.Timeout)
	defer cancel()
	m, err := h.storedPreferences(ctx, key)
	if err != nil {
		return p, unavailable("read preferences", err)
	}
	return decoded(h.wishes, m, decode), nil
}

func setPreferences[P any](ctx context.Context, h *home, key string, value []byte, decode func([]byte) (P, error), check func(P) error) error {
	const doing = "store preferences"
	ctx, cancel := context.WithTimeout(ctx, h.bus.cfg.Timeout)
	defer cancel()
	for {
		var opts []jetstream.PublishOpt
		if check != nil {
			m, err := h.storedPreferences(ctx, key)
			if err != nil {
				return unavailable(doing, err)
			}
			if err := check(decoded(h.wishes, m, decode)); err != nil {
				return err
			}
			last := uint64(0)
			if m != nil {
				last = m.seq
			}
			opts = append(opts, jetstream.WithExpectLastSequencePerSubject(last))
		}
		err := h.storePreferences(ctx, key, value, opts...)
		if err == nil {
			return nil
		}
		if !isConflict(err) {
			return unavailable(doing, err)
		}
		select {
		case <-ctx.Done():
			return unavailable(doing, ctx.Err())
		case <-time.After(oncePause):
		}
	}
}

// storedPreferences reads what the leader has for a key, also if it only says
// that the key is gone; nil if it has nothing.
func (h *home) storedPreferences(ctx context.Context, key string) (*stored, error) {
	return h.bus.getKey(ctx, h.layout().pref(), key)
}

func (h *home) storePreferences(ctx context.Context, key string, value []byte, opts ...jetstream.PublishOpt) error {
	return h.bus.putKey(ctx, h.layout().pref(), key, value, opts...)
}

// remakePreferences is remake of the bucket of preferences.
func (h *home) remakePreferences(ctx context.Context) bool {
	return h.here() && h.bus.remake(ctx, h.layout().pref())
}
