package devnet

import "syscall"

// processGroup also makes the system stop a component when the devnet dies.
func processGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
