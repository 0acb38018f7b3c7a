# All that is needed is git, make and Python 3.11 or newer (Debian: python3-venv): everything else goes into .venv, with
# the versions of constraints.txt and from wherever this machine's pip is set up to look.
#
# torch: on Linux the default index serves a build with CUDA, which brings gigabytes of libraries. For the CPU build,
# set PIP_EXTRA_INDEX_URL to the CPU index that PyTorch's installation page names, then run make: a local version
# such as 2.13.0+cpu satisfies the pin and wins over the plain one.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell $(name) -c '$(NEW_ENOUGH)' 2>/dev/null && echo $(name))))
# One more than the two cores of the smallest machine: tests of Ray and of kills wait much.
WORKERS ?= 3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
STAMP := .venv/.stamp
STAMP_COMPILED := .venv/.stamp-compiled
STAMP_BENCH := .venv/.stamp-bench
STAMP_EMULATOR := .venv-emulator/.stamp
STAMP_FIVETRAN := .venv-fivetran/.stamp
STAMP_MARIADB := .venv-mariadb/.stamp

.PHONY: help demo test lint ready bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP_COMPILED) ## from raw files to answered predictions, in ./demo
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh demo

test: ## lint, then every test
	@$(MAKE) --no-print-directory --jobs=2 ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist load

# pip, mypy and the compiler use one core each: what does not need the other goes on beside it.
ready: lint $(STAMP_EMULATOR) $(STAMP_FIVETRAN) $(STAMP_MARIADB) $(STAMP_COMPILED)

lint: $(STAMP) ## style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports

bench: $(STAMP_BENCH) ## the benchmarks beside their limits and peers
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/databases.py
	$(BIN)/python benchmarks/streams.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/functions.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/datasets.py
	$(BIN)/python benchmarks/feeding.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/on_ray.py
	$(BIN)/python benchmarks/gate_statistics.py --trials 100 --rows 200
	$(BIN)/python benchmarks/gate_latency.py

lock: ## resolve every version anew and write the constraints files
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	$(PYTHON) scripts/lock.py

clean: ## remove what was made here, but for .venv and its like
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache benchmarks/.work build demo dist
	find src tests scripts benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone, so that the long download can be told from the rest.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	@echo "Installing into .venv; the first time takes some minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --no-compile torch
	$(PIP) --no-compile --editable '.[dev]'
	@touch $@

# Python would compile what it imports, and keep it, but for the processes that may not write: those of ml/*.py. What
# is no Python of today's (templates, tests of parsers) does not compile, and need not.
$(STAMP_COMPILED): $(STAMP)
	$(BIN)/python -m compileall -qq -x /templates/ src .venv/lib || true
	@touch $@

$(STAMP_BENCH): $(STAMP_COMPILED)
	$(PIP) --editable '.[bench]'
	@touch $@

# The Snowflake emulator of the tests: an environment of its own, for it needs another DuckDB.
$(STAMP_EMULATOR): constraints-emulator.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	test -x .venv-emulator/bin/python || $(PYTHON) -m venv .venv-emulator
	.venv-emulator/bin/python -m pip install --no-compile --quiet --disable-pip-version-check --requirement constraints-emulator.txt
	@touch $@

# Fivetran's Connector SDK, for the connectors that the tests run: an environment of its own, as its users have it.
$(STAMP_FIVETRAN): constraints-fivetran.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	test -x .venv-fivetran/bin/python || $(PYTHON) -m venv .venv-fivetran
	.venv-fivetran/bin/python -m pip install --no-compile --quiet --disable-pip-version-check --requirement constraints-fivetran.txt
	@touch $@

# A MariaDB server for the tests: an installed one, or Debian's packages unpacked here.
$(STAMP_MARIADB): scripts/mariadb.sh
	bash scripts/mariadb.sh .venv-mariadb
	@touch $@
