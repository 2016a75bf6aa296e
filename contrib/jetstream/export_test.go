package jetstream

import (
	"context"

	"example.com/hopper/spill"
)

// Die ends a store as the end of its process would: nothing that it has under
// way is waited for, and the lease stays as it is.
func Die(s spill.Store) {
	st := s.(*store)
	st.Freeze()
	st.phase.Store(ended)
	ctx, cancel := context.WithTimeout(context.Background(), answerWait)
	defer cancel()
	st.fetched.drop()
	st.api.w.close(ctx)
}

// Freeze ends the renewals, as the end of the process's CPU time would.
func (s *store) Freeze() {
	s.halt()
	s.renewing.Wait()
}

// Freeze ends the renewals of the lease.
func Freeze(s spill.Store) { s.(*store).Freeze() }

// RenewAndGiveUp renews the lease and does not wait for the answer.
func RenewAndGiveUp(s spill.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	_ = s.(*store).lease.save(ctx, func(*record) {})
}
