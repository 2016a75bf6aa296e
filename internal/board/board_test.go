package board_test

import (
	"sync"
	"testing"

	"example.com/hopper/internal/board"
)

func post[S any](b *board.Board[S], s S) {
	*b.Draft() = s
	b.Post()
}

func TestTheZeroBoardHoldsAZeroSnapshot(t *testing.T) {
	var b board.Board[int]
	if got := b.Read(); got != 0 {
		t.Errorf("Read() = %d, want 0", got)
	}
}

func TestReadReturnsWhatWasWrittenLast(t *testing.T) {
	var b board.Board[int]
	for i := range 20 {
		post(&b, 2*i)
		post(&b, 2*i+1)
		for range i % 3 {
			if got := b.Read(); got != 2*i+1 {
				t.Fatalf("Read() = %d, want %d", got, 2*i+1)
			}
		}
	}
}

func TestTheBoardNeverShowsHalfASnapshotNorAnOlderOne(t *testing.T) {
	type pair struct{ a, b uint64 }
	var b board.Board[pair]
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for last := uint64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				s := b.Read()
				if s.a != s.b || s.a < last {
					t.Errorf("read %+v after %d", s, last)
					return
				}
				last = s.a
			}
		})
	}

	for i := range uint64(20_000) {
		post(&b, pair{i, i})
	}
	close(done)
	readers.Wait()
}
