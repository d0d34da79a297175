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
.PHONY: help deps rules demo-rules run test test-kafka mutants chaos soak lint bench bench-kafka up down

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

rules: deps ## Build the rules into rules/dist
	$(WEIR) build $(RULES:%=rules/%) --out rules/dist

demo-rules: rules ## Renew the rules inside `weir demo`, after the rules or the SDK have changed; they are committed
	cp $(RULES:%=rules/dist/%.wasm) host/src/demo/rules/

run: rules ## Watch logins flow through the rules: no Kafka, no Docker
	$(WEIR) demo

test: rules ## Run every test: needs neither Kafka nor Docker
	$(CARGO) test --release --workspace

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

lint: deps ## Check the formatting, let clippy complain, and build the SDK's documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --release --package weir --test faults -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --release --package weir-rule --no-deps

bench: rules ## Measure the engine against native code
	$(CARGO) bench --package weir --bench engine

bench-kafka: rules ## Measure Weir on Apache Kafka against a bare relay and Python; fetches Kafka by Maven, a client by pip
	@scripts/kafka
	@scripts/python
	$(CARGO) bench --package weir --bench kafka

up: rules ## Start the whole path on a real Kafka in Docker; http://localhost:8080 shows the topics
	$(COMPOSE) up --build --detach
	@echo 'started; "$(COMPOSE) logs --follow weir" shows what it does, "make down" stops it'

down: ## Stop what `make up` started; Kafka's data stays in its volume
	$(COMPOSE) down

deps: ## Look for a compiler and libraries, and install with apt-get what is missing
	@scripts/deps
