# make        builds the commands into bin/
# make demo   shows the main job on this machine
# make test   checks and tests everything, and installs what the tests talk to
# make race   tests what make test does not, with the race detector: the programs, code without goroutines
# make fuzz   looks for a minute at each parser of what comes from outside, guided by coverage
# make release   builds all commands for all machines, as packages too, in dist/: see packaging/release
# make bench  measures against other programs; figures in docs/BENCHMARKS.md. FAMILIES='small ranges' measures some

export GOTOOLCHAIN = local
# As releases are built, so that everything is compiled once.
export GOFLAGS = -trimpath
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# A program knows that it is not earlier than this.
BUILT ?= $(shell git log -1 --format=%cI 2>/dev/null)

.PHONY: build demo test race fuzz bench release clean

build:
	@mkdir -p bin
	VERSION='$(VERSION)' BUILT='$(BUILT)' packaging/build bin '' box-update-server boxsign boxup

demo: build
	@.ci/demo

test:
	.ci/packages
	.ci/check
	@mkdir -p bin && rm -f bin/not-tested
	NOT_TESTED=$(CURDIR)/bin/not-tested .ci/test
	@cat bin/not-tested 2>/dev/null || echo 'nothing that this machine does not allow was left out'
	.ci/fuzz 2s
	.ci/figures

race:
	.ci/packages
	.ci/test race

fuzz:
	.ci/fuzz 1m guided

bench:
	.ci/packages 'curl openssl nginx wrk rsync rclone'
	go -C bench run . $(BENCH_FLAGS) $(FAMILIES)

release:
	packaging/release

clean:
	rm -rf bin dist
