# `make demo` and `make test` set everything up by themselves; see README.md.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test check lint types bench nano card koans results docs clean machine

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

machine:
	@PYTHON=$(PYTHON) scripts/check-machine

.venv/.ready: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/check-machine
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[daemon,dev]'
	@touch $@

demo: machine .venv/.ready ## a day and three nights: promoted, poisoned, killed
	@$(BIN)/sleepy-coder demo

test: machine .venv/.ready ## all tests
	$(BIN)/python -m pytest

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready
	$(BIN)/pyright

check: lint types test ## lint, types and tests

bench: machine .venv/.ready ## the benchmarks, one JSON line each
	@for b in benchmarks/[a-z]*.py; do $(BIN)/python $$b || exit; done

koans: machine .venv/.ready ## rebuild the task sets and prove them with rustc
	$(BIN)/python -m sleepy_coder.tasks.build

nano: machine .venv/.ready ## rebuild the nano model (about 40 minutes on 2 cores)
	$(BIN)/python -m sleepy_coder.nano.build

card: machine .venv/.ready ## measure the nano model and write docs/model-card.md
	$(BIN)/python -m sleepy_coder.nano_card

results: .venv/.ready ## docs/results.md, docs/results.png, docs/dashboard.html from this home's store
	$(BIN)/sleepy-coder report --out docs

docs: .venv/.ready ## docs/reference/ from the commands and the settings
	$(BIN)/python -m sleepy_coder.reference

clean: ## the virtual environment and caches; never data
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
