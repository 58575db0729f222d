# Every target sets up what it needs: a virtual environment with pinned, hash-checked dependencies, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?=
MINUTES ?= 15
SEED ?=
SUITE ?=
SIGN ?=

.PHONY: dev demo test attacks soak chaos conformance lint bench bench-detection load test-lowest package package-linux test-packages msi test-windows lock clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# Each set-up adds to what is installed: make dev after make demo installs only the tools.
.venv/%-ready: requirements/%.txt requirements/install.py pyproject.toml
	@$(PYTHON) requirements/install.py $*
	@touch $@
.PRECIOUS: .venv/%-ready

dev: .venv/dev-ready ## set up .venv with every extra

demo: .venv/demo-ready ## the whole loop on this machine: make demo [DEMO="--until-alert"]
	@$(BIN)/fieldwatch-demo $(DEMO)

# What tests import is compiled once and kept: else each of hundreds of processes compiles its libraries anew.
test soak: export PYTHONDONTWRITEBYTECODE =

test: .venv/dev-ready ## all tests but the dearest, which are soak
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

soak: .venv/dev-ready ## the dear tests: killed and cut anywhere, over and over, long walks
	$(BIN)/python -m pytest -n 3 -m soak

chaos: .venv/dev-ready ## chaos test: kill everything for 15 minutes, nothing may be lost: make chaos [MINUTES=15] [SEED=n]
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

attacks: .venv/dev-ready ## what hostile devices try at the broker, identity × action, and what came of each
	FIELDWATCH_REQUIRE_ALL=1 $(BIN)/python -m pytest -q -s tests/faults/test_broker_attacks.py -k matrix

conformance: .venv/dev-ready ## the public TUF client conformance suite against the agent's updater: make conformance SUITE=<checkout of it>
	@test -f "$(SUITE)/tuf_conformance/conftest.py" || { echo "SUITE='$(SUITE)' is no checkout of github.com/theupdateframework/tuf-conformance"; exit 2; }
	@command -v faketime >/dev/null || { echo "the suite needs the program faketime (Debian: apt install faketime)"; exit 2; }
	$(BIN)/python -m pytest -q -p no:cacheprovider --rootdir "$(SUITE)" -c "$(SUITE)/pyproject.toml" "$(SUITE)/tuf_conformance" --entrypoint "$(CURDIR)/$(BIN)/python $(CURDIR)/tests/tuf_client.py"

lint: .venv/dev-ready ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev-ready ## the figures that the README quotes
	$(BIN)/python -m bench

bench-detection: .venv/dev-ready ## how good the alerts are, on the public sets below FIELDWATCH_DATA; exit code 3 where a promise misses
	$(BIN)/python -m bench.detection

load: .venv/dev-ready ## 1,000 devices, people looking on: how soon an alert is on the page and in the mailbox, and that nothing is lost; exit code 3 where a promise misses
	$(BIN)/python -m bench.load

# An environment of its own: the versions are not those of the others.
LOWEST := build/lowest
test-lowest: ## unit tests with the lowest versions of libraries that pyproject.toml claims
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	PATH="$(CURDIR)/$(LOWEST)/bin:$$PATH" $(LOWEST)/bin/python -m pytest -n 3 --dist loadfile tests/unit \
		--deselect tests/unit/house/test_sbom.py::test_what_is_installed_is_what_is_pinned

package: package-linux msi ## build the agent's packages in dist/, for Linux and for Windows, with SBOM and licences

package-linux: .venv/dev-ready ## freeze the agent, list what is in it, build its Debian and its RPM package in dist/
	$(BIN)/python packaging/build.py
	$(BIN)/python packaging/sbom.py
	$(BIN)/python packaging/deb.py
	$(BIN)/python packaging/rpm.py

test-packages: .venv/dev-ready ## as root, after make package: install, kill, hang, upgrade, purge the packages in a bare Debian
	$(BIN)/python -m pytest -q -s tests/packages/test_*.py

msi: .venv/dev-ready ## under Wine: freeze the agent for Windows, list what is in it, build its MSI package in dist/
	$(BIN)/python packaging/windows.py
	$(BIN)/python packaging/msi.py $(SIGN)

test-windows: .venv/dev-ready ## after make package, under Wine: install silently, enrol, score, rotate, upgrade, remove
	$(BIN)/python -m pytest -q -s tests/packages/windows

# Uses its own environment: after a change of pyproject.toml ours may not be buildable.
LOCK := build/lock
lock: ## renew the pinned dependencies
	$(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(LOCK)/bin/python requirements/lock.py

clean: ## remove everything that was built
	rm -rf .venv build dist demo-state *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
