# make        builds the commands into bin/
# make demo   shows the main job on this machine
# make test   checks and tests everything, and installs what the tests talk to
# make release   builds all commands for all machines, as packages too, in dist/: see packaging/release
# make bench  measures against other programs; figures in docs/BENCHMARKS.md. FAMILIES='small ranges' measures some

export GOTOOLCHAIN = local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# A program knows that it is not earlier than this.
BUILT ?= $(shell git log -1 --format=%cI 2>/dev/null)
BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION) -X main.built=$(BUILT)'
# Arithmetic that shares nothing between goroutines, and takes ten times as long where the race detector
# looks at each step of it.
KEYS = crypto/internal/fips140/ed25519 crypto/internal/fips140/edwards25519/... golang.org/x/crypto/scrypt
COMPRESSION = compress/flate $(addprefix github.com/,dsnet/compress/bzip2/... dsnet/compress/internal/prefix $(addprefix klauspost/compress/,flate fse huff0))
ARITHMETIC = $(foreach p,$(KEYS) $(COMPRESSION),'-gcflags=$(p)=-race=false')

.PHONY: build demo test check fuzz bench release clean

build:
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/...

demo: build
	@.ci/demo

test:
	.ci/packages
	.ci/check
	@mkdir -p bin && rm -f bin/not-tested
	NOT_TESTED=$(CURDIR)/bin/not-tested GORACE=atexit_sleep_ms=0 go test -race $(ARITHMETIC) -shuffle=on -timeout 40m ./...
	NOT_TESTED=$(CURDIR)/bin/not-tested .ci/unraced
	go -C bench test ./...
	@cat bin/not-tested 2>/dev/null || echo 'nothing that this machine does not allow was left out'
	.ci/fuzz 10s

bench:
	.ci/packages 'curl openssl nginx wrk rsync rclone'
	go -C bench run . $(BENCH_FLAGS) $(FAMILIES)

release:
	packaging/release

clean:
	rm -rf bin dist
