package main

import (
	"os"
	"strings"
)

// defaultWidth is that of a terminal which doesn't tell, in columns.
const defaultWidth = 80

// isSmart reports whether a terminal understands escape sequences.
func isSmart() bool { return os.Getenv("TERM") != "dumb" }

// isUTF8 reports whether text on the terminal may be more than ASCII.
func isUTF8() bool {
	// The first one that is set counts.
	for _, name := range [...]string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// Levels of a sparkline, from nothing to most.
var (
	blocks = []rune(" ▁▂▃▄▅▆▇█")
	ascii  = []rune(" .:-=+*#")
)

// sparkline draws the last values, one a column, the largest one full height.
func sparkline(values []float64, width int, levels []rune) string {
	values = values[max(0, len(values)-width):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}

	return sparklineTo(values, most, levels)
}

// sparklineTo draws values of which the largest there could be is full height.
func sparklineTo(values []float64, most float64, levels []rune) string {
	line := make([]rune, len(values))
	for i, v := range values {
		level := 0
		if v > 0 && most > 0 {
			level = 1 + int(v/most*float64(len(levels)-2)+0.5)
		}
		line[i] = levels[min(level, len(levels)-1)]
	}
	return string(line)
}
