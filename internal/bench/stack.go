package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

// each returns the median time of f in microseconds.
func each(n int, f func()) float64 {
	times := make([]float64, n)
	for i := range times {
		t := time.Now()
		f()
		times[i] = float64(time.Since(t).Nanoseconds()) / 1e3
	}
	slices.Sort(times)
	return times[n/2]
}

// bare are the costs that nothing can go below, microseconds on one core.
type bare struct{ agree, verify, sign, ed25519, p256, p384, rsa float64 }

func measureBare() bare {
	a, _ := commkey.Generate(rand.Reader)
	b, _ := commkey.Generate(rand.Reader)
	k, _, _ := identity.Generate(rand.Reader)
	msg := []byte("message")
	sig, _ := k.Sign(rand.Reader, msg)
	pub := b.Public()
	pk, sk, _ := ed25519.GenerateKey(rand.Reader)
	expanded, _ := ed25519.NewExpandedPublicKey(pk)
	es := ed25519.Sign(sk, msg)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	digest := sha256.Sum256(msg)
	ecSig, _ := ecdsa.SignASN1(rand.Reader, ec, digest[:])
	ec384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ec384Sig, _ := ecdsa.SignASN1(rand.Reader, ec384, digest[:])
	// What is no signature costs as much to check as what is one, and needs no key.
	modulus := make([]byte, 4096/8)
	rand.Read(modulus)
	modulus[0], modulus[len(modulus)-1] = 0x80|modulus[0], 1|modulus[len(modulus)-1]
	rsaKey := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	rsaSig := make([]byte, len(modulus))
	rsaSig[len(rsaSig)-1] = 2
	batch := func() {
		v := ed25519.NewBatchVerifierWithCapacity(64)
		for range 64 {
			v.AddExpanded(expanded, msg, es)
		}
		v.VerifyBatchOnly(rand.Reader)
	}
	return bare{
		agree:   each(400, func() { a.Agree(pub) }),
		verify:  each(400, func() { identity.Verify(k.Public(), msg, sig[:]) }),
		sign:    each(400, func() { k.Sign(rand.Reader, msg) }),
		ed25519: each(50, batch) / 64,
		p256:    each(200, func() { ecdsa.VerifyASN1(&ec.PublicKey, digest[:], ecSig) }),
		p384:    each(200, func() { ecdsa.VerifyASN1(&ec384.PublicKey, digest[:], ec384Sig) }),
		rsa:     each(200, func() { rsa.VerifyPSS(rsaKey, crypto.SHA256, digest[:], rsaSig, nil) }),
	}
}

var floor = measureBare()

// limits fills in what physics allows.
func limits(figures []Figure) {
	set := func(name string, v float64, note string) {
		for i := range figures {
			if figures[i].Name == name {
				figures[i].Limit, figures[i].Note = &v, note
			}
		}
	}
	// Beside ours: what Polkadot's runtime is charged for an election of such a size, and
	// what the reference's authors measured or allow.
	weight := func(voters float64) string {
		return fmt.Sprintf("(none; polkadot-sdk's weight, 2023, fitted to 1,000 to 2,000 voters: 6.74 ms + 5.87 us a voter + 1.42 ms a vote: %.0f ms)", 6.74+5.87*voters/1000+1.42*16)
	}
	for i := range figures {
		f := &figures[i]
		switch {
		case f.Name == "phragmen_297_ms" || f.Name == "phragmen_600_ms":
			f.Note = weight(22_500)
		case f.Name == "phragmen_297_balanced_ms" || f.Name == "phragmen_600_balanced_ms":
			f.Note = "(none; the reference with ten rounds, native, Kusama in 2020: about 5 s, substrate#6685)"
		case f.Name == "phragmen_100k_nominators_s":
			f.Note = weight(100_000)
		default:
			var n int
			if _, err := fmt.Sscanf(f.Name, "phragmen_%d_nominators_s", &n); err == nil {
				f.Note = weight(float64(n))
			}
		}
	}
	for _, n := range []int{4, 21, 100, 175} {
		signatures := float64(n*2/3 + 1)
		set(fmt.Sprintf("header_verify_us_%d", n), signatures*floor.ed25519, fmt.Sprintf("%.0f signatures in a batch", signatures))
	}
	set("sync_1m_blocks_s", 2000*67*floor.ed25519/1e6, "2,000 headers of 67 signatures: every change of the set needs two")
	// A quote, its chain, collateral and CRLs are nine signatures; who registers signs.
	set("tdx_verify_us", 9*floor.p256, "nine P-256 signatures")
	set("sgx_verify_us", 9*floor.p256, "nine P-256 signatures")
	set("snp_verify_us", 3*floor.rsa+floor.p384, "three signatures of RSA with 4,096 bits and one of P-384")
	set("registrations_block_ms", 48*(max(9*floor.p256, 3*floor.rsa+floor.p384)+floor.verify)/1e3, "48 times the signatures of the dearest class and one sr25519")
	set("inbox_fold_ns", 2*150, "two SHA-256 of one block each")
	set("command_open_us", floor.agree+floor.verify, "one agreement and one signature check")
	set("query_p50_us", 2*floor.agree+floor.verify, "two agreements and one signature check")
	for _, n := range []int{1, 4, 16} {
		set(fmt.Sprintf("query_qps_%d", n), float64(min(n, 2))*1e6/(2*floor.agree+floor.verify), "agreements and check on the machine's cores")
	}
	set("commands_one_core_per_s", 1e6/(floor.agree+floor.verify), "one agreement and one signature check")
	set("queries_scale", 2, "two cores")
	set("commands_per_s", 1e6/(floor.agree+2*floor.verify), "one core checks the transaction and the command")
	set("command_to_receipt_ms", 200, "two blocks: one orders the command, one takes the receipt")
	set("ready_s", 0.8, "eight blocks: register, seat, release, publish, deploy, prepare, construct, receipt")
	set("ready_resumed_s", 0.3, "three blocks: session, release, challenge")
}

