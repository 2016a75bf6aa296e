// Package storetest tests implementations of [spill.Store], and has one in
// memory for tests of what uses a store.
//
// # Testing a store
//
// [Test] runs the conformance suite. All that it needs to know of a store is a
// [Medium]: how to make a store on something that outlives it, such as a
// directory or a stream. What else an implementation can do for its tests, such
// as end like a killed process, refuse, hang or be damaged, stands in optional
// fields; the tests that need a field which is nil are skipped, and say so.
//
//	func TestStore(t *testing.T) {
//		storetest.Test(t, func(t *testing.T) storetest.Medium {
//			dir := t.TempDir()
//			return storetest.Medium{
//				Store: func() spill.Store { return mystore.New(dir) },
//			}
//		})
//	}
//
// The suite makes no demands that the documentation of [spill.Store] does not
// make. It reads items back through [spill.Items], and at the end through a
// [spill.Log]. Where a store says "not now", by an error of Append or Read, the
// suite asks again, as a log does, so that it can also run over a connection
// that is cut and delayed. Run it with the race detector.
//
// [TestInBubble] runs every test inside a bubble of [testing/synctest], where a
// store that waits takes no real time.
//
// # A store in memory
//
// A [Memory] is a medium in memory. It meets the contract to the letter, takes
// a limit, can be slow, fail, hang, lose the outcome of an Append, lose power,
// and be damaged, and panics if whoever uses its stores breaks the contract.
package storetest
