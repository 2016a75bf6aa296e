/*
Package spill keeps a first-in, first-out log of numbered byte items: in memory
while it is short, in a [Store] while it is long. A [Log] never makes its user
wait for the store. It knows nothing of what the items mean.

The store is an interface. Package spill/segment is the embedded one, a directory
of files; package spill/storetest tests any.

# Words

An item is a sequence of bytes with a number. Numbers grow by one from item to
item, but for those that pass without the log. A frame is an item with its length
in front. A chunk is the snappy framing format's unit. A batch is the items that
are handed to the store together. The tail is the batch that is being filled. The
backlog is what has been appended and is not done.

# Chunks

A store sees an item only in a chunk. Every chunk is one of the snappy framing
format (framing_format.txt of github.com/google/snappy), of type 0x00
(compressed) or 0x01 (not), so that any tool for that format can read them. All
numbers are little-endian. A chunk holds, decompressed, at most 65536 bytes:

	first       8 bytes   number of the item that the first frame belongs to
	offset      8         bytes of that frame in the chunks before
	count       4         items that end in this chunk
	tag         4         masked CRC-32C of the label, which names the kind of the items
	frames      n         each a uvarint length, and so many bytes

All of it is covered by the checksum that the framing format puts in front. An
item whose frame does not fit into a chunk runs over several, which it shares
with no other: they all have its number as first, growing offsets, and the count
0, the last one 1. The length 80 00, an overlong 0, stands for an item that could
not be encoded and was parked in memory by its owner; an empty item has the length
00.

The framing format alone would not do: its checksum does not cover the chunk
headers, and neither a missing chunk nor one whose type has been damaged into a
skippable one is an error to it. Here the numbers tell what is missing.

# Reading damaged chunks

Every length is checked against its limit before anything is allocated. Only data
that passes its checksum, and all checks of structure, is delivered. A chunk that
does not is passed over alone if its header still tells where the next one
begins; otherwise the rest of what the store keeps together is lost, since a
search for something that looks like a chunk could find an item's content. What
is lost shows in the numbers, and a [CorruptError] tells the exact range.

# Writing

Full batches are packed ahead of the store by goroutines that all logs of the
process share, and appended in their order by one of the log's own. If the store
refuses, the items stay in memory while the log goes on delivering, and the store
is asked again within a second; [Log.Room] turns false once memory is full. A
batch is dropped unwritten once its items are done. A log that is not used for a
moment writes what it holds and lets go of its memory.

# Items that are not done

An item stays in the log until its user says that it is done. The user may be
ahead of that: [Log.Next] takes two numbers, that of the item to go on at and
that below which all are done. A log with Config.Journal gets every item, though
most will be done before it would have to be stored; it stores nothing while
what is not done takes no more than 512 KiB.

# Syncs

What a store has taken survives the end of the process, but not that of the
machine. [Log.SyncLater] has everything stored that was appended before, and then
calls [Store.Sync], which makes it durable and remembers which items are done, so
that those do not come back. [Log.Synced] tells how far that has got. It all
happens beside the log's user, who is woken when a sync has finished or failed. A
sync costs one call of Append, more if there are more than four batches, and one
of Sync; it costs nothing if there is nothing new.
*/
package spill
