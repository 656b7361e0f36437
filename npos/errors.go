package npos

// Code names one class of failure. A Code is itself an error, so callers test
// with errors.Is(err, npos.CodeStakeOverflow).
type Code string

// Error gives the code as text.
func (c Code) Error() string { return string(c) }

// The failure classes of this package.
const (
	// CodeAmount: a text or big integer is not an unsigned 128-bit amount.
	CodeAmount Code = "npos: not an unsigned 128-bit amount"
	// CodeTooLarge: more candidates, voters or approvals than an instance holds.
	CodeTooLarge Code = "npos: instance too large"
	// CodeStakeOverflow: the stakes of all voters sum to more than MaxTotalStake.
	CodeStakeOverflow Code = "npos: total stake too large"
	// CodeUnknownCandidate: an index or identity names no candidate.
	CodeUnknownCandidate Code = "npos: unknown candidate"
	// CodeDuplicateCandidate: one candidate or winner is listed twice.
	CodeDuplicateCandidate Code = "npos: duplicate candidate"
	// CodeUnknownVoter: an index names no voter.
	CodeUnknownVoter Code = "npos: unknown voter"
	// CodeDuplicateVoter: one voter is listed twice.
	CodeDuplicateVoter Code = "npos: duplicate voter"
	// CodeDuplicateTarget: one voter lists the same candidate twice.
	CodeDuplicateTarget Code = "npos: duplicate target"
	// CodeNotApproved: a voter backs a candidate it does not approve of.
	CodeNotApproved Code = "npos: candidate not approved by voter"
	// CodeNotElected: stake is assigned to a candidate that did not win.
	CodeNotElected Code = "npos: candidate not elected"
	// CodeElected: the question only makes sense for a candidate that did not win.
	CodeElected Code = "npos: candidate is elected"
	// CodeOverspent: a voter's assignment exceeds its stake.
	CodeOverspent Code = "npos: voter overspent"
	// CodeSumOverflow: the values to normalise sum to more than their type holds.
	CodeSumOverflow Code = "npos: sum overflows"
	// CodeAccuracy: a share accuracy of zero.
	CodeAccuracy Code = "npos: accuracy must be positive"
)

// Error is a failure of this package: its class and what happened to what.
type Error struct {
	Code   Code
	Detail string
}

// Error gives the class and the detail as one line.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Unwrap gives the code, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.Code }