// openCommand measures opening and checking one command in the enclave.
func openCommand() float64 {
	epoch, _ := commkey.Generate(rand.Reader)
	fresh, _ := commkey.Generate(rand.Reader)
	k, _, _ := identity.Generate(rand.Reader)
	pub := k.Public()
	inv := &proto.Invocation{From: pub[:], Input: []byte(`{"method":"SetGreeting","args":"Hi"}`), GasLimit: 1 << 26, Expiry: 100, Scheme: uint8(identity.SchemeSr25519), PublicKey: pub[:]}
	sig, _ := k.Sign(rand.Reader, inv.SignedBytes("bench", 1))
	inv.Signature = sig[:]
	ctx := (&proto.PushedCommand{Payer: pub[:], Epoch: 1, GasTier: 6}).Context("bench", 1)
	env, err := envelope.Seal(rand.Reader, ctx, fresh, epoch.Public(), inv.Marshal())
	if err != nil {
		panic(err)
	}
	return each(500, func() {
		plain, _, err := envelope.Open(ctx, epoch, env)
		if err != nil {
			panic(err)
		}
		v, err := proto.ParseInvocation(plain)
		if err != nil {
			panic(err)
		}
		if _, err := identity.VerifyScheme(identity.SchemeSr25519, v.PublicKey, v.SignedBytes("bench", 1), v.Signature); err != nil {
			panic(err)
		}
	})
}

// stack measures a devnet of real processes.
func stack(ctx context.Context) ([]Figure, error) {
	fmt.Fprintln(os.Stderr, "measuring the devnet")
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "phala-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	opt := devnet.Options{Dir: filepath.Join(dir, "devnet"), Bin: "bin", Workers: 1, Fresh: true, Out: io.Discard, Hello: "bin/hello.wasm"}
	n, err := devnet.Start(ctx, opt)
	if err != nil {
		return nil, err
	}
	ready := n.Timings["ready_s"]
	n.Stop()
	opt.Fresh = false
	if n, err = devnet.Start(ctx, opt); err != nil {
		return nil, err
	}
	defer n.Stop()
	var rss float64
	for _, b := range n.Memory() {
		rss += float64(b) / 1e6
	}
	out := []Figure{figure("ready_s", ready), figure("ready_resumed_s", n.Timings["ready_s"]), figure("rss_mb", rss), figure("command_open_us", openCommand())}
	hello := n.State().Contracts["hello"]
	qs, err := queries(ctx, n.Client, hello)
	if err != nil {
		return nil, err
	}
	cs, err := commands(ctx, n, hello)
	return append(append(out, qs...), cs...), err
}

// queries measures queries per second by concurrency, and the latency of one at a time.
func queries(ctx context.Context, c *client.Client, hello proto.ContractID) ([]Figure, error) {
	targets, err := c.Targets(ctx, hello)
	if err != nil {
		return nil, err
	}
	input, err := client.Input("GetGreeting", nil)
	if err != nil {
		return nil, err
	}
	var out []Figure
	for _, workers := range []int{1, 4, 16} {
		const length = 3 * time.Second
		var mu sync.Mutex
		var times []float64
		var failed error
		var wg sync.WaitGroup
		began := time.Now()
		for range workers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for time.Since(began) < length {
					t := time.Now()
					_, err := c.Ask(ctx, targets[0], hello, input, client.QueryOptions{})
					d := float64(time.Since(t).Nanoseconds()) / 1e3
					mu.Lock()
					times = append(times, d)
					if err != nil {
						failed = err
					}
					mu.Unlock()
				}
			}()
		}
		wg.Wait()
		if failed != nil {
			return nil, failed
		}
		out = append(out, figure(fmt.Sprintf("query_qps_%d", workers), float64(len(times))/time.Since(began).Seconds()))
		if workers == 1 {
			slices.Sort(times)
			out = append(out, figure("query_p50_us", times[len(times)/2]))
		}
	}
	return out, nil
}

// commands measures the way through the chain: one at a time from submission to the
// opened receipt, then as many as go through.
func commands(ctx context.Context, n *devnet.Net, hello proto.ContractID) ([]Figure, error) {
	var times []float64
	for i := range 15 {
		t := time.Now()
		if _, err := n.Client.Call(ctx, hello, "SetGreeting", fmt.Sprintf("number %d", i), client.CallOptions{}); err != nil {
			return nil, err
		}
		times = append(times, float64(time.Since(t).Microseconds())/1e3)
	}
	slices.Sort(times)
	const total = 1500
	began := time.Now()
	pending, err := n.Client.PushMany(ctx, hello, total, func(i int) ([]byte, error) {
		b, err := json.Marshal(fmt.Sprintf("load %d", i))
		if err != nil {
			return nil, err
		}
		return client.Input("SetGreeting", json.RawMessage(b))
	})
	if err != nil {
		return nil, err
	}
	for {
		cl, err := n.Client.Cluster(ctx, n.State().Cluster)
		if err != nil {
			return nil, err
		}
		if cl.FinalSeq >= pending {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("commands: %d of %d final: %w", cl.FinalSeq, pending, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	rate := total / time.Since(began).Seconds()
	return []Figure{figure("command_to_receipt_ms", times[len(times)/2]), figure("commands_per_s", rate)}, nil
}
