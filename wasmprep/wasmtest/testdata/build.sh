#!/bin/sh
# Rebuilds the corpus. The compiled modules are committed, and no test runs
# this: another compiler version makes other bytes, and with them other golden
# gas numbers. Needs Go, clang and wasm-ld 14, and AssemblyScript 0.28.20
# (ASC names its compiler).
set -eu
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags="-s -w -buildid=" -buildmode=c-shared -o "$out/go.wasm" src/gotransfer/main.go
clang-14 --target=wasm32 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -Wl,--strip-all -o "$out/c.wasm" src/kernels.c
"${ASC:-asc}" src/script.ts -O2 --runtime incremental -o "$out/as.wasm"
for f in go c as; do
	gzip -9 -n -c "$out/$f.wasm" >"$f.wasm.gz"
done
ls -l ./*.wasm.gz
