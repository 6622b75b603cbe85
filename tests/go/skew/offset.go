// Has the clock on the wall go wrong: by WALL_OFFSET, such as 5h or -5h. What lasts is not touched.
// scripts/stores adds this file to Go's own package, and the offset to its Now.
package time

import "syscall"

var wallOffset = readWallOffset()

// In whole seconds; none where nothing is set.
func readWallOffset() int64 {
	text, isSet := syscall.Getenv("WALL_OFFSET")
	if !isSet {
		return 0
	}
	offset, err := ParseDuration(text)
	if err != nil {
		panic(err)
	}
	return int64(offset / Second)
}
