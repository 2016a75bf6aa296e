// Package papers holds no code, only a test of what is written for people: that
// links lead somewhere, that commands name packages and benchmarks that are
// there, and that the names of hopper's API are its names.
package papers
