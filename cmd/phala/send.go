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

// accountText is the address of an account that was named: by its address, by a key's
// name, or by a secret URI such as //Bob.
func accountText(s string) (string, error) {
	if account, err := address.Parse(s); err == nil {
		return address.Bech32(address.HRP, account)
	}
	if strings.HasPrefix(s, address.HRP+"1") {
		return "", fmt.Errorf("%s is not an address: letters are missing or changed", s)
	}
	if !strings.ContainsAny(s, "/ ") && !strings.HasPrefix(s, "0x") {
		f, _, err := loadKey(s)
		if err != nil {
			return "", err
		}
		return f.Address, nil
	}
	k, err := identity.FromURI(s)
	if err != nil {
		return "", err
	}
	pub := k.Public()
	return address.Bech32(address.HRP, pub[:])
}

func runSend(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala send ACCOUNT AMOUNT", "Sends PHA to an account and waits until the payment is in a block. ACCOUNT is an address, a key's name or a\ndevelopment key such as //Bob; AMOUNT is in PHA, such as 2 or 0.05. Everybody sees payments.")
	pos, err := need(f, args, 2, 2)
	if err != nil {
		return ignoreHelp(err)
	}
	addr, err := accountText(pos[0])
	if err != nil {
		return err
	}
	to, err := address.Parse(addr)
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
