package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A size is a number of bytes, as a flag.
type size int64

var units = []struct {
	name  string
	bytes float64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40},
	{"B", 1}, {"", 1},
}

// Set parses text such as 64KiB, 1.5GiB, 500MB or 65536; case does not matter.
func (s *size) Set(text string) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(strings.ToUpper(text), u.name)
		if !ok {
			continue
		}
		return s.parse(strings.TrimSpace(digits), u.bytes)
	}
	panic("internal error: the empty unit fits every text")
}

var errSize = errors.New("not a size: write bytes, or a number with " +
	"KiB, MiB, GiB, TiB (of 1024) or KB, MB, GB, TB (of 1000)")

func (s *size) parse(digits string, unit float64) error {
	if strings.Trim(digits, "0123456789.") != "" { // no signs, exponents or Inf
		return errSize
	}
	// A whole number of bytes is exact beyond what a float64 can hold.
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && unit == 1 {
		*s = size(n)
		return nil
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return errSize
	}
	if n *= unit; n >= math.MaxInt64 {
		return errors.New("too large: sizes end below 8 EiB")
	}
	*s = size(n)
	return nil
}

// String writes the size with three digits, as 12.3GiB.
func (s size) String() string {
	if s < 0 {
		return "-" + (-s).String()
	}
	if s < 1<<10 {
		return fmt.Sprintf("%dB", int64(s))
	}
	n, unit := float64(s), ""
	for _, unit = range [...]string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if n /= 1 << 10; n < 999.5 {
			break
		}
	}
	switch {
	case n < 9.995:
		return fmt.Sprintf("%.2f%s", n, unit)
	case n < 99.95:
		return fmt.Sprintf("%.1f%s", n, unit)
	}
	return fmt.Sprintf("%.0f%s", n, unit)
}
