// Contract of the determinism test: it uses whatever a Go program's result could hang on
// by chance. Careful is written as a contract should be; Careless is not, and must come
// out the same on every replica all the same.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phala-go/phala/contract"
)

// Everything is the contract.
type Everything struct {
	Words  contract.Map[string, int]
	Report contract.Value[Report]
	Trace  contract.Value[string]
}

// A Report is what Careful leaves.
type Report struct {
	At     time.Time      `json:"at"`
	Words  map[string]int `json:"words"`
	Order  []string       `json:"order"`
	Sum    int            `json:"sum"`
	Big    *big.Int       `json:"big"`
	Prime  bool           `json:"prime"`
	Text   string         `json:"text"`
	Random uint64         `json:"random"`
}

// fold is generic.
func fold[T, A any](in []T, a A, f func(A, T) A) A {
	for _, x := range in {
		a = f(a, x)
	}
	return a
}

// Careful counts words in many ways.
func (e *Everything) Careful(ctx *contract.Command, text string) (Report, error) {
	counts := map[string]int{}
	for _, w := range strings.Fields(text) {
		counts[w]++
	}
	order := slices.Sorted(maps.Keys(counts))

	// Goroutines that finish in any order, and a result that does not tell.
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		sum int
	)
	for w, n := range counts {
		wg.Go(func() {
			time.Sleep(time.Duration(len(w)) * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			sum += n * len(w)
		})
	}
	wg.Wait()

	factorial := fold(slices.Repeat([]int64{7, 11, 13}, 20), big.NewInt(1), func(a *big.Int, x int64) *big.Int { return a.Mul(a, big.NewInt(x)) })
	at := time.UnixMilli(int64(ctx.Time())).UTC()
	r := Report{At: at.Add(90 * time.Minute).Truncate(time.Hour), Words: counts, Order: order, Sum: sum,
		Big: factorial.Exp(factorial, big.NewInt(65537), big.NewInt(1<<61-1)), Prime: big.NewInt(1<<61 - 1).ProbablyPrime(10),
		Text: fmt.Sprintf("%v %+v %.3f %s", counts, order, float64(sum)/7, at.Format(time.RFC1123)), Random: ctx.RandomN(1 << 40)}
	for w, n := range counts { // in any order: what is stored is the same
		had, _ := e.Words.Get(w)
		e.Words.Set(w, had+n)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return Report{}, err
	}
	var again Report
	if err := json.Unmarshal(b, &again); err != nil {
		return Report{}, err
	}
	e.Report.Set(again)
	return again, nil
}

// Careless keeps everything that a contract should not look at: the order of maps, who
// finishes first, addresses, seeds and clocks.
func (e *Everything) Careless(ctx *contract.Command) (string, error) {
	m := map[string]int{}
	for i := range 100 {
		m[fmt.Sprint("key", i)] = i
	}
	var b strings.Builder
	for k := range m {
		b.WriteString(k[3:] + " ")
	}
	first, results := make(chan int), make(chan int, 16)
	for i := range 16 {
		go func() {
			_ = make([]byte, 1<<16) // work for the collector
			select {
			case first <- i:
			case results <- i:
			}
		}()
	}
	for range 16 {
		select {
		case i := <-first:
			fmt.Fprint(&b, "f", i, " ")
		case i := <-results:
			fmt.Fprint(&b, "r", i, " ")
		}
	}
	x := 0.1
	for range 1000 {
		x = 3.99 * x * (1 - x)
	}
	fmt.Fprint(&b, time.Now(), rand.Uint64(), rand.Perm(5), x, fmt.Sprintf("%p", &m))
	e.Trace.Set(e.Trace.Get() + b.String())
	return b.String(), nil
}

func init() { contract.Register(&Everything{}) }

func main() {}
