package doctor

import (
	"os"
	"runtime"
)

// Secret looks at a file that holds one.
func Secret(check, flag, name string) Finding {
	f, err := os.Open(name)
	if err != nil {
		return found(Trouble, check, "Give "+flag+" a file that the user of the service may read, and run peal doctor as that user.", "%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return found(Trouble, check, "See what "+flag+" names.", "%v", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return found(Warning, check, "chmod o-rwx "+name+": who has it is taken for this service.", "%s may be read by everybody on this machine", name)
	}
	return well(check, "%s can be read", name)
}
