package spill

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// A disk is a file system in memory that can fail, fill up, hang and lose power. A process sees
// it through a mount, which a crash cuts off.
type disk struct {
	mu       sync.Mutex
	files    map[string]*inode
	durable  map[string]*inode // the directory as of the last SyncDir
	capacity int64             // bytes; 0: no limit
	faults   []*fault
	hung     map[string]chan struct{} // by kind of operation: closed when it may go on
	count    int                      // operations so far
	journal  []string                 // kind, name and error of each
	handles  int                      // open files
	hits     map[string]bool          // kinds of operations that have failed
}

// An inode is a file, or something planted that is none.
type inode struct {
	data    []byte
	synced  int  // bytes that survive a power cut
	open    int  // handles
	lossy   bool // an fsync has failed
	strange error
}

// A fault makes operations fail.
type fault struct {
	kind  string // of the operation; "": any that is not left out
	skip  int    // operations that succeed before
	times int    // that fail then; negative: all
	err   error
	short bool // a write, read or truncate does half its work
}

func newDisk() *disk {
	return &disk{files: map[string]*inode{}, durable: map[string]*inode{}, hung: map[string]chan struct{}{}, hits: map[string]bool{}}
}

var errDead = errors.New("the process has ended")

// A mount is a disk as one process sees it.
type mount struct {
	*disk
	dead bool
}

func (d *disk) mount() *mount { return &mount{disk: d} }

// enter begins an operation: it waits while that kind hangs, then holds mu and tells how to fail.
func (m *mount) enter(kind, path string) (err error, short bool) {
	m.mu.Lock()
	for m.hung[kind] != nil {
		c := m.hung[kind]
		m.mu.Unlock()
		<-c
		m.mu.Lock()
	}
	if m.dead {
		return errDead, false
	}
	m.count++
	defer func() { m.journal = append(m.journal, fmt.Sprintf("%s %s %v", kind, filepath.Base(path), err)) }()
	for _, f := range m.faults {
		if f.times == 0 || f.kind != kind && (f.kind != "" || kind == "free" || kind == "size") {
			continue
		}
		if f.skip > 0 {
			f.skip--
			continue
		}
		f.times--
		m.hits[kind] = true
		return &fs.PathError{Op: kind, Path: path, Err: f.err}, f.short
	}
	return nil, false
}

func (m *mount) leave() { m.mu.Unlock() }

func (d *disk) fail(f fault) *fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &f)
	return &f
}

func (d *disk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults, d.capacity = nil, 0
}

// hang makes operations of a kind wait, until the function it returns is called.
func (d *disk) hang(kind string) (goOn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan struct{})
	d.hung[kind] = c
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.hung, kind)
		close(c)
	}
}

// used wants mu.
func (d *disk) used() (n int64) {
	for _, f := range d.files {
		n += int64(len(f.data))
	}
	return n
}

// hit reports whether an operation of that kind has failed.
func (d *disk) hit(kind string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hits[kind]
}

func (d *disk) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for path := range d.files {
		names = append(names, filepath.Base(path))
	}
	slices.Sort(names)
	return names
}

func (d *disk) clone() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newDisk()
	for path, f := range d.files {
		c.files[path] = &inode{data: slices.Clone(f.data), synced: f.synced, strange: f.strange}
	}
	c.durable = maps.Clone(c.files)
	return c
}

// kill ends the process: what it has written stays.
func (m *mount) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

// crash cuts the power: of each file stays what was synced and a random part of the rest, the end
// of which may be zeros; of each change of the directory since SyncDir it is random whether it stays.
func (m *mount) crash(r *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	after := map[string]*inode{}
	for _, path := range slices.Sorted(maps.Keys(merged(m.files, m.durable))) {
		choice := m.files[path]
		if r.IntN(2) == 0 {
			choice = m.durable[path]
		}
		if choice == nil {
			continue
		}
		data := choice.data[:choice.synced+r.IntN(len(choice.data)-choice.synced+1)]
		data = slices.Clone(data)
		if loose := len(data) - choice.synced; loose > 0 && r.IntN(3) == 0 {
			clear(data[len(data)-r.IntN(loose+1):])
		}
		after[path] = &inode{data: data, synced: len(data)}
	}
	m.files, m.durable = after, maps.Clone(after)
}

func merged(a, b map[string]*inode) map[string]*inode {
	c := maps.Clone(a)
	maps.Copy(c, b)
	return c
}

