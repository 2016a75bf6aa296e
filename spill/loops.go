package spill

import (
	"errors"
	"runtime"
	"time"
)

// compressLoop is one of the goroutines that make the chunks of what is to be written. They may be done in any order.
func (l *Log) compressLoop() {
	tag := checksum([]byte(l.cfg.Label))
	for {
		b, chunks, closing := l.claim()
		if closing {
			poke(l.wakeCompressor) // the next one
			return
		}
		if b == nil {
			<-l.wakeCompressor
			continue
		}
		if len(b.buf) <= maxPack {
			b.pack(tag, chunks)
		}
		l.compressed(b)
		runtime.Gosched() // a chunk takes as long as hundreds of items, and nobody is to wait for several
	}
}

// claim returns the next batch to be compressed, and memory for its chunks. It stays in mem until it is written.
func (l *Log) claim() (b *Batch, chunks []byte, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing || !l.claimable() {
		return nil, nil, l.closing
	}
	b = l.mem[l.claimed]
	l.claimed++
	b.refs++
	if b.plain = l.plainly(); !b.plain || !b.fits() {
		chunks = l.takeChunks()
	}
	if l.claimable() {
		poke(l.wakeCompressor) // another one
	}
	return b, chunks, false
}

// claimable reports whether another batch is to be compressed: not while there are so few that Next may yet take them from memory,
// or enough are ahead of the disk. It wants mu.
func (l *Log) claimable() bool {
	return l.claimed < maxPacked && size(l.mem[l.claimed:]) > reserve
}

func size(bs []*Batch) (n int) {
	for _, b := range bs {
		n += len(b.buf)
	}
	return n
}

// compressed passes a batch on to the writer. Next may have taken it from memory meanwhile, and so one that was
// packed before may be the oldest now.
func (l *Log) compressed(b *Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.packed = true
	if len(l.mem) > 0 && l.mem[0].packed {
		poke(l.wakeWriter)
	}
	l.unref(b)
}

// plainly reports whether the next batch is to be stored uncompressed, because compressing is what everybody waits for: memory
// fills, and not with chunks that wait for the disk. Some batches later that is looked at again. There must be
// space to spare; a short backlog is soon gone again. It wants mu.
func (l *Log) plainly() bool {
	if l.plain > 0 {
		l.plain--
	} else if l.pending.Load() >= memHigh && l.claimed < maxPacked {
		l.plain = plainRun
	}
	disk, _ := l.store.usage()
	return l.plain > 0 && disk < plainLimit && (l.cfg.MaxDisk < 0 || disk < l.cfg.MaxDisk/4)
}

// writeLoop is the goroutine that changes the store: it writes what has been compressed and
// removes what has been delivered. It outlives the others, and ends the log.
func (l *Log) writeLoop() {
	defer close(l.done)
	w := writer{Log: l, untrimmed: true} // Open may not have been able to remove everything
	for !w.isClosing() {
		if w.trimDue() {
			w.trim()
		} else if b := w.toWrite(); b != nil {
			w.put(b)
		} else {
			w.wait()
		}
	}
	l.helpers.Wait()
	l.finish()
}

func (l *Log) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// A writer is what writeLoop knows.
type writer struct {
	*Log
	askAgain  <-chan time.Time // not nil: the disk refuses, and is asked again then
	trimAgain <-chan time.Time // not nil: something could not be removed, and is tried again then
	untrimmed bool
	delay     time.Duration // before the disk is asked again
}

// toWrite returns the oldest batch, if it is packed and the disk is to be asked.
func (w *writer) toWrite() *Batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.askAgain != nil || len(w.mem) == 0 || !w.mem[0].packed {
		return nil
	}
	w.mem[0].refs++
	return w.mem[0]
}

// put writes a batch. It stays the next one if the disk refuses.
func (w *writer) put(b *Batch) {
	err := w.store.put(b)
	if err == nil {
		w.wrote(b)
		return
	}
	w.Release(b)
	w.delay = min(max(2*w.delay, retryMin), retryMax)
	w.askAgain = time.After(w.delay)
	w.untrimmed, w.trimAgain = true, time.After(retryMax) // what a failed create may have left
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refusal == nil {
		w.cfg.Logger.Warn("hopper: the disk takes nothing: receiving stops when memory is full, delivery goes on", "dir", w.cfg.Dir, "error", err)
	}
	w.refusal = err
}

