// Package zoo holds no code, only a test: it sends values of types that
// programs really send, of the standard library and of well-known modules,
// through hopper.
package zoo
