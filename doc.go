// Package hopper gives a program an unbounded channel in bounded memory.
//
// [Pipe] starts a pump between two channels that the program already has. While
// the consumer keeps up, items go straight through. When out blocks, items wait
// in a small memory window, and past that in a log on disk. Producers and
// consumers keep ch <- v, <-ch, select, range and close. Nothing is dropped or
// reordered.
//
//	in, out := make(chan Event, 64), make(chan Event)
//	pump, err := hopper.Pipe(out, in) // the destination comes first, as in io.Copy
//	if err != nil {
//		return err
//	}
//	defer pump.Close()
//
// [Make] makes both channels and the pipe.
//
// # What it promises
//
//  1. Items leave in the order in which the pump received them, through memory
//     and disk alike.
//  2. Nothing is lost. In every snapshot of [Stats],
//     Received + Resumed == Delivered + InMemory + OnDisk + Lost.
//     A stop accounts for every item whose send had completed before the stop
//     was requested, those in in's buffer included.
//  3. An item waits only if out refused an earlier one. Without [ManualAck] and
//     [SyncEvery], a consumer that keeps up causes no disk I/O, no file, no
//     directory other than the one given to Dir, and no goroutine other than
//     the pump's.
//  4. Waiting items take at most MaxMemory plus a fixed overhead, whatever the
//     backlog, the item sizes and the type; the memory is freed once they are
//     gone. For types of fixed size, []byte (its capacity) and string (its
//     length) the count is exact.
//  5. At a limit, on a full disk and on any write error the pump stops
//     receiving and goes on delivering: in <- v blocks, a select with a default
//     takes its default, and the caller still owns v. Stats and the log say
//     why. When there is room again it resumes by itself. A disk that is merely
//     slower than the producer slows the producer down to its own speed; that
//     is not reported.
//  6. A slow or hung disk delays neither Stats nor the delivery of what is in
//     memory. Close waits for it for at most a second, or ten with Resume.
//  7. close(in) drains: everything is delivered, then out is closed, then Wait
//     returns nil.
//  8. A value that went through the disk is an equal copy; one that did not is
//     the very same value. Whoever sends a value must not change what it refers
//     to.
//  9. Any T can travel. An item that can't be copied faithfully is parked: it
//     stays in memory as it is, in its place in the order, counts toward
//     MaxMemory, and comes out identical.
//  10. When everything is delivered, disk use is back to zero. Each file is
//     removed as soon as its items have been delivered.
//  11. Spilled data is private: directories have mode 0700 and files 0600, and
//     symlinks are not followed. What a killed process left in os.TempDir is
//     removed at the next start.
//  12. An intact backlog is never destroyed. With Resume, an item that can't be
//     decoded ends the pump with a [*DecodeError]. It and all that follow stay
//     where they are, unless [SkipUndecodable] says to go on without it.
//  13. At least once: with [ManualAck] an item that was received and not
//     acknowledged comes back after a stop. With [SyncEvery](d) whatever was
//     received more than d earlier, and the time of one sync, also comes back
//     after kill -9 or a power cut. Without ManualAck, "delivered" means that
//     out took the item.
//  14. A start after a crash says so in the log: what may be missing, and what
//     may come twice.
//
// # Stopping
//
// Usually the producers close in. Where they can't, [Pump.Shutdown] delivers
// the backlog, up to a deadline, and [Pump.Close] stops at once. Both return a
// receipt: nil, or an [*UndeliveredError] with the number of items that were
// not delivered, and whether [Resume] has kept them. When the context of
// [PipeContext] is done, the pump stops as by Close.
//
// Items buffered in out count as delivered: after a stop, range over out to its
// end. Make out unbuffered if they must not be lost with the process.
//
// # What a pipe changes
//
// A pipe removes back-pressure. A program that slows its producer by not
// receiving, or that assumes anything sent has been processed, behaves
// differently behind a pipe. Stats may lag a moment behind a send that has
// returned.
//
// Without [Dir] the backlog goes to os.TempDir. On some systems that is a
// tmpfs, which is memory: the pump says so in the log, once. The files grow
// until the disk is full but for [KeepFree], unless [MaxDisk] says otherwise.
//
// # What is copied, what is parked, what Resume refuses
//
// Without Resume every T is accepted. Plain data is copied to disk and back:
// structs with unexported fields, maps, pointers, cycles, times, errors,
// interfaces, protobuf messages. An item that holds a non-nil channel, func or
// context, or a pointer to something with a lock, stays in memory whole, and
// counts toward MaxMemory.
//
// With Resume, a T that can never be encoded is refused by Pipe, which names
// the field. A single value that can't be encoded is parked until it is
// delivered; a stop before that loses it, and says so. Types inside interfaces
// must be known to [codec.Register]. If T has changed since the backlog was
// written, Pipe fails, and the backlog stays intact until the old program has
// drained it. Use [codec.JSON] or [codec.Gob] with [WithCodec] where deploys
// change T.
//
// # After a crash
//
// What the next pump with [Resume] delivers depends on how the last one ended:
//
//   - After Close or Shutdown, exactly what was not delivered. It is made
//     durable with fsync.
//   - After a crash of the process, the log except for its last half MiB (all
//     of it if the pump had been idle for two seconds), and nothing of the
//     memory window. Up to one segment, of [DefaultSegmentSize], and the window
//     may come twice: a segment is deleted once all its items are delivered.
//   - After a power cut, the same for segments that were full. Of the last one
//     comes what the file system had written.
//   - With [SyncEvery](d), at most the last d and the time of one sync are lost,
//     and at most as much comes twice.
//
// The formats are described in packages spill and spill/segment.
package hopper
