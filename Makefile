# What one does with Quadraft. `make` alone lists the targets.
#
# Cargo is always called for the whole workspace (--workspace, never -p for a build): Cargo chooses
# the features of shared dependencies by what is built together, and with another choice it
# compiles RocksDB anew, which takes a quarter of an hour. For the same reason everything but the
# images that others run uses one profile and one target folder, which lies outside the clone and is shared by all clones.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export QUADRAFT_CACHE ?= $(HOME)/.cache/quadraft
export CARGO_TARGET_DIR ?= $(QUADRAFT_CACHE)/target
# Where Go's own archive puts it.
export PATH := $(PATH):/usr/local/go/bin

IMAGES ?= $(QUADRAFT_CACHE)/images-release
TEST_IMAGES := $(QUADRAFT_CACHE)/images
OPERATOR := $(CARGO_TARGET_DIR)/debug/quadraft-operator
CHART_CRDS := charts/quadraft-operator/files/crds
CHART_RIGHTS := charts/quadraft-operator/files/rights

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile

.PHONY: prepare
prepare: ## Install what building, testing and the demo need (Debian and Ubuntu; needs root or sudo)
	@packaging/prepare

.PHONY: own-target
own-target:
	@packaging/own-target

.PHONY: demo
demo: prepare own-target ## Bring up Kubernetes, run a cluster, damage it, watch it recover, back it up, restore it
	@tests/demo/run

.PHONY: build
build: prepare own-target ## Build all programs
	cargo build --workspace --bins

.PHONY: images
images: prepare own-target ## Build both container images for use, optimised (IMAGES=folder)
	cargo build --workspace --bins --release
	packaging/build-images "$(IMAGES)" --binaries "$(CARGO_TARGET_DIR)/release"

# Of the profile that everything else is built with: it is there already.
.PHONY: images-for-tests
images-for-tests: build
	packaging/build-images "$(TEST_IMAGES)"

.PHONY: bench
bench: build ## Measure memory, sizes and times, and print them as a table
	@tests/bench/run

.PHONY: bench-log
bench-log: build ## Measure the log against plain files and other logs: no Kubernetes needed
	@tests/bench/log

# Needs a Kubernetes: see test-kubernetes.
.PHONY: bench-operator
bench-operator: images-for-tests ## Measure what 200 clusters cost the operator and the API server
	$(ON_KUBERNETES) \
	cargo test --workspace --test fleet -- --ignored --nocapture

.PHONY: bench-database
bench-database: prepare own-target ## Measure updates and queries as clients feel them, beside Oxigraph's server
	@tests/bench/database

##: Tests

.PHONY: test
test: prepare test-rust test-bed test-kubernetes ## Run all tests

.PHONY: test-rust
test-rust: prepare own-target ## Run the tests that need no Kubernetes
	cargo test --workspace

.PHONY: test-bed
# With the settings of the bed's build, so that Kubernetes is not compiled a second time; and vetted
# once: `go test` would look through all of Kubernetes again with other analysers.
test-bed: export CGO_ENABLED = 0
test-bed: export GOFLAGS = -trimpath
test-bed: ## Run the tests of the test bed's own program
	cd tests/bed && go vet ./... && go test -vet=off ./...

# What needs a Kubernetes runs on that of KUBECONFIG when it is set, else on the bed, which stays up for the
# next run (tests/bed/bed down).
define ON_KUBERNETES
kubeconfig=$${KUBECONFIG:-$$(tests/bed/bed up | awk '{ print > "/dev/stderr"; last = $$0 } END { print last }')}; \
kubectl=$${KUBECTL:-$$(packaging/tool kubectl)}; \
export KUBECONFIG="$$kubeconfig" KUBECTL="$$kubectl" QUADRAFT_IMAGES="$(TEST_IMAGES)";
endef

# These tests are ignored by default. Those that kill the operator are alone with it; those of `strangers`
# are not.
# QUADRAFT_READY_ROUNDS=50 asks fifty times instead of ten whether Ready means that clients can connect.
.PHONY: test-kubernetes
test-kubernetes: images-for-tests ## Run the tests with real pods
	$(ON_KUBERNETES) \
	cargo build --workspace --example diverge; \
	cargo test --workspace --test strangers -- --ignored --test-threads=4; \
	cargo test --workspace --test examples -- --ignored --test-threads=2; \
	cargo test --workspace --test data_loss -- --ignored --test-threads=4; \
	cargo test --workspace --test chaos_kubernetes -- --ignored --nocapture; \
	cargo test --workspace --test kubernetes -- --ignored --test-threads=1

# A million cases of damage together with a crash, half a million crash states, and the whole matrix
# of three nodes by four entries. `make test` tries a part of each.
.PHONY: faults
faults: export QUADRAFT_FAULTS_FACTOR ?= 50
faults: prepare own-target ## Try a million faults of disks, and print what became of them
	cargo test --workspace --lib -- log::tests raft::simulation --include-ignored --nocapture

# `make test` runs for each planted bug the test that finds it; this runs all of them for each.
.PHONY: planted
planted: prepare own-target ## Print which tests find which planted bug (half an hour)
	cargo test --workspace --lib -- planted --include-ignored --nocapture

