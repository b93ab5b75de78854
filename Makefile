# All that is needed is Python >= 3.11 and make. `make` alone tells what there is.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9
# The newest Python that really runs and can make environments (a version manager's name for one may be there alone). One
# that was built with profile-guided optimisation goes before all others: workers are a fifth faster on it. Debian's
# and Ubuntu's are, and do not say so among their options.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
OPTIMISED := import sys, venv, ensurepip, sysconfig as c; sys.exit(sys.version_info < (3, 11) \
	or not ("--enable-optimizations" in str(c.get_config_var("CONFIG_ARGS")) or "deb_system" in c.get_scheme_names()))
PYTHON ?= $(shell for wanted in '$(OPTIMISED)' '$(USABLE)'; do \
	for name in python3.14 python3.13 python3.12 python3.11 python3; do \
		for folder in $$(echo "$$PATH" | tr : ' '); do \
			"$$folder/$$name" -c "$$wanted" >/dev/null 2>&1 && { echo "$$folder/$$name"; exit; }; \
		done; done; done)

.DEFAULT_GOAL := help
.PHONY: help install check test faults demo format lock clean

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 16

install: $(STAMP) ## Make .venv with all that is needed, as the lock has it
	@:

$(STAMP): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null 2>&1 && "$(PYTHON)" -c '$(USABLE)' >/dev/null 2>&1 || { \
		echo "headrace: needs Python >= 3.11 with its venv module; say which: make install PYTHON=..." >&2; exit 1; }
	@# One whose Python has gone, or whose making broke off, is made anew.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@sed -n '/^pip==/,/[^\\]$$/p' requirements.lock > $(VENV)/pip.lock
	$(PIP_INSTALL) --require-hashes -r $(VENV)/pip.lock
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

check: $(STAMP) ## Lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two at once: many wait for a Kafka or for a session to end. Halves of the list, then whoever is done first
# takes from the other's: a module's fixtures are mostly made once.
test: $(STAMP) ## All tests, a real Kafka's too; rules and operators covered in full
	$(BIN)/python -m pytest --cov -n 2 --dist worksteal

# Hours: the tests of make test have one seed, here each fault meets as many as wanted. Trials mostly
# wait, for sessions to end above all: on two cores three at once fare well.
faults: $(STAMP) ## The tests of faults with SEEDS=20 seeds each, JOBS=3 at once; writes build/faults.md
	@mkdir -p build && rm -f build/faults.jsonl
	HEADRACE_TEST_SEEDS=$(or $(SEEDS),20) HEADRACE_FAULTS_REPORT=$(CURDIR)/build/faults.jsonl \
		$(BIN)/python -m pytest -n $(or $(JOBS),3) --maxschedchunk 1 tests/faults; status=$$?; \
		$(BIN)/python -m tests.faults.report build/faults.jsonl | tee build/faults.md; exit $$status

demo: $(STAMP) ## The whole application at work; SECONDS=30 ends by itself and checks the outcome; GROUP=windows, sales or deduplication: other flows
	@exec $(BIN)/headrace demo $(if $(GROUP),--group $(GROUP)) $(if $(SECONDS),--seconds $(SECONDS))

format: $(STAMP) ## Format, and mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE = build/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header --quiet

# What `headrace bench` compares with, each in an environment of its own.
PEERS = faust quix

# requirements-runtime.lock is the part of it that container images install: neither tools nor Java.
# Without annotations and index options: a lock names packages, versions and hashes, no host.
lock: ## Write all locks anew, from pyproject.toml and bench/peers; UPGRADE=1 takes newer indirect versions
	"$(PYTHON)" -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet uv==$(UV_VERSION)
	$(COMPILE) --extra dev --extra embedded --extra bench --output-file requirements.lock $(if $(UPGRADE),--upgrade)
	$(COMPILE) --constraint requirements.lock --output-file requirements-runtime.lock --upgrade
	for peer in $(PEERS); do $(subst pyproject.toml,bench/peers/$$peer.in,$(COMPILE)) \
		--output-file bench/peers/$$peer.lock $(if $(UPGRADE),--upgrade) || exit 1; done
	@rm -rf build/lock

clean: ## Remove what can be made again (the data folder stays)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
