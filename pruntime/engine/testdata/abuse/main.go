// Abuse is a contract that misbehaves in the way that the first byte of its input
// says. It speaks the ABI without package contract, so that it tests the engine alone.
package main

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"strings"
	"time"
	"unsafe"
)

//go:wasmimport phat input_len
func inputLen() uint32

//go:wasmimport phat input_read
func inputRead(ptr unsafe.Pointer)

//go:wasmimport phat output
func output(ptr unsafe.Pointer, n uint32)

//go:wasmimport phat kv_put
func put(key unsafe.Pointer, kn uint32, value unsafe.Pointer, vn uint32)

func answer(b []byte) {
	output(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	runtime.KeepAlive(b)
}

func write() {
	k, v := []byte("key"), []byte("value")
	put(unsafe.Pointer(&k[0]), 3, unsafe.Pointer(&v[0]), 5)
}

var calls int // in the image's memory: every call finds the same

//go:wasmexport deploy
func deploy() { run() }

//go:wasmexport call
func call() { run() }

//go:wasmexport query
func query() { run() }

func run() {
	in := make([]byte, inputLen())
	if len(in) > 0 {
		inputRead(unsafe.Pointer(&in[0]))
	}
	calls++
	switch in[0] {
	case 'n':
		answer(fmt.Append(nil, calls))
	case 'l':
		for n := 0; ; n++ {
			calls ^= n
		}
	case 'a':
		var all [][]byte
		for {
			all = append(all, make([]byte, 1<<20))
		}
	case 'r':
		answer(fmt.Append(nil, deep(0)))
	case 'w':
		write()
		panic("after a write")
	case 'g':
		write()
		done := make(chan bool)
		go func() { panic("in a goroutine") }()
		<-done
	case 'd':
		write()
		select {}
	case 'x':
		write()
		os.Exit(3)
	case 's':
		from := time.Now()
		time.Sleep(time.Hour)
		answer(fmt.Append(nil, from.UnixMilli(), time.Since(from).Round(time.Minute)))
	case 'm':
		answer([]byte(mixed()))
	case 'o':
		_, err := os.ReadFile("/etc/passwd")
		answer(fmt.Append(nil, len(os.Args), len(os.Environ()), err != nil, fmt.Sprint(err) == ""))
	case 'G':
		c := make(chan int)
		for i := range 1000 {
			go func() {
				time.Sleep(time.Duration(i%7) * time.Millisecond)
				c <- i
			}()
		}
		sum := 0
		for range 1000 {
			sum += <-c
		}
		answer(fmt.Append(nil, sum))
	}
}

func deep(n int) int {
	var b [4096]byte
	b[n%4096] = byte(n)
	return deep(n+1) + int(b[(n+1)%4096])
}

// mixed depends on everything that a Go program can get at by chance: the order of
// maps, seeds, addresses, the scheduler, the clock and the collector.
func mixed() string {
	m := map[string]int{}
	for i := range 50 {
		m[fmt.Sprint(i)] = i
	}
	var order []string
	for k := range m {
		order = append(order, k)
	}
	for range 20 {
		_ = make([]byte, 1<<20)
	}
	runtime.GC()
	c := make(chan int, 8)
	for i := range 8 {
		go func() { c <- i }()
	}
	for range 8 {
		order = append(order, fmt.Sprint(<-c))
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	x := 0.1
	for i := range 100 {
		x = x*3.7*(1-x) + float64(i)*1e-9
	}
	bits := binary.BigEndian.AppendUint64(nil, uint64(x*1e15))
	return fmt.Sprintf("%s|%d|%p|%d|%d|%x", strings.Join(order, ","), rand.Uint64(), &m, stats.TotalAlloc, time.Now().UnixNano(), bits)
}

func main() {}
