package codec

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
)

// LabelOf is what Label returns for the codec of For, of a type that is made at
// run time.
var LabelOf = planLabel

// Changed returns what an error says of a dynamic type that was one thing and
// is another.
func Changed(was, is reflect.Type) string {
	encoded := outlineOf(was).encoded
	o := outlineOf(is)
	if bytes.Equal(o.encoded, encoded) {
		return ""
	}
	return o.difference(encoded)
}

// Depends reports whether err is one that a value may meet although it has come
// out of Decode: it depends on what else is in use, or on the order in which a
// value is walked, which bytes from elsewhere need not keep to.
func Depends(err error) bool {
	return errors.Is(err, errTangled) || errors.Is(err, errDepth) ||
		strings.Contains(err.Error(), tooMany)
}
