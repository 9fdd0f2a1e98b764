# Every target sets up what it needs; a clean clone, Python 3.11 or newer and make are enough.
# PYTHON chooses the interpreter of the environment: make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help dev test check format docs bench lock clean

help: ## What there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

dev: $(VENV)/.run ## Run Mechaway on http://127.0.0.1:3004 (ARGS="--watch examples" passes options)
	@exec $(BIN)/mechaway dev $(ARGS)

test: $(VENV)/.dev ## Run all tests (ARGS="-k lua" passes options)
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Formatting, lint, types and known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/audit.py

format: $(VENV)/.dev ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.run ## Renew the pages that are made from the code
	$(BIN)/python -m mechaway_core.nodes.docs > docs/nodes.md
	$(BIN)/python -m mechaway_core.settings > docs/settings.md

bench: $(VENV)/.dev ## Measure, side by side with a floor (ARGS="--seconds 5")
	$(BIN)/python -m bench $(ARGS)

lock: $(VENV)/.dev ## Renew the locks from pyproject.toml
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --upgrade -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --upgrade --extra dev -o requirements-dev.lock pyproject.toml

clean: ## Remove the environment and caches, not the data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Mechaway needs Python 3.11 or newer; choose one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.lock pyproject.toml
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	@touch $@
