/*
Package spill keeps a first-in, first-out log of byte items: in memory while it is short, in files
while it is long. A [Log] never makes its caller wait for the disk. It knows nothing of what the items mean.

# Words

An item is a sequence of bytes with a sequence number, a uint64. Numbers grow by one from item to item, but for jumps
where items passed without the log. A frame is an item with its length in front. A chunk is the snappy framing format's unit. A
segment is one file, and holds items without a gap. The tail is what is being appended to, the head the oldest item that waits. To seal
a segment is to end it with a footer; to rotate is to seal one and create the next. The watermark is the offset in the active segment
up to which readers may go. The backlog is what has been appended and not yet delivered.

# Files

A directory belongs to one log at a time, which holds a lock on it: flock(2) on the directory itself, or LockFileEx on the file
hopper.lock on Windows. The directory has mode 0700 and the files 0600. They are created with O_EXCL and opened without following links. These names
are used, with sequence numbers of 20 decimal digits; all other files are left alone, and so is what has such a name but is no regular
file, or contains nothing that can be understood:

	00000000000000000042.sz                            segment; its first item is 42
	00000000000000000042-00000000000000000100.ack      receipt: exactly the items from 42 up to, not including, 100 were left
	00000000000000000042.retained                      the segment of that name could not be read: it is left for salvage, in a directory of its own
	hopper.probe                                       made and removed at the start, to see whether files can be made

Receipts and retained marks are empty: the name is the content, so that there is no half-written one. Nothing is ever renamed.

# Segments

A segment is a stream in the snappy framing format (framing_format.txt of github.com/google/snappy), which every tool for that
format can read. All numbers are little-endian. All checksums are CRC-32C, masked as the framing format says.

	stream identifier    ff 06 00 00 "sNaPpY"
	header               skippable chunk of type 0x80
	data chunks          types 0x00 (compressed) and 0x01 (not), any number
	footer               skippable chunk of type 0x81, once the segment is sealed; nothing follows it

The header's body is

	magic       6 bytes   "hopper"
	version     1         1
	flags       1         bit 0: kept: the backlog was to outlive the log
	first       8         sequence number of the segment's first item
	follows     8         where the log ended when the segment was created
	acked       8         items below were delivered by then
	length      2         of the label
	label       n         the kind of the items; a log takes only segments with its own
	checksum    4         of the body so far

and the footer's

	magic       6 bytes   "hopper"
	version     1         1
	flags       1         0
	first       8         the segment holds the items from here …
	end         8         … up to, not including, here
	frames      8         bytes of their frames
	checksum    4         of the body so far

A data chunk holds, decompressed, at most 65536 bytes:

	first       8 bytes   sequence number of the item that the first frame belongs to
	offset      8         bytes of that frame in the chunks before
	count       4         items that end in this chunk
	tag         4         checksum of the label
	frames      n         each a uvarint length, and so many bytes

All of it is covered by the checksum that the framing format puts in front. An item whose frame does not fit into a chunk
runs over several, which it shares with no other: they all have its number as first, growing offsets, and the count 0, the last one 1.

The framing format alone would not do: its checksum does not cover the chunk headers, and neither a missing chunk nor one
whose type has been damaged into a skippable one is an error to it. Here the sequence numbers tell what is missing.

# Reading damaged segments

Every length is checked against its limit before anything is allocated. Only data that passes its checksum, and all checks of
structure, is delivered. A chunk that does not is skipped alone if its header still tells where the next one begins; otherwise the rest of the segment
is lost, since a search for something that looks like a chunk could find an item's content. What is lost shows in the numbers, and a [CorruptError] tells
the exact range. A damaged header costs no item: the file's name and the chunks tell the same. Neither does a damaged footer. A
file that can't be read is not deleted.

# Recovery

Open changes nothing but to delete what is not part of the backlog, so it can be interrupted and repeated at any point.

 1. The backlog begins at the receipt's first number, or at the highest acked of all headers if that is more. Segments
    without an item from there on are deleted: they are empty, or came back after a crash of the machine had undone their removal.
 2. A sealed segment ends as its footer says, any other behind its last whole chunk. What stands behind was being written when
    the process ended, and was never part of the log: it is passed over without a word if it is part of a chunk, a
    last chunk that fails its checksum, or zeros. Anything else is damage, and counts as the loss of one item at least.
 3. Segments are read in the order of their first items. Where they overlap, which happens if a write was repeated, each item is
    delivered once.
 4. Items are missing if a receipt vouches for them, or if a segment's header says that it follows them, and no segment
    has them. They are reported as lost, in exact ranges.
 5. Without a receipt nobody knows what was delivered from the oldest segment on: its items may be delivered twice.
 6. A segment of another version or label, and a kept backlog where Config.Keep is off, fail Open and stay untouched. The segments
    of a log that was not to be kept are deleted.

A receipt is removed before the first segment that it vouches for.

# Writing

Two goroutines compress ahead, a batch each. Batches are appended in their order, each with one write, or one a chunk where an item
is very large. If that fails the file is cut back to the watermark, and if that fails too the segment ends there: the items stay in
memory and are written again, to another segment if need be. While the disk refuses, the log goes on delivering, and asks again within a second. [Log.Room] turns false once its memory is full.

Segments are deleted once all of their items have been delivered. Items that Next reaches in memory never go to the disk, or are not
read back from there.

# What survives

After the process was killed: everything that was written, in order and without a gap. After a power cut: what had been
synced, which is, with Config.Keep only,

  - each segment when it is sealed, so all but the active one;
  - at Close everything that was left, segments of a killed predecessor included, and the receipt;
  - the directory after each creation and removal.

An fsync that has failed is not repeated on the same file, because the kernel takes the data for clean from then on: Close
reports the items that may not survive. A log without Config.Keep syncs nothing.
*/
package spill
