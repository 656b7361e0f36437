package wasmprep

// Naive returns the rules with the plainest metering: each instruction is
// charged by itself, right before it.
func (r Rules) Naive() Rules {
	r = r.Exact()
	r.eachOp = true
	return r
}

// Exact returns the rules without joining of charges.
func (r Rules) Exact() Rules {
	r.Costs.RotateMax, r.Costs.FoldMax, r.Costs.FoldSlack = 0, 0, 0
	return r
}

// OpcodeName exposes the names for tests.
func OpcodeName(op uint32) string { return opcodeName(op) }
