package segment

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
	"testing"
	"time"
)

// A disk is a file system in memory that can fail, fill up, hang and lose
// power. A process sees it through a mount, which a kill or a crash cuts off.
// It knows one directory, whatever its path.
type disk struct {
	mu       sync.Mutex
	files    map[string]*inode
	durable  map[string]*inode // the directory as of the last SyncDir
	capacity int64             // bytes; 0: no limit
	faults   []*fault
	count    int             // operations so far
	journal  []string        // kind, name and error of each
	handles  int             // open files
	hits     map[string]bool // kinds of operations that have failed
}

// An inode is a file, or something planted that is none.
type inode struct {
	data     []byte
	modified time.Time
	synced   int  // bytes that survive a power cut
	lossy    bool // an fsync has failed
	strange  error
}

// A fault makes operations fail.
type fault struct {
	kind  string // of the operation; "": any that is not left out
	skip  int    // operations that succeed before
	times int    // that fail then; negative: all
	err   error
	short bool // a write or read does half its work
}

func newDisk() *disk {
	return &disk{
		files: map[string]*inode{}, durable: map[string]*inode{},
		hits: map[string]bool{},
	}
}

var errDead = errors.New("the process has ended")

// A mount is a disk as one process sees it.
type mount struct {
	disk *disk
	dead bool
}

func (d *disk) mount() *mount { return &mount{disk: d} }

// enter begins an operation: it holds the disk's lock and tells how to fail.
func (m *mount) enter(kind, path string) (err error, short bool) {
	d := m.disk
	d.mu.Lock()
	if m.dead {
		return errDead, false
	}

	d.count++
	err, short = d.failLocked(kind, path)
	d.journal = append(d.journal, fmt.Sprintf("%s %s %v", kind, filepath.Base(path), err))
	return err, short
}

func (d *disk) failLocked(kind, path string) (err error, short bool) {
	for _, f := range d.faults {
		if f.times == 0 || f.kind != kind && (f.kind != "" || kind == "free" || kind == "stat") {
			continue
		}
		if f.skip > 0 {
			f.skip--
			continue
		}
		f.times--
		d.hits[kind] = true
		return &fs.PathError{Op: kind, Path: path, Err: f.err}, f.short
	}
	return nil, false
}

func (m *mount) leave() { m.disk.mu.Unlock() }

func (d *disk) fail(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &f)
}

func (d *disk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults, d.capacity = nil, 0
}

func (d *disk) fill(capacity int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = capacity
}

func (d *disk) used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usedLocked()
}

func (d *disk) usedLocked() (n int64) {
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

// operations returns how many operations of a kind there have been.
func (d *disk) operations(kind string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.journal {
		if k := line[:min(len(kind), len(line))]; k == kind && line[len(k)] == ' ' {
			n++
		}
	}
	return n
}

func (d *disk) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handles
}

func (d *disk) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := []string{}
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

// only returns the one segment there is.
func (d *disk) only(t *testing.T) (path string, f *inode) {
	t.Helper()
	for p, i := range d.files {
		if filepath.Ext(p) == segmentExt {
			if f != nil {
				t.Fatal("more than one segment")
			}
			path, f = p, i
		}
	}
	if f == nil {
		t.Fatal("no segment")
	}
	return path, f
}

// kill ends the process: what it has written stays.
func (m *mount) kill() {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.dead = true
}

// crash cuts the power: of each file stays what was synced and a random part of
// the rest, the end of which may be zeros; of each change of the directory
// since SyncDir it is random whether it stays.
func (m *mount) crash(r *rand.Rand) {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	m.dead = true
	both := maps.Clone(d.files)
	maps.Copy(both, d.durable)

	after := map[string]*inode{}
	for _, path := range slices.Sorted(maps.Keys(both)) {
		choice := d.files[path]
		if r.IntN(2) == 0 {
			choice = d.durable[path]
		}
		if choice == nil {
			continue
		}
		data := slices.Clone(choice.data[:choice.synced+r.IntN(len(choice.data)-choice.synced+1)])
		if loose := len(data) - choice.synced; loose > 0 && r.IntN(3) == 0 {
			clear(data[len(data)-r.IntN(loose+1):])
		}
		after[path] = &inode{data: data, synced: len(data), modified: choice.modified}
	}
	d.files, d.durable = after, maps.Clone(after)
}

