package codec

// LabelOf is what Label returns for the codec of For, of a type that is made at run
// time.
var LabelOf = planLabel
