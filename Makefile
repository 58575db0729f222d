# Every target sets itself up: a virtual environment with pinned, hash-checked dependencies, nothing else on the machine.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?=
MINUTES ?= 15
SEED ?=

.PHONY: dev demo test chaos lint bench package lock clean help

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

.venv/ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

dev: .venv/ready ## .venv with every extra

demo: .venv/ready ## the whole loop on this machine: make demo [DEMO="--until-alert"]
	$(BIN)/fieldwatch-demo $(DEMO)

test: .venv/ready ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

chaos: .venv/ready ## everything is killed for a quarter of an hour, nothing may differ: make chaos [MINUTES=15] [SEED=n]
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

lint: .venv/ready ## ruff, mypy, the room rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready ## the figures that the README quotes
	$(BIN)/python -m bench

package: .venv/ready ## the agent, frozen, in dist/
	$(BIN)/python packaging/build.py

lock: .venv/ready ## renew the pinned dependencies
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --extra dev -o requirements/dev.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate -o requirements/agent.txt pyproject.toml

clean: ## remove what was made
	rm -rf .venv build dist demo-state *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