# Needs a nightly compiler (rustup toolchain install nightly). `make test` runs the same targets on the
# stored cases, and for two seconds each on mutations of them.
.PHONY: fuzz
fuzz: build ## Fuzz everything that reads bytes from disk or network (FUZZ_SECONDS=60 a target)
	@packaging/fuzz

# Three real nodes, killed, damaged, set back and filled up one after another. The seed is printed:
# QUADRAFT_CHAOS_SEED makes the same choices again.
.PHONY: chaos
chaos: export QUADRAFT_CHAOS_SECONDS ?= 3600
chaos: build ## Let an hour of chaos loose on a cluster, and print what became of it
	cargo test --workspace --test chaos -- --nocapture

# What takes longer than `make test` may: the operator is killed after each thing that it does about lost
# data, fifty clients connect at once when a cluster is Ready, and an hour of chaos on pods.
.PHONY: test-long
test-long: export QUADRAFT_OPERATOR_KILLS ?= 1000
test-long: export QUADRAFT_READY_ROUNDS ?= 50
test-long: export QUADRAFT_STORE_DAMAGE_ROUNDS ?= 10
test-long: export QUADRAFT_PARTITION_SECONDS ?= 30
test-long: export QUADRAFT_CHAOS_SECONDS ?= 3600
test-long: test-kubernetes ## Run the tests with real pods at their full length (two hours)

# A cluster of three on pods, and what happens to clusters: deaths, evictions, drains, an API server that
# hangs, Jobs that cannot start, changes of the spec. `make test` has two minutes of it.
.PHONY: chaos-kubernetes
chaos-kubernetes: export QUADRAFT_CHAOS_SECONDS ?= 3600
chaos-kubernetes: images-for-tests ## Let an hour of chaos loose on a cluster with real pods
	$(ON_KUBERNETES) \
	cargo test --workspace --test chaos_kubernetes -- --ignored --nocapture

# Each file of the store in each way, at rest and under load, in clusters of one and of three.
# QUADRAFT_STORE_DAMAGE_SEED makes the same choices again. `make test` has 200 cases.
.PHONY: store-damage
store-damage: export QUADRAFT_STORE_DAMAGE_CASES ?= 5000
store-damage: build ## Damage the store of running nodes 5,000 times, and print what became of it
	cargo test --workspace --test damaged_store -- --nocapture

##: Verification. Nothing here writes into the clone; `make fix` does.

.PHONY: verify
verify: verify-format verify-lints verify-generated verify-dependencies verify-charts verify-images verify-scripts verify-links ## Check everything that needs no running system

.PHONY: verify-format
verify-format:
	cargo fmt --all --check
	cargo fmt --manifest-path tests/bench/peers/Cargo.toml --check
	@unformatted=$$(gofmt -l tests/bed tests/bench); \
	if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi

.PHONY: verify-lints
verify-lints: own-target
	cargo clippy --workspace --all-targets -- -D warnings

# crds/ comes from the operator's types, the chart's copy from crds/; the chart's rights are those that
# the operator's client lets pass.
.PHONY: verify-generated
verify-generated: build
	@generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT; \
	"$(OPERATOR)" crds --directory "$$generated" >/dev/null; \
	diff --recursive --unified crds "$$generated" || \
	  { echo "crds/ differs from the operator's types: run make fix"; exit 1; }
	@diff --recursive --unified --exclude=.gitkeep crds $(CHART_CRDS) || \
	  { echo "the chart's copy differs from crds/: run make fix"; exit 1; }
	@generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT; \
	"$(OPERATOR)" rights --directory "$$generated"; \
	diff --recursive --unified $(CHART_RIGHTS) "$$generated" || \
	  { echo "the chart's rights differ from the operator's: run make fix"; exit 1; }

.PHONY: verify-dependencies
verify-dependencies:
	@packaging/check-dependencies

.PHONY: verify-charts
verify-charts:
	@packaging/check-charts

# What others run is optimised as a whole, unlike what tests run.
.PHONY: verify-images
verify-images:
	@$(MAKE) --no-print-directory --dry-run images | grep --quiet -- '--binaries "$(CARGO_TARGET_DIR)/release"' || \
	  { echo "make images does not take the optimised programs"; exit 1; }

.PHONY: verify-scripts
verify-scripts:
	@packaging/check-scripts

.PHONY: verify-links
verify-links:
	@packaging/check-links

.PHONY: fix
fix: prepare own-target ## Format, and write generated files anew
	cargo fmt --all
	cargo fmt --manifest-path tests/bench/peers/Cargo.toml
	gofmt -w tests/bed tests/bench
	cargo build --workspace --bins
	mkdir -p crds $(CHART_CRDS)
	rm -f crds/*.yaml $(CHART_CRDS)/*.yaml
	"$(OPERATOR)" crds --directory crds
	cp crds/*.yaml $(CHART_CRDS)/
	mkdir -p $(CHART_RIGHTS)
	"$(OPERATOR)" rights --directory $(CHART_RIGHTS)
