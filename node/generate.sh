#!/usr/bin/env bash
# Generates the Go code of proto/phala/**.proto. The result is committed, so that a
# build needs neither protoc nor plugins. Needs protoc 3.21 and
# go install github.com/cosmos/gogoproto/protoc-gen-gocosmos@v1.7.2
set -euo pipefail
cd "$(dirname "$0")"
m=$(go env GOMODCACHE)
sdk=$m/github.com/cosmos/cosmos-sdk@v0.55.0
gogo=$m/github.com/cosmos/gogoproto@v1.7.2
out=$(mktemp -d)
for dir in crypto mq registry contracts npos; do
  protoc -I ../proto -I "$sdk/proto" -I "$gogo" -I "$gogo/protobuf" -I "$m/github.com/cosmos/cosmos-proto@v1.0.0-beta.5/proto" \
    --gocosmos_out=plugins=grpc,Mgoogle/protobuf/any.proto=github.com/cosmos/gogoproto/types/any:"$out" ../proto/phala/$dir/v1/*.proto
done
cp -r "$out"/github.com/phala-go/phala/node/. .
rm -rf "$out"
