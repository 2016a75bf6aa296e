//go:build freebsd || netbsd

package segment

import "golang.org/x/sys/unix"

// eftype is what open(2) with O_NOFOLLOW may say of a link.
const eftype = unix.EFTYPE
