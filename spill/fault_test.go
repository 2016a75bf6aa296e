package spill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// script is a run that meets every kind of operation: it spills, reads, keeps, crashes and resumes.
var script = []byte{
	0, 63, 4, 15, 4, 15, 4, 15, 4, 15, 4, 15, 6, 10, 6, 90, 4, 15, 6, 120, // spill more than memory takes
	7, 30, 10, 200, 7, 3, // deliver some, hold some
	14, 0, // close and open
	4, 15, 4, 15, 6, 120, 6, 120, 4, 15, 7, 50, 10, 255, 15, 100,
	14, 130, // kill and open
	0, 60, 4, 15, 8, 127, 10, 255, 8, 127, 10, 255,
	14, 20, 7, 9, 14, 40,
}

// TestAnyOperationMayFail runs the script with each operation failing in its turn, once or for some
// time: what the model does not find in order at the end is lost.
func TestAnyOperationMayFail(t *testing.T) {
	plain := newDisk()
	runModel(t, Config{MaxDisk: -1, SegmentSize: 200 << 10, Keep: true, Label: "model"}, plain, script)
	total := plain.count
	if total < 50 {
		t.Fatalf("the script makes only %d operations", total)
	}
	for i, tt := range []struct {
		name  string
		fault fault
	}{
		{"once with EIO", fault{times: 1, err: syscall.EIO}},
		{"once with EIO, half done", fault{times: 1, err: syscall.EIO, short: true}},
		{"once with EMFILE", fault{times: 1, err: syscall.EMFILE}},
		{"three times with ENOSPC, half done", fault{times: 3, err: syscall.ENOSPC, short: true}},
		{"ten times with EDQUOT", fault{times: 10, err: syscall.EDQUOT}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			step := 7
			if soak() {
				step = 1
			}
			for n := i % step; n < total; n += step {
				d := newDisk()
				f := tt.fault
				f.skip = n
				d.fail(f)
				t.Run(fmt.Sprint("operation ", n), func(t *testing.T) {
					runModel(t, Config{MaxDisk: -1, SegmentSize: 200 << 10, Keep: true, Label: "model"}, d, script)
				})
			}
		})
	}
}

// inBubble runs f with a log on a fake disk, in a synctest bubble.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, m *model)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Label == "" {
			cfg.Label = "test"
		}
		m := newModel(t, cfg, newDisk(), dir)
		f(t, m)
	})
}

var unlimited = Config{MaxDisk: -1, SegmentSize: 256 << 10, Keep: true}

// fillMemory appends until the log takes no more.
func (m *model) fillMemory() {
	for range 10_000 {
		if !m.log.Room(0) {
			return
		}
		m.append(1, 2000)
	}
	m.t.Fatal("the log always has room")
}

func TestAFullDiskStopsReceivingUntilThereIsRoom(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		t.Run(err.Error(), func(t *testing.T) {
			inBubble(t, unlimited, func(t *testing.T, m *model) {
				m.disk.fail(fault{kind: "write", skip: 3, times: -1, err: err, short: true})
				m.fillMemory()
				if got := m.log.Blocked(); !errors.Is(got, err) {
					t.Errorf("Blocked: %v, want %v", got, err)
				}
				m.take(200)
				m.deliver(100) // goes on
				m.disk.heal()
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if got := m.log.Blocked(); got != nil {
					t.Errorf("Blocked with room: %v", got)
				}
				for range 20 {
					m.append(50, 2000)
				}
				m.finish()
			})
		})
	}
}

func TestAFailedFsyncIsReportedAndNeverRetried(t *testing.T) { // the fake panics on a second one
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		m.disk.fail(fault{kind: "sync", times: 1, err: syscall.EIO})
		for range 10 {
			m.append(60, 3000)
		}
		unsaved, err := m.close()
		if !errors.Is(err, syscall.EIO) || unsaved != 0 {
			t.Errorf("Close: %d unsaved, %v", unsaved, err)
		}
		m.forget()
		m.open(m.queue)
		m.finish()
	})
}

