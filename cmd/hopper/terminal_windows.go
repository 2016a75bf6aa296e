package main

import (
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// terminalWidth returns the columns of the console that w is, now.
func terminalWidth(w io.Writer) int {
	var info windows.ConsoleScreenBufferInfo
	f, ok := w.(*os.File)
	if ok && windows.GetConsoleScreenBufferInfo(windows.Handle(f.Fd()), &info) == nil {
		return int(info.Window.Right-info.Window.Left) + 1
	}
	return defaultWidth
}
