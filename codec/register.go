package codec

import (
	"fmt"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
)

// Register makes T known as a type that interface values may have: the codecs
// of [For] carry a value in an interface only if its type is registered, basic,
// or an error type of the standard library. [Local] needs it only for
// unexported types of other packages. T and *T are two types. On disk a type is
// known by its package path and name, so that a backlog outlives the process.
// Call Register from an init function or at the start of main.
//
// The basic types are bool, string, the numbers, []byte, time.Time,
// time.Duration, []any, map[string]any, and a few more slices and maps of
// these.
//
// Register panics if T is an interface type, if For could not carry a T, or if
// another type has the same name, as types within functions may. Registering a
// type again does nothing. Register is safe for concurrent use.
func Register[T any]() { register(reflect.TypeFor[T]()) }

// RegisterValue registers the type of v, as [Register] does. It is for types
// that can't be named: another package's unexported ones.
//
// RegisterValue panics if v is nil, or as Register does. It is safe for
// concurrent use.
func RegisterValue(v any) {
	if v == nil {
		panic("codec: RegisterValue(nil): pass a value of the type")
	}
	register(reflect.TypeOf(v))
}

func register(t reflect.Type) {
	if t.Kind() == reflect.Interface {
		panic(fmt.Sprintf("codec: Register[%v]: an interface: register the types in it", t))
	}
	if err := refusal(t); err != nil {
		panic(fmt.Sprintf("codec: Register[%v]: %v", t, err))
	}
	update(func(k *known) { k.addType(t, tagNamed) })
}

// RegisterError makes err, a sentinel, known by a name that is stable across
// processes, such as "example.com/shop.ErrSoldOut". Wherever an interface holds
// it, in an error chain too, the very same err comes back, so that [errors.Is]
// finds it in another process too. The sentinels of the standard library are
// registered.
//
// RegisterError panics if err is nil or can't be compared, or if name or err is
// taken. Registering the same again does nothing. RegisterError is safe for
// concurrent use.
func RegisterError(name string, err error) {
	if v := reflect.ValueOf(err); !v.IsValid() || !v.Comparable() {
		panic(fmt.Sprintf("codec: RegisterError(%q): %#v can't be compared", name, err))
	}
	update(func(k *known) { k.addError(name, err) })
}

// RegisterCodec makes c encode every T, wherever it occurs: as an item, inside
// other types, and in interfaces if T is registered. What c appends is decoded
// once, to see that it can be.
//
// Call it from an init function or at the start of main: codecs that have been
// made before do not change. RegisterCodec panics if T is an interface or a
// basic type, or has a codec already. It is safe for concurrent use.
func RegisterCodec[T any](c Codec[T]) {
	t := reflect.TypeFor[T]()
	if t.Kind() == reflect.Interface || t.PkgPath() == "" && t.Name() != "" {
		panic(fmt.Sprintf("codec: RegisterCodec[%v]: not for an interface or a basic type", t))
	}
	w := &way{
		name:    Label(c),
		marshal: func(v any, dst []byte) ([]byte, error) { return c.Append(dst, *v.(*T)) },
		unmarshal: func(v any, src []byte) (err error) {
			*v.(*T), err = c.Decode(src)
			return err
		},
	}
	if _, taken := customs.LoadOrStore(t, w); taken {
		panic(fmt.Sprintf("codec: RegisterCodec[%v]: it has a codec already", t))
	}
	forgetPlans()
}

// known is what the codecs of For can find by its name. It does not change once
// it is published.
type known struct {
	types map[string]*dynamic
	basic []*dynamic // by tag, from 1

	errors map[string]error
	names  map[error]string
}

var (
	registry   atomic.Pointer[known]
	registryMu sync.Mutex // held by those who replace it
)

func init() { registry.Store(standard()) }

// update replaces the registry by a copy that change has been applied to.
func update(change func(k *known)) {
	registryMu.Lock()
	defer registryMu.Unlock()
	k := *registry.Load()
	k.types, k.errors, k.names = maps.Clone(k.types), maps.Clone(k.errors), maps.Clone(k.names)
	change(&k)
	registry.Store(&k)
}

func (k *known) addType(t reflect.Type, tag byte) {
	d, name := dynamicFor(t), typeName(t)
	if d.known.Load() != nil {
		return
	}
	if k.types[name] != nil {
		panic(fmt.Sprintf("codec: Register[%v]: another type is registered as %s", t, name))
	}

	k.types[name] = d
	if tag != tagNamed {
		k.basic = append(k.basic, d)
	}
	d.known.Store(&registered{name, tag})
}

func (k *known) addError(name string, err error) {
	if other, taken := k.errors[name]; taken && other != err {
		panic(fmt.Sprintf("codec: RegisterError(%q): the name is that of another error", name))
	}
	if other, taken := k.names[err]; taken && other != name {
		panic(fmt.Sprintf("codec: RegisterError(%q): the error is registered as %q", name, other))
	}
	k.errors[name], k.names[err] = err, name
	dynamicFor(reflect.TypeOf(err)).sentinels.Store(true)
}

// nameOf returns the name that x is registered by as an error.
func (k *known) nameOf(x any) (name string, ok bool) {
	if v := reflect.ValueOf(x); v.Kind() != reflect.Pointer && !v.Comparable() { // it allocates
		return "", false
	}
	name, ok = k.names[x.(error)]
	return name, ok
}
