package tx

import "google.golang.org/protobuf/encoding/protowire"

// Messages of the chain's nominated proof of stake (phala.npos.v1). Amounts are in base
// units, as decimal numbers; commissions in billionths.

func staking(kind string, f fields) Msg { return Msg{"/phala.npos.v1.Msg" + kind, f} }

func staker(account []byte) fields { return fields(nil).string(1, bech(account)) }

// Bond puts tokens under the account's stake.
func Bond(account []byte, amount string) Msg {
	return staking("Bond", staker(account).string(2, amount))
}

// Unbond takes tokens out of the stake.
func Unbond(account []byte, amount string) Msg {
	return staking("Unbond", staker(account).string(2, amount))
}

// Rebond puts tokens that are unbonding under the stake again.
func Rebond(account []byte, amount string) Msg {
	return staking("Rebond", staker(account).string(2, amount))
}

// Withdraw pays out what has finished unbonding.
func Withdraw(account []byte) Msg { return staking("Withdraw", staker(account)) }

// Validate makes the account a candidate, or changes its candidacy. An empty key keeps
// the one it has; bond is bonded in addition.
func Validate(account, consensusKey []byte, commission uint32, bond string) Msg {
	return staking("Validate", staker(account).bytes(2, consensusKey).uint(3, uint64(commission)).string(4, bond))
}

// Nominate makes the account a nominator of targets, or changes them.
func Nominate(account []byte, targets [][]byte, bond string) Msg {
	f := staker(account)
	for _, t := range targets {
		f = protowire.AppendString(protowire.AppendTag(f, 2, protowire.BytesType), bech(t))
	}
	return staking("Nominate", f.string(3, bond))
}

// Chill ends the account's candidacy or nomination.
func Chill(account []byte) Msg { return staking("Chill", staker(account)) }

// Payout pays the next unpaid page of a validator's rewards for an era.
func Payout(sender, validator []byte, era uint64) Msg {
	return staking("Payout", staker(sender).string(2, bech(validator)).uint(3, era))
}
