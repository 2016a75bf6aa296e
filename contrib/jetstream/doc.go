/*
Package jetstream keeps a pipe's backlog in a stream of NATS JetStream: for hosts
without a disk of their own, and for a backlog that another host can take over.

	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	js, err := natsjetstream.New(nc)
	store, err := jetstream.New(js, jetstream.Config{StreamName: "orders"})
	pump, err := hopper.Pipe(out, in, hopper.WithStore(store), hopper.Resume())

The stream is made if it does not exist: with discard new, so that a full stream
makes the pump stop receiving, where the default would delete the oldest
messages. One that exists is used if no setting of it would lose items; else Open
says what to change.

# What JetStream promises

A server acknowledges a message before it calls fsync, which it does every two
minutes unless its configuration says otherwise (sync_interval: always). So:

  - The end of the server's process loses nothing.
  - A power cut, or a crash of the operating system, can lose what was
    acknowledged since the last fsync: on a stream with one replica for good, on
    one with three if it hits two of the servers.
  - With sync_interval: always an acknowledged message is on disk, at the cost of
    an fsync for each. A message holds up to 256 KiB of items.

[spill.Store.Sync] can't do more than that: it makes sure that all is acknowledged.
If a server has lost what it had acknowledged, the store goes on behind what is
left, and reports what is missing as lost, in exact ranges, as a directory does.

While the server is away, the pump keeps what fits into its memory, then stops
receiving, delivers what it has, and goes on by itself. That needs a connection
that does the same: pass nats.MaxReconnects(-1). A connection whose other end
hangs is noticed after a while only: see nats.PingInterval and
nats.FlusherTimeout.

# One user at a time

A lease in a KV bucket takes the place of a file lock: it names the store that
uses the stream, is renewed three times in Config.Lease, and given back by Close.
Open of a stream that is in use fails with [spill.ErrLocked], once it has seen
that the lease is renewed. Where the holder is gone Open waits until the lease
has run out, and takes over.

The lease alone would not do, since a holder may only have been slow. Every
message says which number it is to follow, and the server stores no other. Before
Open returns it puts a fence into the stream, an empty message: whatever an earlier
holder has under way is either in front of it, and is found, or is refused. That
holder finds the fence where it expects its own message, and ends: all of its
calls return ErrLocked from then on. Nor does it delete anything: Trim renews the
lease first.

# What comes twice

After Close nothing does. After a crash or a takeover all that was stored comes
again from the last Trim or Sync on. Messages are deleted some at a time, so that
this is up to 4 MiB of items that had been delivered, and more if Trim had not got
through to the server; with hopper.SyncEvery it is what was delivered since the
last sync. A former holder that is only cut off goes on to deliver from its
memory, too. What a process has had in memory only is lost with it.

# The stream

A message on the subject "hopper." and the stream's name holds chunks of whole
items, as package spill describes them, so that all damage shows. An item that
needs more than a message has its chunks in several. The header "Hopper" says what
it is, in words with a space between:

	1          version
	chunks     or fence
	holder     random, of the store that has sent it
	epoch      grows with each store that takes the lease
	id         number of the message, of this holder
	first end  the items from first up to, not including, end
	follows    items in front of first that were stored before end there; 0: unknown
	part       of an item in several messages, counted from 0
	last       true for the last part

A fence has the headers "Hopper-Label" and "Hopper-Keep" too. The value of the key
"lease" in the bucket "hopper_" and the stream's name is JSON: the holder, how long
it is to be waited for, and which items were stored and are not done, so that those
that are missing at the next start are known.

# Limits

The index is in memory: some 150 bytes for each message in the stream, which is
half a MiB for each GiB of backlog. The server's max_payload must be 80 KiB or
more; the default is 1 MiB. A store on a stream in memory (Config.Storage) is gone
with the server: the pipe says so, and has to be started anew.
*/
package jetstream
