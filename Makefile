# ARGS go to the program behind a target: make test ARGS="--filter Storage"
ARGS =
sources = Package.swift Sources Tests Tools

.PHONY: help run test test-litellm fuzz-api faults bench build stage lint format clean

help: ## these targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 19

run: ## from a clone to a stored event: private PostgreSQL, webhook-api, examples; Ctrl-C stops all
	@scripts/run

test: ## every test, on a private PostgreSQL (ARGS="--filter Name" for some)
	@scripts/test $(ARGS)

test-litellm: ## the module of LiteLLM with the real proxy (ARGS="-k burst" for some)
	@scripts/test-litellm $(ARGS)

fuzz-api: ## the JSON API against requests made from its own description (TEST_SEED=… repeats a run)
	@scripts/fuzz-api $(ARGS)

faults: ## stop and kill the programs and PostgreSQL under load, and look for lost events
	@scripts/faults $(ARGS)

bench: ## events a second beside naive pgbench, on 10 M rows, reports on 1 M and 100 k too (ARGS="--quick")
	@scripts/bench $(ARGS)

build: ## the four programs, for release
	@scripts/setup
	@scripts/build

stage: ## what a server needs, for release, into .local/stage
	@scripts/setup
	@scripts/stage .local/stage

lint: ## what swift format finds wrong
	@swift format lint --strict --parallel --recursive $(sources)

format: ## let swift format put it right
	@swift format --in-place --parallel --recursive $(sources)

clean: ## remove what was built, and .local with its private databases
	@for cluster in postgres postgres-test postgres-bench postgres-litellm; do scripts/postgres remove .local/$$cluster; done
	@rm -rf .build .local
