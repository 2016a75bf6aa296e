/*
Package segment is the embedded [spill.Store]: a directory of segment files.
[New] makes one. [Inspect], [Items] and [Verify] look at a directory that a
[Store] is using or has left.

# Files

A directory belongs to one store at a time, which holds a lock on it: flock(2)
on the directory itself, or, where that can't be had (Windows, illumos), a lock
on the file hopper.lock in it. The directory has mode 0700 and the files 0600,
whatever the umask. Files are created with O_EXCL and opened without following
links. These names are used, with item numbers of 20 decimal digits, below
1<<63:

	00000000000000000042.sz          segment; its first item is 42
	00000000000000000042-00000000000000000100.ack
	                                 receipt: exactly the items from 42 up to,
	                                 not including, 100 were left
	00000000000000000042-00000000000000000100.opened
	                                 a store has been opened with that receipt:
	                                 if the mark is there at the next Open, that
	                                 store ended without Close
	00000000000000000042.retained    the segment of that name could not be read:
	                                 it is left for salvage, in a directory of
	                                 its own
	hopper.probe                     made and removed by Open, to see whether
	                                 files can be made
	hopper.lock                      see above, and below

All other files are left alone, and so is what has such a name but is no regular
file, or contains nothing that can be understood. If the name of a new segment
is taken, or has a mark beside it, the segment gets that of a later item: what
its first item is stands in its header.

Receipts and the two kinds of marks are empty: the name is the content, so that
there is no half-written one. Nothing is ever renamed.

If the directory is removed while a store is using it, or another one takes its
place, the store makes and removes no file there any more. Close reports the
items that are gone with files which somebody else has removed, and vouches for
none then.

# Temporary directories

A store without a name for its directory makes one at its first Append, under
[os.TempDir], and removes it as soon as it holds no segment any more. Its name
begins with "hopper-", and in it is a marker, hopper.lock, on which the store
has a lock. What killed processes have left is removed when a process makes its
first such directory: directories of the same user that have a marker which can
be locked, and those that have been empty for an hour. Whoever has locked a
marker makes sure that the path still leads to it.

# Segments

A segment is a stream in the snappy framing format (framing_format.txt of
github.com/google/snappy), which every tool for that format can read. All
numbers are little-endian. All checksums are CRC-32C, masked as the framing
format says.

	stream identifier    ff 06 00 00 "sNaPpY"
	header               skippable chunk of type 0x80
	data chunks          types 0x00 (compressed) and 0x01 (not), any number
	cursors              skippable chunks of type 0x82, any number, between the
	                     data chunks and behind; in version 2 only
	footer               skippable chunk of type 0x81, once the segment is
	                     sealed; nothing stands behind it

The header's body is

	magic       6 bytes   "hopper"
	version     1         1, or 2 if the segment may have cursors
	flags       1         bit 0: the items are to be left when the store closes
	first       8         number of the segment's first item
	follows     8         where the store ended when the segment was made
	acked       8         items below were done by then
	length      2         of the label, at most 16384
	label       n         the kind of the items; a store takes only segments with
	                      its own
	checksum    4         of the body so far

a cursor's

	magic       6 bytes   "hopper"
	version     1         2
	flags       1         0
	first       8         as in the header
	acked       8         items below are done
	checksum    4         of the body so far

and the footer's

	magic       6 bytes   "hopper"
	version     1         1
	flags       1         bit 0: a cursor stands directly in front
	first       8         the segment holds the items from here …
	end         8         … up to, not including, here
	frames      8         bytes of their frames, uncompressed
	checksum    4         of the body so far

The data chunks are those of package spill, which documents them.

# Cursors

Each Sync says which items are done. That is written only where files hold such
items: into a cursor at the end of the active segment, which is synced with what
stands before it, so that one fsync makes both durable. If no segment is active,
or the active one is of version 1 or full, another is begun, whose header says
it; that segment may never get an item, and is removed when a later one has a
higher number. Of all that headers and cursors say the highest number counts.

A directory gets no segment of version 2 before the first Sync that has
something to write. Programs that know only version 1 refuse a directory that
has one, and this one reads and mixes both.

A segment whose cursor nothing else makes up for goes last, when those with
items below are gone for good: first they are removed and the directory is
synced, then it is.

# Damage

A search for something that looks like a chunk could find an item's content.
Hence a chunk whose header does not tell where the next one begins ends what can
be read of its segment; damage behind the header of a chunk costs that chunk
alone. A damaged segment header costs no item: the file's name and the chunks
tell the same. Neither does a damaged footer, nor junk behind one, nor a damaged
cursor: one is known by its chunk header or by its body, which has a checksum,
so that either may be damaged. Then an older cursor counts, and items come
twice. All of that is reported where it is met. A file that can't be read is not
deleted, except with a temporary directory, which nobody looks into again.

# Recovery

Open changes nothing but to delete what is done, marks whose segments somebody
has moved away, and receipts that have been replaced, and to mark the receipt
that counts as opened, so it can be interrupted and repeated at any point. Of
several receipts the newest one counts: that with the highest first number or,
where that is equal, the highest second one.

 1. What is left begins at the receipt's first number, or at the highest acked
    of all headers and cursors if that is more. Segments without an item from
    there on are deleted: they are empty, or came back after a crash of the
    machine had undone their removal. An empty one stays as long as nothing but
    its cursor tells that items in others are done.
 2. A sealed segment ends as its footer says, any other behind its last whole
    chunk. What stands behind that was being written when the process ended, and
    was never part of the store: it is passed over without a word if it is part
    of a chunk or cursor, a last one that fails its checksum, or zeros. Anything
    else is damage, and counts as the loss of one item at least.
 3. Segments are read in the order of their first items. Where they overlap,
    which happens if a batch was written twice, each item is delivered once.
 4. Items are missing if a receipt vouches for them, or if a segment's header
    says that it follows them, and no segment has them. They are reported as
    lost, in exact ranges: in the segment where they should have been, if it
    seems to be cut off. An empty file in front of a segment shows that the
    items it was made for were there, and had not been done.
 5. The log ended without Close if there is a segment that no receipt vouches
    for, or the receipt is marked as opened. Then nobody knows what was done
    from the cursor to the end of the oldest segment: those items may come
    twice. A receipt whose two numbers are equal vouches for no items, and says
    that Close could not store them all, or missed some.
 6. A segment of another version or label, and, where items are not to be kept,
    items that were left on purpose, fail Open and stay untouched. The segments
    of a log that was not to leave any are deleted.

A receipt is removed before the first segment that it vouches for.

# Writing

A batch is appended with one write, or one for each chunk of an item that needs
several. If that fails the file is cut back to where it was; if that fails too
the segment ends there. Either way the batch is not stored, and can be appended
again, to another segment if need be. The same goes for a file that somebody has
cut off or added to, which is seen at the next Append, and for one that has
reached the largest size that the system allows.

# What survives

After the process was killed: everything that was appended, in order and without
a gap. After a power cut: what had been synced, which is, of a store opened to
keep its items only,

  - each segment when it is sealed, so all but the active one;
  - at Sync everything that was appended, and what is done;
  - at Close everything that is left, and the receipt: also segments that a
    predecessor has left which ended without Close, and those that have ended
    without a footer;
  - the directory after each creation and removal, where the file system can do
    that.

An fsync that has failed is not repeated on the same file, because the kernel
takes the data for clean from then on: Close reports the items that may not
survive, and Sync copies them, as long as they can be read, to another file.
*/
package segment
