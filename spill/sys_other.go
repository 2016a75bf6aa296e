//go:build !linux

package spill

func inMemory(string) bool { return false }
