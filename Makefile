# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python on PATH that answers and is new enough; `make PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What `headrace demo`, pytest or a benchmark gets: `make test ARGS='-k join'`.
ARGS ?=

PHONY_CHECKS := check check-lint check-format check-types check-imports
.PHONY: $(PHONY_CHECKS) help env dev-env demo test test-fast test-deps format bench lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Headrace needs Python 3.11 or later on PATH (or make PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

# Only what runs Headrace, checked against the hashes of the lock.
$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

env: $(VENV)/.installed ## create .venv with what runs Headrace
dev-env: $(VENV)/.installed-dev ## add what tests and checks need

demo: env ## run the main job on a simulated shop, live
	$(BIN)/headrace demo $(ARGS)

test: dev-env ## run all tests, on real services as far as they can be started
	$(BIN)/python -m pytest $(ARGS)

test-fast: dev-env ## run the tests that need no service
	$(BIN)/python -m pytest --no-services $(ARGS)

test-deps: dev-env ## tell which services the tests can start; INSTALL=1 installs the missing ones
ifeq ($(INSTALL),1)
	.ci/install-services
endif
	$(BIN)/python -m tests.services

# CI and pre-commit run `make --keep-going check`, so that one run shows all that is wrong.
check: check-lint check-format check-types check-imports ## lint, format, types, imports
check-lint: dev-env
	$(BIN)/ruff check
check-format: dev-env
	$(BIN)/ruff format --check
check-types: dev-env
	$(BIN)/mypy
check-imports: dev-env
	$(BIN)/lint-imports --no-logo

format: dev-env ## format, and mend what can be mended without judgement
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# A file of bench/ that can be run says so in its last lines; the others serve those.
BENCH ?= $(patsubst bench/%.py,%,$(shell grep -l '__name__ == "__main__"' bench/*.py))
bench: dev-env ## run the benchmarks, each beside its peer; BENCH=worker ARGS=... runs one
	@for name in $(BENCH); do \
		echo "== python -m bench.$$name $(ARGS)"; $(BIN)/python -m bench.$$name $(ARGS) || exit 1; done

# Locks name versions and hashes, no host; see docs/adr/0001-lock-files.md.
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --group build \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock'
lock: ## resolve the dependencies anew (needs uv); UPGRADE=1 takes newer versions
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements.lock
	$(LOCK) $(if $(UPGRADE),--upgrade) --group dev --constraints requirements.lock \
		--output-file requirements-dev.lock

clean: ## remove the environment and what tools cache here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
