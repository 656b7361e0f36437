package enginetest

import "github.com/phala-go/phala/pruntime/engine"

// Rules are two versions of the rules: the first is the real one, the second one in which
// everything costs something else, and which refuses modules above SmallModule.
func Rules() []engine.Rules {
	second := engine.RulesV1()
	second.Module.Version = 2
	for op := range second.Module.Costs.Op {
		second.Module.Costs.Op[op] *= 3
	}
	second.Module.Limits.ModuleBytes = SmallModule
	second.Host.Call, second.Host.Read, second.Host.Write = 500, 9_000, 40_000
	second.Instance.Base = 35_000
	second.Command = engine.CommandGas{Open: 200_000, Revoke: 120_000}
	second.Deposit = engine.DepositPrice{Item: 250_000, Byte: 1_500, Step: 32}
	return []engine.Rules{engine.RulesV1(), second}
}

// SmallModule is the largest module that the second version of Rules takes. Script with a
// salt of that many bytes is above it.
const SmallModule = 8 << 10
