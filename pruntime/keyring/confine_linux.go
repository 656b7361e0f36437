package keyring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confine takes from this process, for good, what would help whoever takes it over to get
// at the keyring's, or at the TEE in the keyring's place: new privileges and capabilities,
// other programs, sockets of daemons on the machine, and writing files but below the
// folders that are named. Reading stays as it is. It is called before anything runs that
// is not trusted, and after everything that needs more.
//
// gaps are the parts that this kernel does not have. Without an error the keyring's memory
// is closed to this process, gaps or not.
func Confine(folders ...string) (gaps []string, err error) {
	if err := allThreads("forbid new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return nil, err
	}
	if err := landlock(folders); errors.Is(err, errors.ErrUnsupported) {
		gaps = append(gaps, "Landlock")
	} else if err != nil {
		return nil, err
	}
	if err := filterCalls(); errors.Is(err, errors.ErrUnsupported) {
		gaps = append(gaps, "seccomp")
	} else if err != nil {
		return nil, err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return gaps, allThreads("drop capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
}

// allThreads makes a system call on every thread: Linux keeps credentials for each. Go can
// do that in programs without cgo, of which pruntime is one.
//
//go:uintptrescapes
func allThreads(what string, trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3); errno != 0 {
		return fmt.Errorf("keyring: %s: %w", what, errno)
	}
	return nil
}

// writes are the accesses to files that Landlock's version 3 can refuse (Linux 6.2), but
// for reading and executing.
const writes = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
	unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
	unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE

// landlock keeps writing to the folders. A root without capabilities may still write much
// that is root's, of which some (kernel.core_pattern, say) gives it everything; and a
// process in a domain of Landlock reads the memory of none outside.
func landlock(folders []string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < 3 {
		return fmt.Errorf("keyring: Landlock: %w", errors.ErrUnsupported)
	}
	attr := unix.LandlockRulesetAttr{Access_fs: writes}
	// Of the attributes, the first alone: older kernels know no others.
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 8, 0)
	if errno != 0 {
		return fmt.Errorf("keyring: Landlock rules: %w", errno)
	}
	defer unix.Close(int(rules))
	for _, dir := range folders {
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("keyring: Landlock: %w", err)
		}
		rule := unix.LandlockPathBeneathAttr{Allowed_access: writes, Parent_fd: int32(f.Fd())}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		f.Close()
		if errno != 0 {
			return fmt.Errorf("keyring: Landlock: %s: %w", dir, errno)
		}
	}
	return allThreads("restrict writing", unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0)
}

// architectures whose calls filterCalls knows.
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// Of seccomp_data (linux/seccomp.h), which is in the machine's order of bytes: both
// architectures' is little-endian.
const (
	dataCall     = 0
	dataArch     = 4
	dataArgument = 16
)

// filterCalls refuses other programs, asking devices, and every socket but those of the
// Internet: the TEE's agent, and daemons that do what root says, listen on others. io_uring
// makes sockets without such calls, and one of a pair that takes datagrams sends to any
// name. SEV-SNP's device gives evidence and keys to whoever has it open, for reading too,
// which Landlock does not refuse. Performance events of a whole processor, which some
// systems give to everybody, show the registers and stacks of all that runs there.
func filterCalls() error {
	arch, ok := architectures[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("keyring: seccomp: %w", errors.ErrUnsupported)
	}
	const (
		load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		is   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		from = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		end  = unix.BPF_RET | unix.BPF_K
	)
	// Jumps count the instructions that they leave out, where it is so and where not.
	program := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: is, K: arch, Jf: 12}, // else refuse
		{Code: load, K: dataCall},
		{Code: from, K: 0x40000000, Jt: 10}, // amd64's other calls, x32
		{Code: is, K: unix.SYS_EXECVE, Jt: 9},
		{Code: is, K: unix.SYS_EXECVEAT, Jt: 8},
		{Code: is, K: unix.SYS_PERF_EVENT_OPEN, Jt: 7},
		{Code: is, K: unix.SYS_IOCTL, Jt: 6},
		{Code: is, K: unix.SYS_IO_URING_SETUP, Jt: 5},
		{Code: is, K: unix.SYS_SOCKETPAIR, Jt: 4},
		{Code: is, K: unix.SYS_SOCKET, Jf: 4}, // else allow
		{Code: load, K: dataArgument},
		{Code: is, K: unix.AF_INET, Jt: 2},
		{Code: is, K: unix.AF_INET6, Jt: 1},
		{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: end, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	switch errno {
	case 0:
		return nil
	case unix.ENOSYS, unix.EINVAL:
		return fmt.Errorf("keyring: seccomp: %w", errors.ErrUnsupported)
	}
	return fmt.Errorf("keyring: refuse system calls: %w", errno)
}
