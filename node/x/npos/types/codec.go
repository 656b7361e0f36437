// Package types holds the generated messages of x/npos and their registration.
package types

import (
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/msgservice"
)

// RegisterInterfaces registers the module's messages.
func RegisterInterfaces(r codectypes.InterfaceRegistry) {
	r.RegisterImplementations((*sdk.Msg)(nil), &MsgBond{}, &MsgUnbond{}, &MsgRebond{}, &MsgWithdraw{}, &MsgValidate{}, &MsgNominate{},
		&MsgChill{}, &MsgPayout{}, &MsgCancelSlash{}, &MsgUpdateParams{})
	msgservice.RegisterMsgServiceDesc(r, &_Msg_serviceDesc)
}
