// Package hopper gives a program an unbounded channel in bounded memory.
//
// [Pipe] starts a pump between two channels that the caller already has. While the consumer keeps up,
// items go straight through. When out blocks, items wait in a small memory window, and past
// that in a spill log on disk. Producers and consumers keep ch <- v, <-ch, select, range and close.
//
//	in, out := make(chan Event, 64), make(chan Event, 64)
//	pump, err := hopper.Pipe(out, in) // the destination comes first, as in io.Copy
//
// # What it promises
//
//  1. Items leave in the order in which the pump received them, through memory and disk alike.
//  2. Nothing is lost: Received + Resumed == Delivered + InMemory + OnDisk + Lost in every snapshot of
//     [Stats], and what damage has cost is reported as an exact range of items.
//  3. An item waits only when out refused an elder one; a consumer that keeps up causes no disk I/O.
//  4. Waiting items take at most MaxMemory plus a fixed overhead of some chunk buffers, whatever the backlog
//     and whatever the item sizes. The bytes of a T of fixed size, of []byte and of string are counted
//     exactly, slice and string headers included; of other types they are measured by reflection.
//  5. At MaxDisk, at KeepFree, on a full disk and on any other write error the pump stops receiving and goes on
//     delivering: in <- v blocks, a select with a default takes its default, the caller still owns v.
//     When there is room again it goes on by itself.
//  6. A slow or hung disk never delays the delivery of what is in memory, nor Stats; Close waits for
//     it no longer than a second, or ten seconds with Resume.
//  7. close(in) drains: everything is delivered, then out is closed, then Wait returns nil.
//  8. A value that went through the disk is a deep copy equal to the one sent; one that did not is the very
//     same value. That matters for pointers, slices and maps: who sends a value gives it away.
//  9. An item that can't be encoded is never dropped: it is kept in memory, in its place, and the pump
//     stops receiving until it is delivered.
//  10. When all is delivered the disk use is back to zero without a restart, and segments go as soon as their
//     items have been delivered.
//  11. Spilled data is private: directories are made with mode 0700 and files with 0600 and O_EXCL, and
//     links are not followed.
//
// # Ends
//
// Closing in is the usual end. Where the producers can't close it, [Pump.Shutdown] stops receiving and delivers what is held,
// with a deadline, and [Pump.Close] stops at once. Both return a receipt: nil, or an [*UndeliveredError] with the
// number of items that were not delivered, and whether [Resume] has kept them for the next start. After either, nobody receives
// from in any more: a producer that may still send selects on [Pump.Done] as well.
//
// # What can travel
//
// Any data type, with no codec named: numbers, strings, slices, arrays, maps, pointers, structs with unexported fields, types
// that marshal themselves, error and other interfaces whose concrete types are known to [codec.Register]. Funcs, channels and
// locks can't: Pipe says which field it is. See package codec. A backlog that must survive a change of T needs a codec that does:
// [codec.Gob] or [codec.JSON], with [WithCodec].
//
// # After a crash
//
// With [Resume], a pump that was stopped has everything on disk, made durable with fsync, and the next one delivers exactly that.
// After a crash of the process the next pump delivers what had been written to disk: all of the log but its last chunks,
// half a MiB or one item that is larger, and not the memory window. Segments are deleted when all their items have been
// delivered, so up to one segment and the window can come twice. After a power cut the same holds for the segments that were
// sealed; of the last one what the file system had written comes back. The format of the segments is described in package spill.
package hopper