func (m *mount) Create(path string) (file, error) {
	err, _ := m.enter("create", path)
	defer m.leave()
	if err != nil {
		return nil, err
	}
	if m.files[path] != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: syscall.EEXIST}
	}
	f := &inode{open: 1}
	m.files[path] = f
	m.handles++
	return &handle{m: m, inode: f, path: path, writable: true}, nil
}

func (m *mount) Open(path string) (file, error) {
	err, _ := m.enter("open", path)
	defer m.leave()
	if err != nil {
		return nil, err
	}
	f := m.files[path]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	}
	if f.strange != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: f.strange}
	}
	f.open++
	m.handles++
	return &handle{m: m, inode: f, path: path}, nil
}

func (m *mount) Remove(path string) error {
	err, _ := m.enter("remove", path)
	defer m.leave()
	if err != nil {
		return err
	}
	f := m.files[path]
	if f == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOENT}
	}
	delete(m.files, path)
	return nil
}

func (m *mount) List(dir string) ([]string, error) {
	err, _ := m.enter("list", dir)
	defer m.leave()
	if err != nil {
		return nil, err
	}
	var names []string
	for path := range m.files {
		names = append(names, filepath.Base(path))
	}
	return names, nil
}

func (m *mount) Sync(path string) error {
	err, _ := m.enter("sync", path)
	defer m.leave()
	if err == nil {
		m.files[path].sync()
	}
	return err
}

func (m *mount) SyncDir(dir string) error {
	err, _ := m.enter("syncdir", dir)
	defer m.leave()
	if err == nil {
		m.durable = maps.Clone(m.files)
	}
	return err
}

func (m *mount) Free(dir string) (avail, total int64, err error) {
	err, _ = m.enter("free", dir)
	defer m.leave()
	if m.capacity == 0 {
		return 1 << 40, 1 << 40, err
	}
	return m.capacity - m.used(), m.capacity, err
}

// A handle is an open file.
type handle struct {
	m        *mount
	path     string
	inode    *inode
	writable bool
	unsynced bool // an fsync has failed
	closed   bool
}

func (h *handle) enter(kind string) (err error, short bool) {
	err, short = h.m.enter(kind, h.path)
	if h.closed && err == nil {
		err = fs.ErrClosed
		panic(kind + " of a closed file: " + h.path)
	}
	return err, short
}

func (h *handle) Write(b []byte) (int, error) {
	err, short := h.enter("write")
	defer h.m.leave()
	n := len(b)
	if err != nil {
		n = 0
		if short {
			n = len(b) / 2
		}
	}
	if h.m.capacity > 0 {
		if room := max(0, int(h.m.capacity-h.m.used())); n > room {
			n, err = room, &fs.PathError{Op: "write", Path: h.path, Err: syscall.ENOSPC}
		}
	}
	h.inode.data = append(h.inode.data, b[:n]...)
	return n, err
}

func (h *handle) ReadAt(b []byte, off int64) (int, error) {
	err, short := h.enter("read")
	defer h.m.leave()
	if err != nil && !short {
		return 0, err
	}
	if off >= int64(len(h.inode.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.inode.data[off:])
	if err != nil {
		return n / 2, err
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) Size() (int64, error) {
	err, _ := h.enter("size")
	defer h.m.leave()
	return int64(len(h.inode.data)), err
}

func (h *handle) Sync() error {
	err, _ := h.enter("sync")
	defer h.m.leave()
	if h.unsynced {
		panic("fsync of " + h.path + " again after it failed")
	}
	if err != nil {
		h.unsynced, h.inode.lossy = true, true
		return err
	}
	h.inode.sync()
	return nil
}

// sync makes the data durable, but not what an fsync before has failed on: the kernel takes that for clean.
func (f *inode) sync() {
	if !f.lossy {
		f.synced = len(f.data)
	}
}

func (h *handle) Truncate(size int64) error {
	err, _ := h.enter("truncate")
	defer h.m.leave()
	if err != nil {
		return err
	}
	h.inode.data = h.inode.data[:size:size]
	h.inode.synced = min(h.inode.synced, int(size))
	return nil
}

func (h *handle) Close() error {
	h.m.mu.Lock() // can't fail or hang: nobody would look
	defer h.m.leave()
	if h.closed {
		panic("second Close of " + h.path)
	}
	h.closed = true
	h.inode.open--
	h.m.handles--
	return nil
}