func TestAReadErrorKeepsTheFileAndNamesItsItems(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		for range 10 {
			m.append(60, 3000)
		}
		m.reopen()
		m.mayAll = true
		m.disk.fail(fault{kind: "read", skip: 1, times: 1, err: syscall.EIO})
		for m.take(1000) > 0 {
			m.deliver(len(m.window))
		}
		if len(m.losses) != 1 {
			t.Fatalf("%d losses: %v", len(m.losses), m.losses)
		}
		e := m.losses[0]
		var pathErr *fs.PathError
		if !errors.Is(e, syscall.EIO) || !errors.As(e, &pathErr) || e.Path != pathErr.Path || e.Items == 0 {
			t.Errorf("%v", e)
		}
		m.finish()
		want := filepath.Base(e.Path)
		if names := strings.Join(m.disk.names(), " "); names != strings.TrimSuffix(want, segmentExt)+retainedExt+" "+want {
			t.Errorf("left on disk: %s", names)
		}
		data := string(m.disk.clone().files[e.Path].data)
		m.open([]uint64{}) // and later logs leave it alone
		m.append(30, 3000)
		m.reopen()
		m.finish()
		if f := m.disk.clone().files[e.Path]; f == nil || string(f.data) != data {
			t.Errorf("the file is gone or changed: %v", m.disk.names())
		}
	})
}

func TestWithoutFileDescriptorsNothingIsLost(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		for range 10 {
			m.append(60, 3000)
		}
		m.reopen()
		m.disk.fail(fault{kind: "open", times: 5, err: syscall.EMFILE})
		for range 20 {
			for m.take(1000) > 0 {
				m.deliver(1000)
			}
			time.Sleep(time.Second)
		}
		if len(m.queue) > 0 || !m.disk.hit("open") {
			t.Errorf("%d items not delivered once files can be opened", len(m.queue))
		}
		m.finish()
		if m.lost != 0 {
			t.Errorf("%d items lost", m.lost)
		}
	})
}

func TestAFileThatCannotBeRemovedIsTriedAgain(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		for range 10 {
			m.append(60, 3000)
		}
		m.disk.fail(fault{kind: "remove", times: -1, err: syscall.EBUSY})
		for m.take(1000) > 0 {
			m.deliver(len(m.window))
		}
		if len(m.queue) > 0 {
			t.Errorf("%d items not delivered", len(m.queue))
		}
		m.check()
		if bytes, _ := m.log.Usage(); bytes == 0 {
			t.Error("what could not be removed does not count")
		}
		m.disk.heal()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if bytes, files := m.log.Usage(); bytes != 0 || files != 0 {
			t.Errorf("%d bytes in %d files: %v", bytes, files, m.disk.names())
		}
		m.finish()
	})
}

func TestALeftoverOfAFailedCreateDoesNotTakeTheNameForEver(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		m.disk.fail(fault{kind: "write", times: 1, err: syscall.ENOSPC})
		m.disk.fail(fault{kind: "remove", times: 1, err: syscall.EBUSY})
		m.append(400, 2000)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := m.log.Blocked(); err != nil {
			t.Errorf("Blocked: %v", err)
		}
		m.finish()
	})
}

func TestALeftoverOfAFailedCreateIsRemovedThoughNothingIsWrittenAnyMore(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		m.disk.fail(fault{kind: "write", times: 1, err: syscall.ENOSPC})
		m.disk.fail(fault{kind: "create", skip: 1, times: -1, err: syscall.ENOSPC})
		m.disk.fail(fault{kind: "remove", times: 1, err: syscall.EBUSY})
		m.append(400, 2000)
		if names := m.disk.names(); len(names) != 1 {
			t.Fatalf("no leftover: %v", names)
		}
		for m.take(1000) > 0 {
			m.deliver(1000)
		}
		m.finish() // the model finds an empty directory
	})
}

func TestAReceiptVouchesForItemsThatNeverWereInTheLog(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		keep := NewKeep()
		for seq := range uint64(10) {
			keep.Commit(append(keep.Begin(seq), "item"...))
		}
		if unsaved, err := m.log.Close(t.Context(), 0, keep); unsaved != 0 || err != nil {
			t.Fatal(unsaved, err)
		}
		if names := m.disk.names(); !slices.Contains(names, receipt{0, 10}.name()) {
			t.Errorf("receipt: %v", names)
		}
	})
}

