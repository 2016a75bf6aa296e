package backlog

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"example.com/hopper/spill"
)

// refillItems is how many items come from the log into the window at a time.
// They are cheaper to keep as bytes.
const refillItems = 128

// refill moves items from the log into the empty window. It reports whether
// there are any now.
func (b *Backlog[T]) refill() bool {
	for b.window.len() == 0 && b.logged > 0 && b.broken == nil {
		if b.head >= b.end {
			b.loseWhatNeverWas()
			break
		}
		if !b.advance() {
			break
		}
		b.decodeSome()
	}
	return b.window.len() > 0
}

// advance makes the cursor stand at the log's oldest item. It reports false if
// that is not at hand, or is no longer needed.
func (b *Backlog[T]) advance() bool {
	for b.cursor == nil || b.cursor.Left == 0 {
		lost := b.torn
		if lost == nil {
			b.cursor, lost = b.log.Next(b.head, b.done())
		}
		if lost != nil {
			b.suffer(lost)
		} else if b.cursor == nil {
			return false
		}
		if b.window.len() > 0 || b.logged == 0 {
			return false
		}
	}

	b.head = b.cursor.Seq
	if !b.cursor.Stored.IsZero() {
		b.stored = b.notLater(b.cursor.Stored)
	}
	return true
}

// suffer accounts for items of the log that are lost. Those among them that are
// parked are not: the first comes into the window, and what is lost behind it
// waits until that is delivered.
func (b *Backlog[T]) suffer(lost *spill.CorruptError) {
	b.torn = nil
	if lost.Items == 0 { // damage that has cost none, told ahead of its place perhaps
		b.losses.add(lost)
		return
	}

	end := lost.First + lost.Items
	seq, ok := b.lot.oldest()
	if !ok || seq < lost.First || seq >= end {
		b.head = end
		b.lose(lost.Items, lost)
		return
	}

	if before := *lost; seq > lost.First {
		before.Items = seq - lost.First
		b.lose(before.Items, &before)
	}
	if behind := *lost; seq+1 < end {
		behind.First, behind.Items = seq+1, end-seq-1
		b.torn = &behind
	}

	v, _ := b.lot.take(seq)
	b.head = seq
	b.window.push(v)
	b.logged--
	b.copied++
}

// decodeSome moves a few items from the cursor to the empty window. It stops at
// one that can't be decoded, whose turn comes when the window is empty again:
// the items of a window have consecutive numbers.
func (b *Backlog[T]) decodeSome() {
	for c := b.cursor; c.Left > 0 && b.wants(); c.Advance() {
		err := b.decode(c)
		if err == nil || b.window.len() > 0 {
			return
		}
		if b.cfg.Keep && !b.cfg.Skip && !errors.Is(err, errOrphan) {
			b.broken = &DecodeError{Seq: c.Seq, Path: c.Path, Offset: c.Offset, Err: err}
			return
		}

		b.head = c.Seq + 1
		b.loseOne(c, err)
	}
}

// decode moves items from the cursor to the window while it wants some. An
// error is that of the cursor's current item.
func (b *Backlog[T]) decode(c *spill.Cursor) (err error) {
	defer catch(&err)
	for ; c.Left > 0 && b.wants(); c.Advance() {
		item, parked := c.Item()
		var v T
		if parked {
			var ok bool
			if v, ok = b.lot.take(c.Seq); !ok {
				return errOrphan
			}
		} else if v, err = b.cfg.Codec.Decode(item); err != nil {
			return err
		}

		b.window.push(v)
		b.logged--
		b.copied++
	}
	return nil
}

func (b *Backlog[T]) wants() bool {
	w := &b.window
	return w.len() == 0 || w.len() < refillItems && w.bytes < b.cfg.MaxMemory
}

// lose accounts for items of the log that can't be delivered.
func (b *Backlog[T]) lose(items uint64, err *spill.CorruptError) {
	items = min(items, b.logged) // a store may have promised less than it has lost
	b.logged -= items
	b.tally.Lost += items
	b.losses.add(err)
}

// loseWhatNeverWas accounts for items that the store told of when it was
// opened, and has not returned.
func (b *Backlog[T]) loseWhatNeverWas() {
	err := fmt.Errorf("the store counted %d items more than it has returned", b.logged)
	b.tally.Lost += b.logged
	b.logged = 0
	b.losses.add(err)
}

// loseOne accounts for the cursor's current item, which can't be decoded.
func (b *Backlog[T]) loseOne(c *spill.Cursor, err error) {
	if err != errOrphan || b.cfg.Found.Crashed || c.Seq >= b.born {
		b.lose(1, c.Corrupt(err))
		return
	}

	b.logged-- // the process that has parked it has told of its loss
	b.tally.Lost++
	b.cfg.Logger.Info("hopper: an item is passed over whose loss was told at the last stop",
		"item", c.Seq)
}

// errOrphan is the reason for the loss of an item that was parked in the memory
// of a process that has ended.
var errOrphan = errors.New("it could not be encoded, and the process that held it has ended")

// catch makes a panic of the codec an error.
func catch(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the codec panicked: %v", r)
	}
}

// encode appends the item's encoding to dst.
func (b *Backlog[T]) encode(dst []byte, v T) (buf []byte, err error) {
	defer catch(&err)
	buf, err = b.cfg.Codec.Append(dst, v)
	moved := unsafe.SliceData(buf) != unsafe.SliceData(dst)
	if err == nil && (len(buf) < len(dst) || moved && !bytes.HasPrefix(buf, dst)) {
		err = errors.New("the codec does not append: it returned something else than it was given")
	}
	return buf, err
}
