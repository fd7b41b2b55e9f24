# One door: `make demo` runs the main job, `make check` and `make test` are what CI runs. Needs Python 3.11+ and a package index.
PYTHON ?= python3
TESTERS ?= 3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN := .venv/.run
DEV := .venv/.dev

.DEFAULT_GOAL := help
.PHONY: help install demo check audit test browser-test chaos bench bench-parts screenshots conformance clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(DEV) ## Make .venv with everything the other targets need

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt -e '.[embedded,demo]'
	@touch $(RUN)

$(DEV): $(RUN)
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $(DEV)

demo: $(RUN) ## Run the example workflow on real parts, from nothing
	$(BIN)/python examples/demo.py

check: $(DEV) ## Lint, format, types, the import direction between floors, and whether the packages fit together
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip check

audit: $(DEV) ## Ask the package index for known vulnerabilities of what is pinned (needs its data)
	@$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip --strict --progress-spinner off || \
	  { echo "audit: vulnerable packages are listed above; if a package was \"not found on PyPI\" or the index did not answer," \
	         "its vulnerability data cannot be reached from here and NOTHING was audited" >&2; exit 1; }

test: $(DEV) ## Run all tests in TESTERS processes (3), each on an embedded PostgreSQL and Valkey of its own
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile

browser-test: $(DEV) ## Run the tests that need a browser (Debian's package chromium); `make test` runs them too where it is
	$(BIN)/python -m pytest tests/browser

chaos: $(DEV) ## Kill everything for three minutes and compare (CHAOS_EXECUTIONS, CHAOS_MINUTES, CHAOS_SEED)
	$(BIN)/python -m tests.chaos

bench: $(DEV) ## Measure our speed beside other engines and renew docs/performance.md (BENCH="--only W2 --quick")
	$(BIN)/python -m benchmarks.speed $(BENCH)

bench-parts: $(DEV) ## Measure a hop, memory and disk, the MCP client beside the official SDK, and live updates
	$(BIN)/python benchmarks/hop.py
	$(BIN)/python benchmarks/mcp_client.py
	$(BIN)/python benchmarks/live.py
	$(BIN)/python -m benchmarks.sizing

screenshots: $(DEV) ## Take the pictures of docs/dashboard.md anew (needs Debian's package chromium)
	$(BIN)/python docs/take_screenshots.py

conformance: $(DEV) ## Run the official MCP conformance suite against our client (needs npm)
	tests/conformance/run.sh

clean: ## Remove .venv, caches and the local state
	rm -rf .venv .afu9 .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
