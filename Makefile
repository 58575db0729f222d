# Every target sets itself up: a virtual environment with pinned, hash-checked dependencies, nothing else on the machine.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?=
MINUTES ?= 15
SEED ?=

.PHONY: dev demo test chaos lint bench package lock clean help

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# Each set-up adds to what is there: make dev after make demo brings the tools alone.
.venv/%-ready: requirements/%.txt requirements/install.py pyproject.toml
	@$(PYTHON) requirements/install.py $*
	@touch $@
.PRECIOUS: .venv/%-ready

dev: .venv/dev-ready ## .venv with every extra

demo: .venv/demo-ready ## the whole loop on this machine: make demo [DEMO="--until-alert"]
	@$(BIN)/fieldwatch-demo $(DEMO)

test: .venv/dev-ready ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

chaos: .venv/dev-ready ## everything is killed for a quarter of an hour, nothing may differ: make chaos [MINUTES=15] [SEED=n]
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

lint: .venv/dev-ready ## ruff, mypy, the room rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev-ready ## the figures that the README quotes
	$(BIN)/python -m bench

package: .venv/dev-ready ## the agent, frozen, in dist/
	$(BIN)/python packaging/build.py

# Needs no environment of ours: pyproject.toml may just have changed so that none can be built.
LOCK := build/lock
lock: ## renew the pinned dependencies
	$(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(LOCK)/bin/python requirements/lock.py

clean: ## remove what was made
	rm -rf .venv build dist demo-state *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