// wrote gives up a batch that is on disk now. Next may have taken it from memory meanwhile.
func (w *writer) wrote(b *Batch) {
	w.delay = 0
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.read >= w.written { // it had read everything
		w.eager = false
		poke(w.wakeReader)
	}
	w.written = b.end()
	if len(w.mem) > 0 && w.mem[0] == b {
		w.unref(b)
		w.forget()
	}
	w.unref(b)
	if w.refusal != nil {
		w.cfg.Logger.Info("hopper: the disk takes items again", "dir", w.cfg.Dir)
		w.refusal = nil
	}
	if w.cfg.Keep { // what takes less space on disk than in memory has made room under MaxDisk
		poke(w.cfg.Wake)
	}
}

func (w *writer) trimDue() bool {
	return w.acked.Load() >= w.store.trimAt() || w.untrimmed && w.trimAgain == nil
}

func (w *writer) trim() {
	err := w.store.trim(w.acked.Load())
	if w.untrimmed = err != nil; w.untrimmed {
		w.cfg.Logger.Warn("hopper: delivered segments could not be removed: trying again", "dir", w.cfg.Dir, "error", err)
		w.trimAgain = time.After(retryMax)
	}
	w.askAgain = nil // there may be room now
	poke(w.wakeReader)
	poke(w.cfg.Wake)
}

func (w *writer) wait() {
	select {
	case <-w.wakeWriter:
	case <-w.askAgain:
		w.askAgain = nil
	case <-w.trimAgain:
		w.trimAgain = nil
	}
}

// readLoop is the goroutine that reads ahead.
func (l *Log) readLoop() {
	for {
		b, next, closing := l.toRead()
		if closing {
			return
		}
		if b == nil {
			l.store.leave()
			<-l.wakeReader
			continue
		}
		ok, err := l.store.get(b, next)
		l.gotAhead(b, ok)
		if !ok {
			l.cfg.Logger.Warn("hopper: can't read the log now: trying again", "dir", l.cfg.Dir, "error", err)
			l.pause()
		}
	}
}

// toRead returns an empty batch if there is something to read and room for it.
func (l *Log) toRead() (b *Batch, next uint64, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := 0
	for _, b := range l.ready {
		size += max(len(b.buf), maxPayload) // a short one takes as much
	}
	if !l.closing && l.written > l.read && (size == 0 || l.eager && size < readyLimit) {
		b = l.takeSpare()
		b.refs = 1
	}
	return b, l.read, l.closing
}

func (l *Log) gotAhead(b *Batch, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok {
		l.unref(b)
		return
	}
	l.ready = append(l.ready, b)
	l.read = b.end()
	poke(l.cfg.Wake)
}

// pause waits before a read is tried again.
func (l *Log) pause() {
	select {
	case <-time.After(retryMax / 10):
	case <-l.wakeReader:
	}
}

// finish ends the log: everything is kept, or everything is deleted.
func (l *Log) finish() {
	var err error
	if l.cfg.Keep {
		err = l.save()
		if l.unsaved > 0 {
			l.left.end = l.left.next // the receipt must not vouch for what is not there
		}
	}
	l.closeErr = errors.Join(err, l.store.close(l.left, l.cfg.Keep))
}

// save writes what is still in memory. Room has kept MaxDisk for it. It may take of KeepFree, rather than be lost: it is not much.
func (l *Log) save() (err error) {
	l.store.uncap()
	for _, b := range append(l.mem, l.keep...) {
		if b = l.unstored(b); b.Items == 0 {
			continue
		}
		if e := l.store.put(b); e != nil {
			l.unsaved += uint64(b.Items)
			if !errors.Is(err, e) { // the disk says the same to each
				err = errors.Join(err, e)
			}
		}
	}
	l.store.seal()
	return err
}

// unstored returns what of b is not in the store: it may have been written after it was gathered.
func (l *Log) unstored(b *Batch) *Batch {
	n := 0
	for n < b.Items && l.store.has(b.First+uint64(n)) {
		n++
	}
	if n == 0 {
		return b
	}
	b.pos = len(b.buf) - len(skipFrames(b.frames(), n))
	return b.rest(b.First + uint64(n))
}
