package storetest

import (
	"example.com/hopper/spill"
)

// FlipBit looks for the chunk in which the item seq begins, and changes a bit
// of its data, for [Medium].Corrupt. It reports whether there is such a chunk.
// The data is a stretch of whole chunks, of any type that the snappy framing
// format knows: a segment file, or what a store got with Append.
func FlipBit(data []byte, seq uint64) bool {
	const header = 4 // type, 24-bit length; framing_format.txt, section 3

	buf := make([]byte, 64<<10)
	for len(data) >= header {
		n := header + int(data[1]) + int(data[2])<<8 + int(data[3])<<16
		if n > len(data) {
			return false
		}

		chunk := data[:n]
		data = data[n:]
		if _, err := spill.ChunkLen(chunk); err != nil {
			continue // of another type
		}
		p, err := spill.DecodeChunk(buf, chunk)
		if err == nil && p.Offset == 0 && p.First <= seq && seq < max(p.End(), p.First+1) {
			chunk[n/2] ^= 0x10
			return true
		}
	}
	return false
}

func testDamage(tr *trial) {
	tr.needs(tr.m.Corrupt != nil, "Corrupt")

	for _, c := range []struct {
		damaged []uint64
		want    []span
	}{
		{[]uint64{0}, []span{{0, 5}}},
		{[]uint64{32}, []span{{30, 35}}},
		{[]uint64{32, 38}, []span{{30, 40}}},
		{[]uint64{10, 25, 95}, []span{{10, 15}, {25, 30}, {95, 100}}},
		{[]uint64{99}, []span{{95, 100}}},
	} {
		s := tr.openEmpty()
		s.appendAll(0, 100, 5)
		s.close(0, 100)

		for _, seq := range c.damaged {
			tr.m.Corrupt(seq)
		}
		s = tr.open()
		s.finds(0, 100)
		s.lacks(0, 100, c.want...)

		// Nor is it in the way of anything.
		s.appendAll(100, 110, 5)
		s.lacks(0, 110, c.want...)
		s.trim(110)
		s.isTrimmed()
		s.delete()
	}
}

func testDamagedLargeItem(tr *trial) {
	tr.needs(tr.m.Corrupt != nil, "Corrupt")
	s := tr.openEmpty()
	tr.sizes[20], tr.sizes[21] = 300<<10, 300<<10
	s.appendAll(0, 20, 5)
	s.append(tr.batch(20, 21), tr.batch(21, 22))
	s.append(tr.batches(22, 40, 5)...)
	s.close(3, 40)

	tr.m.Corrupt(20)
	s = tr.open()
	s.finds(3, 40)
	s.lacks(3, 40, span{20, 21})
	s.delete()
}

// testLostPiece does not know what else was in the piece.
func testLostPiece(tr *trial) {
	tr.needs(tr.m.Lose != nil, "Lose")

	for _, gone := range []uint64{7, 50, 99} {
		s := tr.openEmpty()
		s.appendAll(0, 100, 5)
		s.close(7, 100)

		tr.m.Lose(gone)
		s = tr.open()
		s.finds(7, 100)
		found, lost := s.readBack(7, 100)
		if len(lost) != 1 || gone < lost[0].first || lost[0].end <= gone {
			tr.t.Fatalf("reported as lost: items %v, want a stretch with item %d", lost, gone)
		}
		s.compare("found", found, without(span{7, 100}, lost))

		s.trim(100)
		s.isTrimmed()
		s.delete()
	}
}