func TestAPlantedLinkDoesNotTakeTheName(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		m.disk.mu.Lock()
		m.disk.files[filepath.Join(m.cfg.Dir, segmentName(0))] = &inode{strange: syscall.ELOOP}
		m.disk.mu.Unlock()
		m.append(400, 2000)
		if err := m.log.Blocked(); err != nil {
			t.Errorf("Blocked: %v", err)
		}
		m.finish()
	})
}

func TestAHungDiskDoesNotHoldUpWhatIsInMemory(t *testing.T) {
	for _, kind := range []string{"create", "write", "free", "sync", "syncdir", "remove"} {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, unlimited, func(t *testing.T, m *model) {
				goOn := m.disk.hang(kind)
				m.append(1, 100_000)
				for m.log.Room(0) && m.made < 5000 {
					m.append(10, 2000)
					if kind == "sync" || kind == "remove" || kind == "syncdir" { // reached once something was read
						m.take(1000)
						m.deliver(1000)
					}
				}
				before := len(m.queue)
				for m.take(1000) > 0 { // those included that are just being written
					m.deliver(1000)
				}
				if kind != "sync" && kind != "syncdir" && len(m.queue) > 0 {
					t.Errorf("%d of %d items could not be delivered", len(m.queue), before)
				}
				m.append(10, 100)
				left := len(m.queue)
				m.log.Usage()
				m.log.Blocked()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				unsaved, err := m.log.Close(ctx, m.head(), m.gather())
				if took := time.Since(start); took > time.Second {
					t.Errorf("Close took %v", took)
				}
				if err != nil && unsaved > uint64(left) || err == nil && unsaved > 0 {
					t.Errorf("Close: %d of %d unsaved, %v", unsaved, left, err)
				}
				goOn()
				synctest.Wait()
				select {
				case <-m.log.done:
				default:
					t.Error("the log's goroutines do not end when the disk answers")
				}
			})
		})
	}
}

func TestAHungReadDoesNotHoldUpClose(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		for range 10 {
			m.append(60, 3000)
		}
		m.reopen()
		goOn := m.disk.hang("read")
		for m.take(1000) > 0 {
			m.deliver(1000)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.log.Close(ctx, m.head(), m.gather()); err == nil {
			t.Error("Close says that all is well")
		}
		goOn()
		<-m.log.done
		m.forget()
		m.open(m.queue)
		m.finish()
	})
}

func TestABatchTakenWhileItIsWrittenIsNotDeliveredTwice(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		goOn := m.disk.hang("write")
		m.fillMemory()
		m.take(100) // from memory, and now in the window: the write is on its way
		goOn()
		synctest.Wait()
		for range 5 {
			m.append(60, 3000)
		}
		m.finish() // the model checks the order
	})
}

func TestWhatIsWrittenWhileThePumpGathersIsKeptOnce(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		goOn := m.disk.hang("write")
		m.fillMemory()
		m.take(10)
		keep := m.gather() // not stored yet
		goOn()
		synctest.Wait() // now it is
		unsaved, err := m.log.Close(t.Context(), m.head(), keep)
		if unsaved != 0 || err != nil {
			t.Errorf("Close: %d unsaved, %v", unsaved, err)
		}
		m.forget()
		m.open(m.queue)
		m.finish()
	})
}

