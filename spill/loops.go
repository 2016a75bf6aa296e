package spill

import (
	"errors"
	"time"
)

// writeLoop is the goroutine that changes the store: it writes what waits in memory and
// removes what has been delivered. It outlives readLoop, and ends the log.
func (l *Log) writeLoop() {
	defer close(l.done)
	w := writer{Log: l, untrimmed: true} // Open may not have been able to remove everything
	for {
		switch bs, closing := l.claim(w.askAgain == nil); {
		case closing:
			<-l.readerDone
			l.finish()
			return
		case w.trimDue():
			l.unclaim(bs)
			w.trim()
		case len(bs) > 0:
			w.put(bs)
		default:
			w.wait()
		}
	}
}

// A writer is what writeLoop knows.
type writer struct {
	*Log
	askAgain  <-chan time.Time // not nil: the disk refuses, and is asked again then
	trimAgain <-chan time.Time // not nil: something could not be removed, and is tried again then
	untrimmed bool
	delay     time.Duration // before the disk is asked again
}

// claim returns the batches to be written now: none unless the disk is to be asked, or while there are
// so few that Next may yet take them from memory. They stay in mem until they are written.
func (l *Log) claim(ask bool) (bs []*Batch, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ask || l.closing || l.pending.Load() < writeSize {
		return nil, l.closing
	}
	size, plain := 0, l.hurried()
	for _, b := range l.mem {
		if size += len(b.buf); len(bs) > 0 && (size > writeSize || b.First != bs[len(bs)-1].end()) {
			break
		}
		b.refs++
		b.plain = plain
		bs = append(bs, b)
	}
	return bs, false
}

// hurried reports whether the next write is not to be compressed: since compressing is what everybody waits for,
// while there is disk space to spare. A short backlog is soon gone again. It wants mu.
func (l *Log) hurried() bool {
	disk, _ := l.store.usage()
	return l.plain > 0 && disk < plainLimit && (l.cfg.MaxDisk < 0 || disk < l.cfg.MaxDisk/4)
}

func (l *Log) unclaim(bs []*Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range bs {
		l.unref(b)
	}
}

// put writes the claimed batches; where the disk refuses them together, the first alone.
func (w *writer) put(bs []*Batch) {
	err := w.store.put(bs)
	if err != nil && len(bs) > 1 {
		w.unclaim(bs[1:])
		bs = bs[:1]
		err = w.store.put(bs)
	}
	if err == nil {
		w.wrote(bs)
		return
	}
	w.unclaim(bs)
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

// wrote gives up the batches that are on disk now. Next may have taken some of them from memory meanwhile.
func (w *writer) wrote(bs []*Batch) {
	w.delay = 0
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written = bs[len(bs)-1].end()
	if w.plain > 0 {
		w.plain--
	} else if w.refusal == nil && w.pending.Load() >= memLimit { // Room was false meanwhile
		w.plain = plainWrites
	}
	n := 0
	for n < len(w.mem) && w.mem[n].end() <= w.written {
		w.unref(w.mem[n])
		n++
	}
	w.forget(n)
	for _, b := range bs {
		w.unref(b)
	}
	if w.refusal != nil {
		w.cfg.Logger.Info("hopper: the disk takes items again", "dir", w.cfg.Dir)
		w.refusal = nil
	}
	poke(w.wakeReader)
	poke(w.cfg.Wake)
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
	defer close(l.readerDone)
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
	if !l.closing && l.written > l.read && size < readyLimit {
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
		if e := l.store.put([]*Batch{b}); e != nil {
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
