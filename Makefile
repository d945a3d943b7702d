# Every target sets up what it needs, once: a virtual environment in .venv, with the versions in constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SECONDS ?= 300

.PHONY: help setup demo test e2e fuzz bench coverage-table hazard-table lint-page lint format typecheck clean

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## Make the virtual environment (the other targets do it by themselves)
	@echo "Ready: . $(BIN)/activate"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "dt-testkit needs Python 3.10 or later; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[workflows,telemetry,dev]'
	@touch $@

demo: $(READY) ## The main job: record histories with the real worker, replay them, catch a breaking change
	$(BIN)/python -m examples.demo

test: $(READY) ## Unit, conformance, workflow and embedded end-to-end tests
	$(BIN)/python -m pytest -n auto

e2e: $(READY) ## The workflows through the real worker and client; BACKEND=auto|embedded|timeskip|emulator|scheduler
	@$(BIN)/python tests/e2e/where.py '$(or $(BACKEND),auto)'

fuzz: $(READY) ## Differential tests against the SDK for as long as one likes: make fuzz SECONDS=3600
	DT_FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest tests/conformance -k fuzz -x -s

bench: $(READY) ## Measure, side by side on this machine
	$(BIN)/python -m benchmarks

coverage-table: $(READY) ## Write the tables of docs/coverage.md: each member of the SDK and the test that proves it (minutes)
	$(BIN)/python tests/conformance/coverage_table.py

hazard-table: $(READY) ## Write the table of docs/hazards.md: each hazard, and what is found of it in the corpus
	$(BIN)/python tests/determinism/hazard_table.py

lint-page: $(READY) ## Write the rules of docs/lint.md, from the table of hazards
	$(BIN)/python -m dt_testkit.lint.page

lint: $(READY) ## Style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Rewrite the files in the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY) ## mypy, strict
	$(BIN)/mypy

clean: ## Remove everything the targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
