package codec

// decoder is the state of one decoding.
type decoder struct {
	mode
	depth    int // as the encoder's at the same byte
	budget   int // bytes of the input that no length has claimed yet
	capsules int // as the encoder's
	later    []deferred
	types    []*dynamic
	block    []byte // memory for text that is not yet in use

	graph      bool
	fixedPlace bool // as the encoder's
	met        []reference
	forward    []deferred // pointers, and what they point to
}

// run sets the root value at p to what src encodes.
func (d *decoder) run(root *node, src []byte, p ptr) error {
	d.budget = len(src)
	rest, err := d.all(root, src, p)
	d.reset()

	if err == nil && len(rest) > 0 {
		return errTrailing
	}
	return err
}

func (d *decoder) all(root *node, src []byte, p ptr) (rest []byte, err error) {
	if root.linked {
		if len(src) == 0 {
			return nil, errShort
		}
		if src[0] > shapeGraph {
			return nil, errFlag
		}
		d.graph = src[0] == shapeGraph
		src = src[1:]
	}

	rest, err = root.op.decode(d, src, p)
	for err == nil && len(d.later) > 0 {
		rest, err = d.resume(rest)
	}
	if err == nil && d.graph {
		rest, err = d.resolve(rest)
	}
	return rest, err
}

// reset makes d as new, and drops what it refers to.
func (d *decoder) reset() {
	clear(d.later)
	clear(d.types)
	*d = decoder{mode: d.mode, later: d.later[:0], types: d.types[:0]}
}

// resume decodes what was deferred last.
func (d *decoder) resume(src []byte) ([]byte, error) {
	last := len(d.later) - 1
	it := d.later[last]
	d.later[last] = deferred{}
	d.later = d.later[:last]

	d.depth = 0
	return d.descend(it.node, src, it.at)
}

// descend decodes what a pointer points to, now or later.
func (d *decoder) descend(n *node, src []byte, p ptr) ([]byte, error) {
	if n.bounded {
		return n.op.decode(d, src, p)
	}
	if d.depth >= inlineDepth {
		d.later = append(d.later, deferred{n, p})
		return src, nil
	}

	d.depth++
	was := d.fixedPlace
	d.fixedPlace = true
	src, err := n.op.decode(d, src, p)
	d.fixedPlace = was
	d.depth--
	return src, err
}

// claim is asked before n values of at least least bytes each are allocated. No byte
// is claimed twice, by values within values either: what a decoding allocates stays
// proportional to its input.
func (d *decoder) claim(n, least int) error {
	if least == 0 {
		return nil
	}
	if n > d.budget/least {
		return errCount
	}
	d.budget -= n * least
	return nil
}

// enter notes the descent into a slice, map or interface.
func (d *decoder) enter(fixedPlace bool) (was bool, err error) {
	if d.depth >= maxDepth {
		return false, errDepth
	}
	d.depth++
	was, d.fixedPlace = d.fixedPlace, fixedPlace
	return was, nil
}

func (d *decoder) leave(was bool) {
	d.depth--
	d.fixedPlace = was
}

// cutRef cuts the byte that a pointer begins with, or a slice or map in a graph.
func (d *decoder) cutRef(src []byte) (ref byte, rest []byte, err error) {
	if len(src) == 0 {
		return 0, nil, errShort
	}
	ref = src[0]
	if ref > refForward || !d.graph && ref > refNew {
		return 0, nil, errFlag
	}
	return ref, src[1:], nil
}

// Short strings of one item lie in blocks that they share: a garbage collected object
// each would cost more than they do. A block is small, so that a string which outlives
// its item keeps little else alive.
const (
	shortText = 64
	textBlock = 512
)

// text returns a copy of s, behind which rest bytes of the input are left.
func (d *decoder) text(s []byte, rest int) string {
	n := len(s)
	if n == 0 || n > shortText {
		return string(s)
	}
	if n > len(d.block) {
		d.block = make([]byte, min(n+rest, textBlock))
	}

	copy(d.block, s)
	text := textOf(d.block[:n])
	d.block = d.block[n:]
	return text
}
