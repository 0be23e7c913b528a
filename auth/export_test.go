package auth

// Loaded is closed when the realm has keys for the first time.
func (v *Verifier) Loaded(realm string) <-chan struct{} { return v.snapshot().byName[realm].keys.first }
