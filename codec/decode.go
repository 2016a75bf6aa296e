package codec

// decoder is the state of one decoding.
type decoder struct {
	walker
	budget int    // bytes of the input that no length has claimed yet
	block  []byte // memory for text that is not yet in use
	blocks int    // bytes in all blocks so far

	graph   bool
	met     []reference
	forward []reference // pointers, and the nodes of what they point to
}

// run sets the root value at p to what src encodes.
func (d *decoder) run(root *node, src []byte, p ptr) error {
	d.budget, d.depth = len(src), d.base
	if root.linked {
		var shape byte
		if shape, src = d.byte(src); shape > shapeGraph {
			src = d.fail(errFlag)
		}
		d.graph = shape == shapeGraph
	}

	src = root.op.decode(d, src, p)
	for len(d.later) > 0 && d.err == nil {
		it := d.resume()
		src = it.node.op.decode(d, src, it.at)
	}
	src = d.resolve(src)
	if len(src) > 0 {
		d.fail(errTrailing)
	}

	err := d.err
	d.reset()
	d.block, d.blocks, d.graph, d.met, d.forward = nil, 0, false, nil, nil
	return err
}

// descend decodes what a pointer points to, now or later.
func (d *decoder) descend(n *node, src []byte, p ptr) []byte {
	if n.bounded {
		return n.op.decode(d, src, p)
	}
	if d.depth >= inlineDepth {
		d.later = append(d.later, reference{p, n, 0})
		return src
	}
	was := d.enter(true)
	src = n.op.decode(d, src, p)
	d.leave(was)
	return src
}

// claim is asked before n values of at least least bytes each are allocated. No
// byte is claimed twice, by values within values either: what a decoding
// allocates stays proportional to its input.
func (d *decoder) claim(n, least int) bool {
	if least > 0 && n > d.budget/least {
		d.fail(errCount)
	} else if n > 0 {
		d.budget -= n * least
	}
	return d.err == nil
}

// Short strings of one item lie in blocks that they share: a garbage collected
// object each would cost more than they do. Blocks grow with what they are for,
// and stay small, so that a string which outlives its item keeps little else
// alive. The last one is as large as the rest of the input.
const (
	shortText  = 64
	firstBlock = 128
	lastBlock  = 256
	maxBlock   = 512
)

// blockSize returns the size of the next block, where so many bytes of the
// input remain.
func (d *decoder) blockSize(left int) int {
	if left <= lastBlock {
		return left
	}
	return min(left, max(firstBlock, d.blocks), maxBlock)
}

// text cuts a string, and returns a copy of it.
func (d *decoder) text(src []byte) (text string, rest []byte) {
	s, rest := d.string(src)
	n := len(s)
	if n == 0 || n > shortText {
		return string(s), rest
	}
	if n > len(d.block) {
		d.block = make([]byte, d.blockSize(n+len(rest)))
		d.blocks += len(d.block)
	}

	copy(d.block, s)
	text = textOf(d.block[:n])
	d.block = d.block[n:]
	return text, rest
}
