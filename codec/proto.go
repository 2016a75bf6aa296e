package codec

import (
	"errors"
	"reflect"
)

// A protobuf message goes in protobuf's own wire format. It is recognized by
// its methods and marshaled through them, as package proto does, since this
// module does not depend on protobuf: a message's ProtoReflect returns what has
// a method ProtoMethods, which returns a pointer to a struct with the functions
// Marshal and Unmarshal.

var protoWay = way{name: "proto", marshal: marshalProto, unmarshal: unmarshalProto}

// isProto reports whether *t is a protobuf message of its own.
func isProto(t reflect.Type) bool {
	is := t.Kind() == reflect.Struct && reflectsProto(reflect.PointerTo(t))
	return is && !embeds(t, reflectsProto)
}

const protoPath = "google.golang.org/protobuf/reflect/protoreflect"

func reflectsProto(t reflect.Type) bool {
	m, ok := t.MethodByName("ProtoReflect")
	if !ok || t.Kind() == reflect.Interface || m.Type.NumIn() != 1 || m.Type.NumOut() != 1 {
		return false
	}
	message := m.Type.Out(0)
	return message.Name() == "Message" && message.PkgPath() == protoPath
}

var errProto = errors.New("its implementation is not known: give it a codec by codec.RegisterCodec")

// protoCall calls the function of the message v that has the given name: set
// completes its only argument, a struct, and the result is one too.
func protoCall(v any, name string, set func(in reflect.Value)) (out reflect.Value, err error) {
	message := reflect.ValueOf(v).MethodByName("ProtoReflect").Call(nil)[0]
	methods := message.Elem().MethodByName("ProtoMethods").Call(nil)[0]
	if methods.IsNil() {
		return out, errProto
	}
	f := methods.Elem().FieldByName(name)
	if !f.IsValid() || f.IsNil() {
		return out, errProto
	}

	in := reflect.New(f.Type().In(0)).Elem()
	in.FieldByName("Message").Set(message)
	set(in)
	results := f.Call([]reflect.Value{in})
	err, _ = results[1].Interface().(error)
	return results[0], err
}

func marshalProto(v any, dst []byte) ([]byte, error) {
	out, err := protoCall(v, "Marshal", func(in reflect.Value) {
		in.FieldByName("Buf").SetBytes(dst)
	})
	if err != nil {
		return dst, err
	}
	return out.FieldByName("Buf").Bytes(), nil
}

func unmarshalProto(v any, src []byte) error {
	_, err := protoCall(v, "Unmarshal", func(in reflect.Value) {
		in.FieldByName("Buf").SetBytes(src)
		in.FieldByName("Depth").SetInt(maxDepth)
	})
	return err
}
