# Arguments for the program of a target: make test ARGS="--filter Storage"
ARGS =
# The commits whose subjects `make lint` checks
COMMITS =
sources = Package.swift Sources Tests Tools

.PHONY: help run test test-litellm test-pages fuzz-api faults bench build stage deb reference lint format clean

help: ## these targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 19

run: ## from a clone to filled pages: private PostgreSQL, services, sample traffic; Ctrl-C stops all
	@scripts/run

test: ## every test, on a private PostgreSQL (ARGS="--filter Name" for some)
	@scripts/test $(ARGS)

test-litellm: ## the module in LiteLLM with the real proxy (ARGS="-k burst" for some)
	@scripts/test-litellm $(ARGS)

test-pages: ## the pages in a real Chromium (ARGS="-k overview" for some)
	@scripts/test-pages $(ARGS)

fuzz-api: ## the JSON API with requests made from its description (TEST_SEED=… repeats a run)
	@scripts/fuzz-api $(ARGS)

faults: ## stop and kill the programs and PostgreSQL under load, and look for lost events
	@scripts/faults $(ARGS)

bench: ## events a second compared with pgbench, and reports, on up to 10 M rows (ARGS="--quick")
	@scripts/bench $(ARGS)

build: ## the four programs, for release
	@scripts/setup
	@scripts/build

stage: ## the files that a server needs, in .local/stage
	@scripts/setup
	@scripts/stage .local/stage

deb: ## a Debian package of this checkout, for release, into .local/deb
	@scripts/setup dpkg-dev help2man
	@scripts/deb .local/deb

reference: ## write docs/configuration.md and docs/cli.md from the programs
	@swift build
	@scripts/reference write "$$(swift build --show-bin-path)"

lint: ## format, columns, words, citations, suites (COMMITS=main..HEAD for commit subjects too)
	@swift format lint --strict --parallel --recursive $(sources)
	@scripts/lint --commits "$(COMMITS)"

format: ## let swift format correct the format
	@swift format --in-place --parallel --recursive $(sources)

clean: ## remove what was built, and .local with its private databases
	@for name in postgres postgres-test postgres-bench postgres-litellm postgres-pages; do \
		scripts/postgres remove .local/$$name; done
	@rm -rf .build .local
