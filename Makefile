# What people and CI call. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps build quickstart cluster-demo image test check bless gen fuzz-oracle oracle chaos bench bench-kernels bench-catalog bench-load docs clean test-otlp

# One optimised profile for everything: the tree is built once.
CARGO_FLAGS := --release --locked
BINARY := target/release/graticule

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

deps: ## install what is missing (Debian, Ubuntu); elsewhere say what to install
	@deploy/deps.sh

build: deps ## build the binary, target/release/graticule
	cargo build $(CARGO_FLAGS) --bin graticule

quickstart: build ## cloud-masked NDVI median of a Landsat series, as GeoTIFF and picture
	@examples/quickstart.sh $(BINARY)

cluster-demo: build ## the same job on a coordinator, two workers and Redis; bytes compared
	@deploy/cluster-demo.sh $(BINARY)

image: build ## the container image without Docker, proved by the quickstart in it; needs root (Debian 12)
	@deploy/image.sh $(BINARY)

test: build ## all tests
	cargo test $(CARGO_FLAGS)
	@# Tests that need something are ignored by default and run here where it is meant to be.
	cargo test $(CARGO_FLAGS) -- --ignored redis
	@deploy/browser.sh
	cargo test $(CARGO_FLAGS) -- --ignored browser
	@if [ -d ../shared/data ] || [[ ",$${GRATICULE_REQUIRE:-}," == *,shared,* ]]; then \
	  echo "cargo test $(CARGO_FLAGS) -- --ignored shared"; \
	  cargo test $(CARGO_FLAGS) -- --ignored shared; \
	else echo "not run: tests that need ../shared, which is not here"; fi
	@# Nothing is asked of a machine that cannot have the published client: it needs PyPI and a Python of its time.
	@if deploy/client.sh -c 'import descarteslabs.dynamic_compute' \
	    || [[ ",$${GRATICULE_REQUIRE:-}," == *,client,* ]]; then \
	  echo "cargo test $(CARGO_FLAGS) -- --ignored published_client"; \
	  cargo test $(CARGO_FLAGS) -- --ignored published_client; \
	else echo "not run: tests of the published client, which cannot be installed here"; fi

# Random faults: from which seed, and how many.
CHAOS_SEED ?=
CHAOS_ROUNDS ?= 20

chaos: deps ## break a cluster of real processes in every way; CHAOS_SEED=... CHAOS_ROUNDS=... repeat random faults
	CHAOS_SEED=$(CHAOS_SEED) CHAOS_ROUNDS=$(CHAOS_ROUNDS) \
	  cargo test $(CARGO_FLAGS) -p graticule-tests --test chaos -- --include-ignored --skip bench_load --nocapture

test-otlp: ## traces as a collector receives them; builds the binary with the feature `otlp`
	cargo test $(CARGO_FLAGS) -p graticule-tests --features otlp --test e2e otlp

check: deps ## formatting, lints, generated code, builds without GDAL and without network, what is in deploy/
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	@# Alone, each crate sees only the features it asks for: `common` must stay pure, `worker` must do without GDAL.
	cargo clippy $(CARGO_FLAGS) -p graticule-common --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) -p graticule-tests -p graticule-cli --features graticule-tests/otlp,graticule-cli/otlp --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) -p graticule-worker --no-default-features --all-targets -- -D warnings
	node --test tests/browser/unit/*.test.js
	@deploy/ruff.sh check && deploy/ruff.sh format --check
	$(MAKE) gen
	git diff --exit-code -- common/src/proto docs/ops.md
	@deploy/check.sh $(BINARY)

gen: ## write common/src/proto from the .proto files, docs/ops.md from the op table
	cargo run $(CARGO_FLAGS) -p graticule-proto
	cargo run $(CARGO_FLAGS) --bin graticule -- ops --markdown > docs/ops.md.part
	mv docs/ops.md.part docs/ops.md

bless: ## rewrite the golden plans; the diff is what gets reviewed
	GRATICULE_BLESS=1 cargo test $(CARGO_FLAGS) -p graticule-tests --test golden plans

# Cases of one chunk, and chunks: every case is computed in three ways.
CASES ?= 1000
CHUNKS ?= 20
SEED ?= $(shell date +%s)

fuzz-oracle: deps ## 20,000 random grafts against numpy; SEED=... repeats a run
	@deploy/fuzz-oracle.sh $(SEED) $(CASES) $(CHUNKS)

oracle: ## rewrite what the numpy oracle says: golden arrays and the fixed random grafts
	@deploy/numpy.sh tests/oracle/check_reference.py
	@deploy/numpy.sh tests/golden/arrays/make.py
	@deploy/numpy.sh tests/oracle/generate.py tests/oracle/fixed --seed fixed --cases 400 --per-world 5 --largest 24 --longest 12

bench: bench-kernels bench-catalog bench-load ## all benchmarks

bench-kernels: deps ## the interpreter's speed and memory beside numpy's, on the same data
	cargo test $(CARGO_FLAGS) -p graticule-common --test bill -- --ignored --nocapture bench_kernels \
	  | deploy/numpy.sh tests/bench/kernels.py

bench-catalog: ## a catalog of a million items: time and memory of adding, time of searching
	cargo test $(CARGO_FLAGS) -p graticule-coordinator -- --ignored --nocapture bench_a_million_items

# Seconds that each figure is measured for.
LOAD_SECONDS ?= 60

bench-load: build ## two hundred clients, overload, one cold tile, slow readers, no-op tiles; processor time and memory
	LOAD_SECONDS=$(LOAD_SECONDS) \
	  cargo test $(CARGO_FLAGS) -p graticule-tests --test chaos -- --ignored bench_load --nocapture

docs: ## the Rust documentation
	cargo doc $(CARGO_FLAGS) --workspace --no-deps

clean: ## remove what was built and computed
	rm -rf target quickstart cluster-demo .venv .venv-client
