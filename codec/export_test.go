package codec

import "reflect"

// LabelOf is what Label returns for the codec of For, of a type that is made at
// run time.
var LabelOf = planLabel

// Changed returns what an error says of a dynamic type that was one thing and
// is another.
func Changed(was, is reflect.Type) string {
	encoded := outlineOf(was).append(nil)
	o := outlineOf(is)
	if o.is(encoded) {
		return ""
	}
	return o.difference(encoded)
}
