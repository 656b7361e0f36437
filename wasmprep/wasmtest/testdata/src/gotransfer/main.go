// Command transfer is the corpus's JSON contract: each call decodes a JSON
// request, touches four storage items, hashes a receipt and encodes an answer.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"sort"
	"unsafe"
)

//go:wasmimport phat input_len
func inputLen() int32

//go:wasmimport phat input_read
func inputRead(p unsafe.Pointer)

//go:wasmimport phat output
func output(p unsafe.Pointer, n int32)

//go:wasmimport phat kv_get
func kvGet(k unsafe.Pointer, kn int32, v unsafe.Pointer, max int32) int32

//go:wasmimport phat kv_put
func kvPut(k unsafe.Pointer, kn int32, v unsafe.Pointer, vn int32)

//go:wasmimport phat empty
func empty()

type request struct {
	From   string   `json:"from"`
	To     string   `json:"to"`
	Amount uint64   `json:"amount"`
	Memo   string   `json:"memo,omitempty"`
	Tags   []string `json:"tags,omitempty"`
}

type answer struct {
	OK      bool   `json:"ok"`
	From    uint64 `json:"from"`
	To      uint64 `json:"to"`
	Receipt string `json:"receipt"`
}

func get(key string) uint64 {
	var b [8]byte
	n := kvGet(unsafe.Pointer(unsafe.StringData(key)), int32(len(key)), unsafe.Pointer(&b[0]), 8)
	var v uint64
	for i := 0; i < int(n); i++ {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func put(key string, v uint64) {
	var b [8]byte
	for i := range b {
		b[7-i] = byte(v)
		v >>= 8
	}
	kvPut(unsafe.Pointer(unsafe.StringData(key)), int32(len(key)), unsafe.Pointer(&b[0]), 8)
}

func respond(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	output(unsafe.Pointer(&b[0]), int32(len(b)))
}

//go:wasmexport transfer
func transfer() {
	in := make([]byte, inputLen())
	inputRead(unsafe.Pointer(&in[0]))
	var r request
	if err := json.Unmarshal(in, &r); err != nil {
		respond(map[string]string{"error": err.Error()})
		return
	}
	from, to := get("bal/"+r.From), get("bal/"+r.To)
	if from < r.Amount {
		respond(map[string]string{"error": fmt.Sprintf("balance %d < %d", from, r.Amount)})
		return
	}
	put("bal/"+r.From, from-r.Amount)
	put("bal/"+r.To, to+r.Amount)
	h := sha256.Sum256([]byte(fmt.Sprintf("%s>%s:%d", r.From, r.To, r.Amount)))
	respond(answer{true, from - r.Amount, to + r.Amount, fmt.Sprintf("%x", h[:8])})
}

//go:wasmexport nop
func nop() {}

//go:wasmexport hostcalls
func hostcalls(n int32) {
	for ; n > 0; n-- {
		empty()
	}
}

var sink []byte

//go:wasmexport garbage
func garbage(mib int32) {
	for i := int32(0); i < mib*64; i++ {
		sink = make([]byte, 16<<10)
	}
}

//go:wasmexport hash
func hash(kib int32) int32 {
	buf := make([]byte, kib<<10)
	for i := range buf {
		buf[i] = byte(i * 7)
	}
	h := sha256.Sum256(buf)
	return int32(h[0])<<8 | int32(h[1])
}

//go:wasmexport sorting
func sorting(n int32) int32 {
	xs := make([]int, n)
	x := uint32(12345)
	for i := range xs {
		x = x*1664525 + 1013904223
		xs[i] = int(x)
	}
	sort.Ints(xs)
	return int32(xs[n/2])
}

//go:wasmexport modexp
func modexp(bits int32) int32 {
	one := big.NewInt(1)
	m := new(big.Int).Sub(new(big.Int).Lsh(one, uint(bits)), big.NewInt(159))
	b := new(big.Int).Sub(m, big.NewInt(987654321))
	e := new(big.Int).Rsh(m, 1)
	r := new(big.Int).Exp(b, e, m)
	return int32(new(big.Int).And(r, big.NewInt(0x7fffffff)).Int64())
}

//go:wasmexport mandel
func mandel(size, iter int32) int32 {
	total := int32(0)
	for y := int32(0); y < size; y++ {
		for x := int32(0); x < size; x++ {
			cr, ci := 3*float64(x)/float64(size)-2, 2*float64(y)/float64(size)-1
			zr, zi := 0.0, 0.0
			i := int32(0)
			for ; i < iter && zr*zr+zi*zi < 4; i++ {
				zr, zi = zr*zr-zi*zi+cr, 2*zr*zi+ci
			}
			total += i
		}
	}
	return total
}

//go:wasmexport recurse
func recurse(n int32) int32 {
	if n == 0 {
		return 0
	}
	return recurse(n-1) + 1
}

//go:wasmexport panics
func panics(n int32) {
	var xs []int
	xs[n] = 1
}

// ranges iterates over a map, whose order depends on the runtime's seed.
//
//go:wasmexport ranges
func ranges() int32 {
	m := map[int32]int32{}
	for i := int32(0); i < 64; i++ {
		m[i] = i * i
	}
	h := int32(0)
	for k, v := range m {
		h = h*31 + k ^ v
	}
	return h
}

//go:wasmexport goroutines
func goroutines(n int32) int32 {
	c := make(chan int32)
	for i := int32(0); i < n; i++ {
		go func() { c <- i }()
	}
	s := int32(0)
	for i := int32(0); i < n; i++ {
		s += <-c
	}
	return s
}

func main() {}