func (m *mount) Create(path string) (file, error) {
	err, _ := m.enter("create", path)
	defer m.leave()
	if err != nil {
		return nil, err
	}
	if m.disk.files[path] != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: syscall.EEXIST}
	}
	f := &inode{modified: time.Now()}
	m.disk.files[path] = f
	m.disk.handles++
	return &handle{m: m, inode: f, path: path}, nil
}

func (m *mount) Open(path string) (file, error) {
	err, _ := m.enter("open", path)
	defer m.leave()
	if err != nil {
		return nil, err
	}
	f := m.disk.files[path]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	}
	if f.strange != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: f.strange}
	}
	m.disk.handles++
	return &handle{m: m, inode: f, path: path}, nil
}

func (m *mount) Remove(path string) error {
	err, _ := m.enter("remove", path)
	defer m.leave()
	if err != nil {
		return err
	}
	if m.disk.files[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOENT}
	}
	delete(m.disk.files, path)
	return nil
}

func (m *mount) List(dir string) ([]string, error) {
	err, _ := m.enter("list", dir)
	defer m.leave()
	if err != nil {
		return nil, err
	}
	var names []string
	for path := range m.disk.files {
		names = append(names, filepath.Base(path))
	}
	slices.Sort(names)
	return names, nil
}

func (m *mount) Sync(path string) error {
	err, _ := m.enter("sync", path)
	defer m.leave()
	if err == nil {
		m.disk.files[path].sync()
	}
	return err
}

func (m *mount) SyncDir(dir string) error {
	err, _ := m.enter("syncdir", dir)
	defer m.leave()
	if err == nil {
		m.disk.durable = maps.Clone(m.disk.files)
	}
	return err
}

func (m *mount) Free(dir string) (avail, total int64, err error) {
	err, _ = m.enter("free", dir)
	defer m.leave()
	if err != nil {
		return 0, 0, err
	}
	if m.disk.capacity == 0 {
		return 1 << 40, 1 << 40, nil
	}
	return m.disk.capacity - m.disk.usedLocked(), m.disk.capacity, nil
}

// A handle is an open file.
type handle struct {
	m        *mount
	path     string
	inode    *inode
	unsynced bool // an fsync has failed
	closed   bool
}

func (h *handle) enter(kind string) (err error, short bool) {
	err, short = h.m.enter(kind, h.path)
	if h.closed && err == nil {
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
	if d := h.m.disk; d.capacity > 0 {
		if room := max(0, int(d.capacity-d.usedLocked())); n > room {
			n, err = room, &fs.PathError{Op: "write", Path: h.path, Err: syscall.ENOSPC}
		}
	}
	h.inode.data = append(h.inode.data, b[:n]...)
	h.inode.modified = time.Now()
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
	size, _, err := h.Stat()
	return size, err
}

func (h *handle) Stat() (int64, time.Time, error) {
	err, _ := h.enter("stat")
	defer h.m.leave()
	return int64(len(h.inode.data)), h.inode.modified, err
}

func (h *handle) Sync() error {
	err, _ := h.enter("sync")
	defer h.m.leave()
	if h.unsynced {
		panic("fsync of " + h.path + " again after it failed")
	}
	switch {
	case err == errDead:
		return err
	case err != nil:
		h.unsynced, h.inode.lossy = true, true
		return err
	}
	h.inode.sync()
	return nil
}

// sync makes the data durable, but not what an fsync before has failed on: the
// kernel takes that for clean.
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
	h.m.disk.mu.Lock() // can't fail or hang: nobody would look
	defer h.m.leave()
	if h.closed {
		panic("second Close of " + h.path)
	}
	h.closed = true
	h.m.disk.handles--
	return nil
}
