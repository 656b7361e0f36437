package report

import (
	"strings"

	"github.com/phala-go/phala/npos"
)

// Unit says how amounts are shown: 10^Decimals smallest units are one Symbol.
type Unit struct {
	Symbol   string
	Decimals int
}

// Format shows an amount in whole tokens with thousands separated by commas and at
// most the given fractional digits, rounded down: "1,191,762.53 DOT".
func (u Unit) Format(amount npos.U128, digits int) string {
	text := amount.String()
	if pad := u.Decimals + 1 - len(text); pad > 0 {
		text = strings.Repeat("0", pad) + text
	}
	whole, fraction := text[:len(text)-u.Decimals], text[len(text)-u.Decimals:]
	var b strings.Builder
	for i, d := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	fraction = fraction[:min(max(digits, 0), len(fraction))]
	if fraction != "" {
		b.WriteByte('.')
		b.WriteString(fraction)
	}
	if u.Symbol != "" {
		b.WriteByte(' ')
		b.WriteString(u.Symbol)
	}
	return b.String()
}

// percent shows billionths as a percentage with two digits, rounded down.
func percent(billionths npos.U128) string {
	return Unit{Decimals: 7}.Format(billionths, 2) + " %"
}
