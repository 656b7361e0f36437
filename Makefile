# make devnet   the whole network on this machine
# make check    the lean module's tests, at most two minutes
# make test     everything that CI runs
export CGO_ENABLED ?= 0
GO ?= go

.PHONY: check test
check:
	$(GO) vet ./...
	$(GO) test ./...

test: check
