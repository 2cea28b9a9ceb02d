.DEFAULT_GOAL := help
.PHONY: help demo lint check test chaos soak bench-quick clean

PYTHON ?= python3
VENV := .venv
ATONCE ?= 3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/served ## Broker, shoppers, worker and a live view here, until Ctrl-C or for DEMO_SECONDS.
	$(BIN)/forecart demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

lint: $(VENV)/developed ## Format, lint, types, import contracts.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint ## lint, and the unit tests: under a minute.
	$(BIN)/pytest -m "not kafka and not deploy and not slow"

test: lint $(VENV)/browser ## lint, and all tests, on a real broker and of the deployment too: about 25 minutes on 2 cores.
	$(BIN)/pytest -n $(ATONCE) --dist worksteal --durations=15

chaos: $(VENV)/developed ## The faults that take longer, and docs/guarantees.md anew: about an hour on 2 cores.
	$(BIN)/pytest -m "guarantee or chaos" -n $(ATONCE) --dist worksteal --durations=0 --guarantees=docs/guarantees.md

soak: $(VENV)/developed ## An hour of a fixed rate, or SOAK_SECONDS: the worker's memory must stay flat.
	$(BIN)/python benchmarks/growth.py --soak $(or $(SOAK_SECONDS),3600)

bench-quick: $(VENV)/developed ## Ratios of speed beside benchmarks/baseline.json: under 3 minutes.
	$(BIN)/python benchmarks/quick.py $(if $(STRICT),--strict)

clean: ## Remove the environment and what tools left.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/python: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet "$$(grep '^pip==' constraints.txt)"
	touch $@

$(VENV)/served: $(VENV)/python pyproject.toml
	$(PIP) --editable '.[broker]'
	touch $@

$(VENV)/developed: $(VENV)/served
	$(PIP) --editable '.[broker,train]' --group dev --group deploy
	touch $@

$(VENV)/browser: | $(VENV)/python
	command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	{ echo "The tests of the report open it in Chromium: apt-get install chromium"; exit 1; }
	touch $@
