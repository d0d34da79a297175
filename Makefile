# The vocabulary of this project. `make` alone lists it.

RULES := validation utc-enrichment device-filter
CARGO ?= cargo
# How many tests on Kafka run at a time, each with processes and most with brokers of its own. Where the brokers have too few cores
# for a while, they lose each other, and groups their members.
KAFKA_TESTS ?= 3
WEIR  := $(CARGO) run --release --package weir --
# `docker compose` where it is there, else `docker-compose`.
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.DEFAULT_GOAL := help
.PHONY: help deps check rules demo-rules run test test-core test-kafka mutants chaos soak lint docs msrv package audit fuzz bench bench-kafka bench-peers release up down

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

rules: deps ## Build the rules into rules/dist
	$(WEIR) build $(RULES:%=rules/%) --out rules/dist

demo-rules: rules ## Renew the rules inside `weir demo`, after the rules or the SDK have changed; they are committed
	cp $(RULES:%=rules/dist/%.wasm) host/src/demo/rules/

run: rules ## Watch logins flow through the rules: no Kafka, no Docker
	$(WEIR) demo

check: deps ## See whether everything compiles, tests and benchmarks too: seconds after an edit
	CARGO_INCREMENTAL=1 $(CARGO) check --release --workspace --all-targets
	CARGO_INCREMENTAL=1 $(CARGO) check --release --package weir --test faults

test-core: ## Test the core, the SDK and the rules in debug, with overflow checks: needs neither wasmtime nor librdkafka
	$(CARGO) test --package weir-core --package weir-rule $(RULES:%=--package %) -- $(ONLY)

test: rules test-core ## Run every test: needs neither Kafka nor Docker (ONLY=swaps:: those with this in their names)
	$(CARGO) test --release --workspace -- $(ONLY)

test-kafka: rules ## Run the tests of faults on a real Apache Kafka (KAFKA_ONLY=crashes:: some, FULL=1 all at length): needs Java 17, Maven
	@scripts/kafka
	$(CARGO) test --release --package weir --test faults -- --test-threads $(KAFKA_TESTS) $(KAFKA_ONLY)

mutants: rules ## Break Weir on purpose, and see the tests of faults on a real Kafka catch it (MUTANT=state-lost one of them)
	@scripts/kafka
	@scripts/mutants $(MUTANT)

chaos: rules ## Break everything at random on a real Kafka: ROUNDS=100 SEED=7
	@scripts/kafka
	ROUNDS=$(or $(ROUNDS),100) SEED=$(SEED) $(CARGO) test --release --package weir --test faults -- --nocapture chaos::

soak: rules ## Swap rules and break everything around one process for long, and see that its memory levels off (MINUTES=60)
	@scripts/kafka
	MINUTES=$(or $(MINUTES),60) SEED=$(SEED) $(CARGO) test --release --package weir --test faults -- --nocapture soak::

lint: docs ## Check the formatting, let clippy complain, and build the documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --release --package weir --test faults -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --release --package weir-rule --no-deps

docs: deps ## Build the documentation of all crates, for those who work on them
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --release --workspace --no-deps --document-private-items

msrv: deps ## Check the SDK and the host with the oldest compilers that their manifests name
	@scripts/msrv

package: ## See that the SDK can be packaged, and builds from its package
	$(CARGO) package --package weir-rule --allow-dirty

audit: ## Hold the dependencies against deny.toml: advisories, licences, sources
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo 'installing cargo-deny' >&2; $(CARGO) install --locked cargo-deny; }
	$(CARGO) deny check

fuzz: ## Fuzz each target for a while: SECONDS=60 TARGET=json; needs a nightly compiler
	@scripts/fuzz $(or $(SECONDS),60) $(TARGET)

release: rules ## Build the release archive with its checksum into target/dist
	@scripts/release

bench: rules ## Measure the engine against native code
	$(CARGO) bench --package weir --bench engine

bench-kafka: rules ## Measure Weir on Apache Kafka against a bare relay and Python; fetches Kafka by Maven, a client by pip
	@scripts/kafka
	@scripts/python
	$(CARGO) bench --package weir --bench kafka

bench-peers: rules ## Race Weir against Kafka Streams, Flink, Benthos, Quix (PEERS=streams-eo,… some; LOGINS, ROUNDS): Java, Maven, Go, Python
	@scripts/kafka
	@scripts/peers
	$(CARGO) bench --package weir --bench peers

up: rules ## Start the whole path on a real Kafka in Docker; http://localhost:8080 shows the topics
	$(COMPOSE) up --build --detach
	@echo 'started; "$(COMPOSE) logs --follow weir" shows what it does, "make down" stops it'

down: ## Stop what `make up` started; Kafka's data stays in its volume
	$(COMPOSE) down

deps: ## Look for a compiler and libraries, and install with apt-get what is missing
	@scripts/deps
