package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// Lines are log lines in JSON, all of one length, which compress about as well
// as real ones do: 2:1 at 128 bytes. Item i is one of them with its number in
// it.
type lines struct {
	size, at int
	all      [4096][]byte
}

const digits = 10

var words = bytes.Fields([]byte(`
accepted account already attempt backend batch bucket cache cancelled client closed commit
config connection consumer corrupt customer database deadline default delayed denied
deployment device drain duplicate empty endpoint error event exceeded expired failed fetch
finished gateway handler header host image index ingest invalid invoice item job latency
lease limit listener loaded lock login lookup message metadata method migration missing
network node notification offset opened operation order page partition payment peer
pending policy pool producer profile queue quota rate ready received refused region
rejected remote renewed replica request reset resolved response result retry route rows
schema search segment server session shard skipped slow snapshot socket source stale
started status stopped storage stream success table task tenant timeout token topic trace
transaction transfer unavailable updated upload user value version volume waiting worker
write zone
`))

// newLines makes lines of a size, 100 bytes at least.
func newLines(size int) *lines {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	l := &lines{size: size}
	for i := range l.all {
		head := fmt.Sprintf(`{"ts":"2025-11-22T%02d:%02d:%02d.%06dZ","seq":"`,
			10+i/512, i/16%60, r.IntN(60), r.IntN(1e6))
		l.at = len(head)
		b := fmt.Appendf(nil, `%s%0*d","svc":"%s","ms":%d,"msg":"`, head, digits, 0,
			words[r.IntN(20)], r.IntN(900))
		for len(b) < size-2 {
			if r.IntN(6) == 0 {
				b = fmt.Appendf(b, "%08x ", r.Uint32())
			} else {
				b = append(append(b, words[r.IntN(len(words))]...), ' ')
			}
		}
		l.all[i] = append(b[:size-2], `"}`...)
	}
	return l
}

// item returns item i as a slice of its own: on a channel the receiver owns it.
func (l *lines) item(i int) []byte {
	b := bytes.Clone(l.all[i%len(l.all)])
	for k := digits - 1; k >= 0; k-- {
		b[l.at+k] = byte('0' + i%10)
		i /= 10
	}
	return b
}

// number returns the number of an item, or an error if a byte is wrong.
func (l *lines) number(b []byte) (int, error) {
	if len(b) != l.size {
		return 0, fmt.Errorf("an item of %d bytes comes, want %d", len(b), l.size)
	}
	n := 0
	for _, c := range b[l.at : l.at+digits] {
		n = n*10 + int(c-'0')
	}
	want := l.all[n%len(l.all)]
	if !bytes.Equal(b[:l.at], want[:l.at]) || !bytes.Equal(b[l.at+digits:], want[l.at+digits:]) {
		return 0, fmt.Errorf("item %d has changed", n)
	}
	return n, nil
}
