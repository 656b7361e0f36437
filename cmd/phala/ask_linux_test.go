package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: what is written to keyboard is typed at it, and what it
// shows is read from there.
func terminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("skipped: no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skip("skipped: no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { tty.Close() })
	return keyboard, tty
}

// whenAsked does something as soon as it is asked for the secret.
type whenAsked struct {
	io.Writer
	do func()
}

func (w whenAsked) Write(p []byte) (int, error) {
	if strings.HasSuffix(string(p), ": ") {
		w.do()
	}
	return w.Writer.Write(p)
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// TestAskShowsNothing: a terminal does not show a secret that is typed, and shows again
// what follows.
func TestAskShowsNothing(t *testing.T) {
	keyboard, tty := terminal(t)
	var shown strings.Builder
	line, err := ask(tty, whenAsked{&shown, func() {
		if echoes(t, tty) {
			t.Error("what is typed is shown")
		}
		io.WriteString(keyboard, "correct horse\n")
	}}, "passphrase")
	if err != nil || line != "correct horse" || shown.String() != "passphrase: \n" {
		t.Errorf("got %q, %v, shown %q", line, err, shown.String())
	}
	if !echoes(t, tty) {
		t.Error("the terminal stays silent")
	}
}

// TestAskEndsByCtrlC: who is asked for a secret can leave, and his terminal is as before.
func TestAskEndsByCtrlC(t *testing.T) {
	_, tty := terminal(t)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	_, err = ask(tty, whenAsked{io.Discard, func() { self.Signal(os.Interrupt) }}, "passphrase")
	if !errors.Is(err, errInterrupted) || !echoes(t, tty) {
		t.Errorf("got %v", err)
	}
}

// TestTerminalIsProtected: what goes to a terminal is made visible, what goes to a file is
// left as it is; and the terminal is as it was.
func TestTerminalIsProtected(t *testing.T) {
	_, tty := terminal(t)
	if _, ok := printable(tty).(visible); !ok || !echoes(t, tty) {
		t.Errorf("a terminal gets everything, or does not echo any more")
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if printable(file) != io.Writer(file) {
		t.Error("a file gets something else than is written")
	}
}
