# `make demo` and `make test` set everything up by themselves; see README.md.
PYTHON ?= python3
BIN := .venv/bin
# How often a failed test is tried again before it counts. Here never: a test that fails now and then is a defect.
RERUNS ?= 0
# The tests that need nothing to themselves run in so many processes, of about 1 GB each.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest --reruns $(RERUNS) --rerun-show-tracebacks -rfER

.PHONY: help demo test test-agents test-vllm test-systemd test-faults vllm check lint types bench nano card koans results study study-quick docs clean machine

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

machine:
	@PYTHON=$(PYTHON) scripts/check-machine

.venv/.ready: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/check-machine
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: machine .venv/.ready ## a day and three nights: promoted, poisoned, killed; in .demo/
	@$(BIN)/sleepy-coder --home .demo demo

test: machine .venv/.ready ## all tests but those with real agents, a real vLLM, a real systemd and random faults
	$(PYTEST) --ignore=tests/agents --numprocesses=$(WORKERS) --dist=worksteal

test-agents: machine .venv/.ready ## real coding agents from their registries at work through the gateway
	@scripts/check-machine --agents
	-scripts/agents
	$(PYTEST) tests/agents -v --durations=0

vllm:
	@PYTHON=$(PYTHON) scripts/vllm-env

test-vllm: machine .venv/.ready vllm ## the tests against a real vLLM on the CPU (2 GB, about 10 minutes)
	$(PYTEST) tests/vllm

test-systemd: machine .venv/.ready ## the service under a real systemd (root and systemd-container, about 10 minutes)
	$(PYTEST) tests/systemd

test-faults: machine .venv/.ready ## over 200 random faults at nights; SLEEPY_FAULT_SEED repeats one run (about 4 minutes)
	$(PYTEST) tests/faults

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready
	$(BIN)/pyright

check: lint types test ## lint, types and tests

bench: machine .venv/.ready vllm ## the benchmarks, one JSON line each
	@for b in benchmarks/[a-z]*.py; do $(BIN)/python $$b || exit; done

koans: machine .venv/.ready ## rebuild the task sets and prove them with rustc
	$(BIN)/python -m sleepy_coder.tasks.build

nano: machine .venv/.ready ## rebuild the nano model (about 40 minutes on 2 cores)
	$(BIN)/python -m sleepy_coder.nano.build

card: machine .venv/.ready ## measure the nano model and write docs/model-card.md
	$(BIN)/python -m sleepy_coder.nano_card

study: machine .venv/.ready ## the recipes compared, for docs/results.md; resumable (hours on 2 cores)
	$(BIN)/sleepy-coder study --out docs

study-quick: machine .venv/.ready ## the same very small, to see that all is in order (minutes); writes to reports/study/
	$(BIN)/sleepy-coder study --quick

results: .venv/.ready ## docs/results.md, docs/results.png, docs/dashboard.html from what the study has finished
	$(BIN)/sleepy-coder study --report --out docs

docs: .venv/.ready ## docs/reference/ from the commands and the settings
	$(BIN)/python -m sleepy_coder.reference

clean: ## the virtual environments and caches; never data
	rm -rf .venv .venv-vllm .agents .pytest_cache .ruff_cache .hypothesis
