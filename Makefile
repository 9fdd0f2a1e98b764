# Every target sets up what it needs; a clean clone, Python 3.11 or newer and make are enough.
# PYTHON chooses the interpreter of the environment: make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SAM_VENV := .venv-sam
CLOUD_VENV := .venv-cloud
# A region is asked for even where none is needed.
SAM := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=$(or $(AWS_DEFAULT_REGION),$(AWS_REGION),us-east-1) $(SAM_VENV)/bin/sam
# The tests of the cloud run functions in processes of this machine, so they need the Python of the template.
CLOUD_PYTHON ?= $(or $(lastword $(sort $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.13*/bin/python3.13))),python3.13)

.PHONY: help dev test test-cloud cloud-ready check format docs bench lock validate build deploy local clean

help: ## What there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

dev: $(VENV)/.run ## Run Mechaway on http://127.0.0.1:3004 (ARGS="--watch examples" passes options)
	@exec $(BIN)/mechaway dev $(ARGS)

test: $(VENV)/.dev ## Run all tests (ARGS="-k lua" passes options)
	$(BIN)/python -m pytest $(ARGS)

test-cloud: $(VENV)/.dev $(SAM_VENV)/.done $(CLOUD_VENV)/.done ## Deploy to an emulator of AWS on this machine and test that (needs Python 3.13)
	$(BIN)/python -m pytest tests/cloud $(ARGS)

cloud-ready: ## Whether there is the Python that test-cloud needs
	@$(CLOUD_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || { echo "the tests of the cloud need Python 3.13; name it with: make test-cloud CLOUD_PYTHON=/path/to/python3.13" >&2; exit 1; }

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

validate: $(SAM_VENV)/.done ## Look at template.yaml as AWS would
	$(SAM) validate --lint

build: $(SAM_VENV)/.done ## Build the functions and their layer for AWS
	$(SAM) build $(ARGS)

deploy: build ## Deploy to your AWS account, asking what it needs to know (ARGS="--config-env prod" takes it from samconfig.toml)
	$(SAM) deploy $(or $(ARGS),--guided)

local: $(VENV)/.dev $(SAM_VENV)/.done $(CLOUD_VENV)/.done ## Serve the functions in containers on http://127.0.0.1:3000, with an emulated AWS around them (ARGS="3001"; needs docker)
	@exec $(BIN)/python -m tests.cloud.local $(ARGS)

clean: ## Remove the environment and caches, not the data
	rm -rf $(VENV) $(SAM_VENV) $(CLOUD_VENV) .aws-sam .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

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

# SAM and the emulator pin a great deal, so each has an environment of its own.
$(SAM_VENV)/.done: tools/sam.txt
	$(PYTHON) -m venv $(SAM_VENV)
	$(SAM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tools/sam.txt
	@touch $@

# The emulator's own, that of functions, and that of the command line of AWS.
CLOUD_PYTHONS := $(foreach place,. runtime aws,$(CLOUD_VENV)/$(place)/bin/python)

$(CLOUD_PYTHONS): | cloud-ready
	$(CLOUD_PYTHON) -m venv $(@:/bin/python=)

$(CLOUD_VENV)/.done: $(CLOUD_PYTHONS) $(wildcard tests/cloud/ministack/*.txt)
	$(CLOUD_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/cloud/ministack/requirements.txt
	$(CLOUD_VENV)/runtime/bin/python -m pip install --quiet --disable-pip-version-check -r tests/cloud/ministack/runtime.txt
	$(CLOUD_VENV)/aws/bin/python -m pip install --quiet --disable-pip-version-check -r tests/cloud/ministack/cli.txt
	@touch $@