func TestAMissingOrSwappedSegmentIsReportedExactly(t *testing.T) {
	for _, what := range []string{"deleted", "emptied", "swapped", "doubled"} {
		for nth := range 3 {
			t.Run(fmt.Sprintf("segment %d %s", nth, what), func(t *testing.T) {
				sizes := make([]int, 400)
				for i := range sizes {
					sizes[i] = 2000 + i
				}
				items := randomItems(sizes...)
				d, cfg := fixture(t, Config{SegmentSize: 200 << 10, Label: "l"}, 0, items)
				var paths []string
				for _, name := range d.names() {
					if _, ok := parseSegmentName(name); ok {
						paths = append(paths, filepath.Join(cfg.Dir, name))
					}
				}
				if len(paths) < 4 {
					t.Fatal(paths)
				}
				path, other := paths[nth], paths[nth+1]
				lost := uint64(0)
				if what == "deleted" || what == "emptied" {
					h, n, _ := parseHeader(d.files[path].data)
					f, _ := parseFooter(d.files[path].data[len(d.files[path].data)-footerLen:])
					if h.first != f.first || n == 0 {
						t.Fatal(h, f)
					}
					lost = f.end - f.first
				}
				switch what {
				case "deleted":
					delete(d.files, path)
				case "emptied":
					d.files[path].data = nil
				case "swapped":
					d.files[path], d.files[other] = d.files[other], d.files[path]
				case "doubled":
					d.files[filepath.Join(cfg.Dir, segmentName(12345))] = &inode{data: d.files[path].data}
				}
				got, next, n := drain(t, d, cfg)
				if next != 0 || n != 400 || got.lost != lost || lost == 0 && len(got.losses) > 0 {
					t.Errorf("next %d, %d items, %d lost, want %d: %v", next, n, got.lost, lost, got.losses)
				}
				got.check(t, 0, items, n)
			})
		}
	}
}

func TestRecoveryCanBeInterruptedAndRepeated(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		for range 10 {
			m.append(60, 3000)
		}
		m.take(100)
		m.deliver(1000)
		m.reopen()
		m.take(300)
		m.deliver(300)
		want := len(m.queue)
		if unsaved, err := m.close(); unsaved != 0 || err != nil {
			t.Fatal(unsaved, err)
		}
		m.forget()
		for n := range 60 {
			d := m.disk.clone()
			cfg := m.cfg
			cfg.fs = d.mount()
			d.fail(fault{skip: n, times: -1, err: errDead})
			if l, _, _, err := Open(cfg); err == nil {
				l.Close(t.Context(), 0, nil)
			}
			d.heal()
			got, _, items := drain(t, d, cfg)
			if int(items) < want || got.lost > 0 {
				t.Fatalf("ended at operation %d: %d items came back, want %d; %d lost", n, items, want, got.lost)
			}
		}
		m.open(nil)
		m.finish()
	})
}

func TestAReceiptDoesNotVouchForWhatIsDelivered(t *testing.T) {
	inBubble(t, unlimited, func(t *testing.T, m *model) {
		for range 10 {
			m.append(60, 3000)
		}
		m.reopen()
		for range 8 {
			m.take(1000)
			m.deliver(1000)
		}
		if m.head() == 0 || len(m.queue) == 0 || slices.Contains(m.disk.names(), segmentName(0)) {
			t.Fatalf("delivered up to %d, %d left: %v", m.head(), len(m.queue), m.disk.names())
		}
		m.kill()
		m.finish()
		if m.lost > 0 {
			t.Errorf("%d delivered items reported as lost", m.lost)
		}
	})
}

func TestMaxDiskHoldsThroughManyRestarts(t *testing.T) {
	cfg := Config{MaxDisk: 1 << 20, SegmentSize: 128 << 10, Keep: true}
	inBubble(t, cfg, func(t *testing.T, m *model) {
		for i := range 60 {
			m.append(100, 2000)
			m.check()
			if i%7 == 6 {
				m.take(30)
				m.deliver(30)
			}
			m.reopen()
			m.check()
		}
		if bytes, _ := m.log.Usage(); bytes < 3*m.cfg.MaxDisk/4 {
			t.Errorf("the cap was not met: %d bytes", bytes)
		}
		m.finish()
	})
}

func TestAnItemLargerThanASegmentOrTheDiskIsNotADeadlock(t *testing.T) {
	for _, size := range []int{maxFrames - 1, maxFrames, maxFrames + 1, 128 << 10, 128<<10 + 1, 1 << 20, 3 << 20} {
		for _, keep := range []bool{true, false} {
			t.Run(fmt.Sprint(size, " bytes, keep ", keep), func(t *testing.T) {
				cfg := Config{MaxDisk: 1 << 20, SegmentSize: 128 << 10, Keep: keep}
				inBubble(t, cfg, func(t *testing.T, m *model) {
					big := make([]byte, size)
					copy(big, pool)
					for range 20 {
						m.append(1, 1000)
						if m.log.Room(0) {
							m.log.Commit(append(m.log.Begin(m.seq), big...))
							m.truth[m.seq], m.queue, m.seq = big, append(m.queue, m.seq), m.seq+1
						}
						synctest.Wait()
						m.check()
					}
					m.finish()
				})
			})
		}
	}
}

