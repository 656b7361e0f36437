// Package tx builds and signs the chain's transactions without the Cosmos SDK: the
// protobuf encoding of the messages that this project has, in SIGN_MODE_DIRECT.
package tx
