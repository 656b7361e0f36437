package main

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
)

// decimals of PHA: one is 10^12 base units.
const decimals = 12

// sendGas is the chain's gas of a payment, with room.
const sendGas = 200_000

// baseUnits reads an amount of PHA such as 2 or 0.05.
func baseUnits(s string) (string, error) {
	whole, fraction, point := strings.Cut(s, ".")
	digits := whole + fraction
	if digits == "" || strings.Trim(digits, "0123456789") != "" || point && fraction == "" || len(fraction) > decimals || len(digits) > 30 {
		return "", fmt.Errorf("%q is not an amount of PHA: digits, and at most %d behind the point", s, decimals)
	}
	n, ok := new(big.Int).SetString(digits+strings.Repeat("0", decimals-len(fraction)), 10)
	if !ok || n.Sign() <= 0 {
		return "", fmt.Errorf("%q is not an amount above zero", s)
	}
	return n.String(), nil
}

// findAccount finds an account that was named: by its address, by the name of a key in
// phala keys, or as //Name. Only its public part is needed, so secrets are not taken;
// //Name is public anyway.
func findAccount(s string) ([]byte, error) {
	if strings.HasPrefix(s, "//") {
		k, err := identity.FromURI(s)
		if err != nil {
			return nil, err
		}
		pub := k.Public()
		return pub[:], nil
	}
	account, err := address.Parse(s)
	if err == nil {
		return account, nil
	}
	if k, _, kerr := loadKey(s); kerr == nil {
		return address.Parse(k.Address)
	}
	return nil, fmt.Errorf("%w, and no key of that name is in phala keys list", err)
}

// accountText is the address of an account that was named.
func accountText(s string) (string, error) {
	account, err := findAccount(s)
	if err != nil {
		return "", err
	}
	return address.Bech32(address.HRP, account)
}

func runSend(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala send ACCOUNT AMOUNT", "Sends PHA to an account and waits until the payment is in a block. ACCOUNT is an address, a key's name or a\ndevelopment account such as //Bob; AMOUNT is in PHA, such as 2 or 0.05. Everybody sees payments.")
	pos, err := need(f, args, 2, 2)
	if err != nil {
		return ignoreHelp(err)
	}
	to, err := findAccount(pos[0])
	if err != nil {
		return err
	}
	addr, err := address.Bech32(address.HRP, to)
	if err != nil {
		return err
	}
	units, err := baseUnits(pos[1])
	if err != nil {
		return err
	}
	c, _, err := a.open()
	if err != nil {
		return err
	}
	r, err := c.Sender().Send(ctx, sendGas, tx.Send(c.Account(), to, units))
	if err != nil {
		return err
	}
	return a.print(map[string]any{"to": addr, "amount": units, "height": r.Height}, func(w io.Writer) {
		fmt.Fprintf(w, "sent %s PHA to %s (height %d)\n", pos[1], addr, r.Height)
	})
}
