# make devnet   build and run the whole network on this machine
# make smoke    the same unattended: fresh devnet, a call, a query, one JSON line
# make check    the lean module's tests, at most two minutes
# make test     everything that CI runs
# make test-future  the tests once more, ten years from now; part of make test but for
#               the end to end ones: make test-future FUTURE=test-e2e
# make bench    measure; prints a table and writes bench.json
#
# Only Go, make and git are needed. What needs gcc or Node besides runs where they are
# and is reported as skipped where they are not.
SHELL := bash
GO ?= go
# One set of flags for builds and tests, so that nothing is compiled twice.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 0
LDFLAGS := -s -w
BIN := bin
VET := $(GO) vet
# A limit ends what hangs. What is only slow, on a busy machine, goes on.
TEST := $(GO) test -timeout 60m

.PHONY: build devnet smoke check test test-node test-oracles test-cgo test-e2e test-future reproducible fuzz tcb bench clean

build:
	@mkdir -p $(BIN)
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/phala ./cmd/pherry ./cmd/pruntime ./cmd/tee-simulator
	cd node && $(GO) build -ldflags '$(LDFLAGS)' -o ../$(BIN)/ ./cmd/phala-node
	$(BIN)/phala build examples/hello -o $(BIN)/hello.wasm
	$(BIN)/phala build examples/guessnumber -o $(BIN)/guessnumber.wasm
	$(BIN)/pruntime compile $(BIN)/native $(BIN)/hello.wasm

devnet: build
	@$(BIN)/phala devnet $(ARGS)

smoke: build
	@$(BIN)/phala devnet --smoke

check:
	$(VET) ./...
	$(TEST) ./...

test: check tcb fuzz test-node test-oracles test-cgo build reproducible test-e2e smoke test-future
	@echo "all tests passed"

test-node:
	cd node && $(VET) ./... && $(TEST) ./...

# Other implementations as judges, each in a module of its own.
test-oracles:
	cd test/oracle && $(TEST) ./...
	cd test/attest-oracle && $(TEST) ./...

# wasmtime needs a C compiler.
test-cgo:
	@if command -v gcc >/dev/null; then cd test/wasmtime && CGO_ENABLED=1 $(TEST) ./...; \
	else echo "skipped: test/wasmtime needs gcc"; fi

# The real programs as separate processes: commands, attacks, kills, restarts.
test-e2e: build
	PHALA_BIN=$(CURDIR)/$(BIN) $(TEST) -count=1 ./test/e2e

# Time is an argument wherever it decides something, so the tests must pass in any year.
# These build everything on a clock that is ten years ahead, in a folder of their own; a
# test of internal/future fails if the clock is not.
FUTURE := check test-node test-oracles smoke
test-future:
	$(GO) run ./internal/future bin/.future
	PHALA_FUTURE=1 $(MAKE) GOFLAGS="$(GOFLAGS) -overlay=$(CURDIR)/bin/.future/overlay.json" BIN=bin/.future VET=: $(FUTURE)

# Released programs must not depend on where they are built: a copy of the sources in
# another folder, built with an empty cache, has to give the same bytes. phala-node is of
# another module, whose build with an empty cache takes minutes.
PROGRAMS := phala pherry pruntime tee-simulator
reproducible: build
	@dir=$$(mktemp -d) && trap 'chmod -R u+w "$$dir" && rm -rf "$$dir"' EXIT && mkdir "$$dir/elsewhere" "$$dir/bin" && \
	tar -cf - --exclude=./bin --exclude=./.git --exclude=./.devnet --exclude=./node --exclude=./test . | tar -xf - -C "$$dir/elsewhere" && \
	cd "$$dir/elsewhere" && GOCACHE="$$dir/cache" $(GO) build -ldflags '$(LDFLAGS)' -o ../bin/ $(PROGRAMS:%=./cmd/%) && \
	for p in $(PROGRAMS); do cmp "../bin/$$p" "$(CURDIR)/bin/$$p" || exit 1; echo "reproducible: $$p $$({ sha256sum "../bin/$$p" 2>/dev/null || shasum -a 256 "../bin/$$p"; } | cut -c1-64)"; done

# Every fuzz target for a short, fixed budget. The seeds run with the ordinary tests.
# A count, not a time: a run that ends by the clock sometimes fails by it.
FUZZTIME ?= 1000x
fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$pkg || exit 1; \
	  done; \
	done

# What the enclave's binary is made of, in lines.
tcb:
	$(GO) run ./internal/tcb

bench: build
	$(GO) run ./internal/bench

clean:
	rm -rf bin .devnet bench.json