func TestKeepFreeIsNeverUsed(t *testing.T) {
	cfg := unlimited
	cfg.KeepFree = 1 << 20
	inBubble(t, cfg, func(t *testing.T, m *model) {
		m.disk.mu.Lock()
		m.disk.capacity = 2 << 20
		m.disk.mu.Unlock()
		m.fillMemory()
		if !errors.Is(m.log.Blocked(), errKeepFree) {
			t.Errorf("Blocked: %v", m.log.Blocked())
		}
		m.disk.mu.Lock()
		if free := m.disk.capacity - m.disk.used(); free < cfg.KeepFree || free > cfg.KeepFree+600<<10 {
			t.Errorf("%d bytes are free, want %d", free, cfg.KeepFree)
		}
		m.disk.mu.Unlock()
		for range 20 {
			m.take(1000)
			m.deliver(1000)
			m.append(10, 1000)
		}
		m.finish()
	})
}

func TestOpenRefusesWhatItMustNotTouch(t *testing.T) {
	items := randomItems(10, 20, 30)
	future := func(d *disk, path string) {
		b := append([]byte(streamID), typeHeader, 0, 0, 0)
		d.files[path].data = finishSkippable(append(b, "hopper\x02 of the future"...), len(streamID))
	}
	for _, tt := range []struct {
		name  string
		label string
		keep  bool
		spoil func(d *disk, path string)
		want  error
	}{
		{"a version that is not known", "l", true, future, ErrVersion},
		{"a version that is not known, not to be kept", "l", false, future, ErrVersion},
		{"another label", "other", true, nil, &LabelError{}},
		{"another label, not to be kept", "other", false, nil, &LabelError{}},
		{"a kept backlog", "l", false, nil, ErrNotResumed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, cfg := fixture(t, Config{SegmentSize: 1 << 20, Label: "l"}, 0, items)
			path, f := segmentFile(t, d)
			if tt.spoil != nil {
				tt.spoil(d, path)
			}
			before, names := string(f.data), fmt.Sprint(d.names())
			cfg.fs, cfg.Label, cfg.Keep = d.mount(), tt.label, tt.keep
			_, _, _, err := Open(cfg)
			var label *LabelError
			if !errors.Is(err, tt.want) && !(errors.As(tt.want, &label) && errors.As(err, &label)) {
				t.Errorf("Open: %v, want %v", err, tt.want)
			}
			if label != nil && (label.Found != "l" || label.Want != "other" || label.Path != path) {
				t.Errorf("LabelError: %+v", label)
			}
			if string(f.data) != before || fmt.Sprint(d.names()) != names || d.handles != 0 {
				t.Errorf("changed: %v, before %v, %d open", d.names(), names, d.handles)
			}
			if _, err := os.Stat(cfg.Dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is read ahead is counted by its buffers: a service that was restarted often has left many small segments.
func TestManySmallSegmentsAreNotAllReadAhead(t *testing.T) {
	dir := t.TempDir()
	const n = 100
	for i := range uint64(n) {
		writeSegment(t, dir, i, i+1, true, "")
	}
	synctest.Test(t, func(t *testing.T) {
		l, _, items, err := Open(Config{Dir: dir, MaxDisk: -1, SegmentSize: 1 << 20, Keep: true, Label: "test"})
		if err != nil || items != n {
			t.Fatal(items, err)
		}
		synctest.Wait()
		l.mu.Lock()
		ahead := len(l.ready)
		l.mu.Unlock()
		if ahead == 0 || ahead > readyLimit/maxPayload+1 {
			t.Errorf("%d batches were read ahead", ahead)
		}
		if _, err := l.Close(t.Context(), n, NewKeep()); err != nil {
			t.Error(err)
		}
	})
}
