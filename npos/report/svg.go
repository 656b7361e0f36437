package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"

	"github.com/phala-go/phala/npos"
)

// The drawing's measures, in hundredths of a pixel so that no floats are needed.
const (
	svgWidth, svgHeight             = 120000, 52000
	plotLeft, plotTop               = 11000, 7000
	plotWidth, plotHeight           = svgWidth - plotLeft - 2000, svgHeight - plotTop - 6000
	gridLines                       = 5
	barColour, lowColour, lineColor = "#3b6ea5", "#c8553d", "#2f855a"
)

// px writes hundredths of a pixel.
func px(v uint64) string { return fmt.Sprintf("%d.%02d", v/100, v%100) }

// SVG draws the support of each validator as a bar, the best backed first, with
// lines for the smallest support and for its bound (an equal share of the stake).
// The bars of the least backed third, which an attack would take first, have a
// colour of their own. Each bar names its validator and support when pointed at.
// The drawing is deterministic and uses no script, font file or other resource.
func (r *Report) SVG(u Unit, names Names) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" font-family="sans-serif" font-size="13" role="img" aria-labelledby="t d">`, px(svgWidth), px(svgHeight))
	p(`<title id="t">Support per validator</title>`)
	p(`<desc id="d">%s</desc>`, escape(r.summary(u)))
	p(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	p(`<text x="%s" y="26" font-size="18" font-weight="bold" fill="#1a202c">Support per validator</text>`, px(plotLeft))
	p(`<text x="%s" y="48" fill="#4a5568">%s</text>`, px(plotLeft), escape(r.summary(u)))
	order := slices.Clone(r.Validators)
	slices.SortStableFunc(order, func(a, b Validator) int { return b.Support.Cmp(a.Support) })
	top := r.MaximinBound
	if len(order) > 0 && top.Less(order[0].Support) {
		top = order[0].Support
	}
	height := func(v npos.U128) uint64 {
		h, ok := npos.MulDiv(v, npos.U64(plotHeight), top)
		if !ok {
			return 0
		}
		return h.Lo
	}
	for i := range uint64(gridLines + 1) {
		value, _ := npos.MulDiv(top, npos.U64(i), npos.U64(gridLines))
		y := plotTop + plotHeight - plotHeight*i/gridLines
		p(`<line x1="%s" x2="%s" y1="%s" y2="%s" stroke="#e2e8f0"/>`, px(plotLeft), px(plotLeft+plotWidth), px(y), px(y))
		p(`<text x="%s" y="%s" text-anchor="end" fill="#4a5568">%s</text>`, px(plotLeft-800), px(y+450), escape(Unit{Decimals: u.Decimals}.Format(value, 0)))
	}
	third := len(order) - (len(order)+2)/3
	for i, v := range order {
		colour := barColour
		if i >= third {
			colour = lowColour
		}
		left := plotLeft + plotWidth*uint64(i)/uint64(len(order))
		right := plotLeft + plotWidth*uint64(i+1)/uint64(len(order))
		width, h := (right-left)*85/100, height(v.Support)
		p(`<rect class="bar" x="%s" y="%s" width="%s" height="%s" fill="%s"><title>%s: %s, %d backers</title></rect>`,
			px(left), px(plotTop+plotHeight-h), px(max(width, 10)), px(h), colour,
			escape(name(names.Candidate, v.Candidate)), escape(u.Format(v.Support, 2)), v.Backers)
	}
	level := func(v npos.U128) uint64 {
		y := plotTop + plotHeight - height(v)
		p(`<line x1="%s" x2="%s" y1="%s" y2="%s" stroke="%s" stroke-width="1.5" stroke-dasharray="6 4"/>`, px(plotLeft), px(plotLeft+plotWidth), px(y), px(y), lineColor)
		return y
	}
	// The two lines may coincide: one label goes above its line, one below.
	p(`<text x="%s" y="%s" text-anchor="end" fill="%s">equal share %s</text>`, px(plotLeft+plotWidth), px(level(r.MaximinBound)-500), lineColor, escape(u.Format(r.MaximinBound, 0)))
	p(`<text x="%s" y="%s" fill="%s" stroke="#ffffff" stroke-width="4" paint-order="stroke">smallest support %s</text>`, px(plotLeft+600), px(level(r.Score.MinimalStake)+1700), lineColor, escape(u.Format(r.Score.MinimalStake, 0)))
	p(`<text x="%s" y="%s" fill="#4a5568">%d validators by support; the least backed third in red</text>`, px(plotLeft), px(svgHeight-2400), len(order))
	p(`</svg>`)
	return b.Bytes()
}

// summary is the report in one line.
func (r *Report) summary(u Unit) string {
	s := fmt.Sprintf("%d seats, smallest support %s", r.Seats, u.Format(r.Score.MinimalStake, 0))
	if r.PJR.Holds {
		s += ", PJR certified"
	} else {
		s += ", PJR not certified"
	}
	for _, a := range r.Attacks {
		s += fmt.Sprintf(", %s of the seats for %s", a.Part, u.Format(a.NewStake, 0))
	}
	return s
}

// escape makes text safe inside an element.
func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // writing to a buffer does not fail
	return b.String()
}
