# What a newcomer types. Needs Python 3.11 or newer with venv, and make: everything else is locked, with hashes.
#
#   make demo        a real Postgres is brought to head, twice
#   make test        every test that this machine can run
#   make test-fast   what needs no server, and a run for each exit code: a minute or two
#   make test-faults each fault in each phase of a run: ten minutes. WRITE=1 writes docs/faults.md instead of comparing
#   make stress      any fault in any phase, for SECONDS=600; SEED=... does it again
#   make coverage    make test, and which lines of runner/ it has run, subprocesses included: half an hour
#   make test-image  the image, compose, deploy.sh and Kubernetes' manifests, with a container engine
#   make test-arm64  the image for arm64, emulated where need be: slow
#   make lint        style, types, import floors, shell scripts, generated documents
#   make bench       ratios against alembic, psql and pg_dump, side by side
#   make docs        write the generated tables anew
#   make dist        a wheel and a source distribution
#   make lock        write the lock files anew (UPGRADE=--upgrade for newer versions)
#   make oldest      the tests on the oldest versions that pyproject.toml allows
#   make clean       remove what make has made
#
# PYTHON=python3.13 chooses the interpreter, TESTS=tests/unit some tests, PYTEST_ARGS='-k url' adds to pytest's arguments.

PYTHON ?= python3
TESTS ?= tests
WORKERS ?= 3
PYTEST_ARGS ?=
UPGRADE ?=
SECONDS ?= 600
SEED ?=
WRITE ?=

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
LINT_VENV := .venv-lint
OLDEST_VENV := .venv-oldest
RUN := $(VENV)/bin/python
LINT := $(LINT_VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input
LOCK := $(LINT)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE)
SHELL_SCRIPTS = $(wildcard .ci/run docker-entrypoint.sh deploy/*/*.sh tests/*/*.sh tests/image/*/*.sh tests/image/*/*/*.sh tools/*/*.sh)
DOCKERFILES = $(wildcard Dockerfile compose/*/Dockerfile tests/image/stand-ins/*/Dockerfile)

.PHONY: help demo test test-fast test-faults stress coverage test-image test-arm64 oldest lint format bench docs dist lock clean

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.ready
	$(RUN) demo/demo.py

# Three workers on two cores: part of a test's time is spent waiting for a server.
test: $(VENV)/.ready
	$(RUN) -m pytest -n $(WORKERS) $(TESTS) $(PYTEST_ARGS)

test-fast: $(VENV)/.ready
	$(RUN) -m pytest -n $(WORKERS) tests/unit tests/acceptance/test_stories.py $(PYTEST_ARGS)

# Six workers on two cores: a fault's time is mostly spent waiting for somebody to notice.
test-faults: $(VENV)/.ready
	$(RUN) -m pytest -n 6 tests/faults/test_matrix.py --all-faults $(if $(WRITE),--write-faults) $(PYTEST_ARGS)

stress: $(VENV)/.ready
	$(RUN) tests/stress.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# What is started as users start it, rather than forked, is not measured: see tests/support/forked.py.
coverage: $(VENV)/.ready
	rm -f .coverage .coverage.*
	COVERAGE_FILE=$(CURDIR)/.coverage $(RUN) -m coverage run -m pytest -n $(WORKERS) $(TESTS) $(PYTEST_ARGS); status=$$?; \
	$(RUN) -m coverage combine --quiet; $(RUN) -m coverage report; exit $$status

# What needs a container engine: tests/image/install-engine.sh installs one on Debian, and one is started where none runs.
test-image: $(VENV)/.ready
	tests/image/with-engine.sh $(RUN) -m pytest -n $(WORKERS) --dist loadfile \
		tests/image tests/compose tests/deploy tests/kubernetes $(PYTEST_ARGS)

test-arm64: $(VENV)/.ready
	HEADSTART_TEST_ARM64=1 tests/image/with-engine.sh $(RUN) -m pytest tests/image/arm64 $(PYTEST_ARGS)

oldest: $(OLDEST_VENV)/.ready
	$(OLDEST_VENV)/bin/python -m pytest -n $(WORKERS) $(TESTS) $(PYTEST_ARGS)

lint: $(LINT_VENV)/.ready $(VENV)/.ready
	$(LINT)/ruff check .
	$(LINT)/ruff format --check .
	$(LINT)/mypy --python-executable $(RUN)
	PYTHONPATH=runner $(LINT)/lint-imports
	$(RUN) tools/generate_docs.py --check
	$(if $(SHELL_SCRIPTS),$(LINT)/shellcheck $(SHELL_SCRIPTS))
	$(if $(DOCKERFILES),if [ -x $(LINT)/hadolint ]; then $(LINT)/hadolint $(DOCKERFILES); fi)

format: $(LINT_VENV)/.ready
	$(LINT)/ruff check --fix .
	$(LINT)/ruff format .

bench: $(VENV)/.ready
	$(RUN) tests/bench.py

docs: $(VENV)/.ready
	$(RUN) tools/generate_docs.py

dist: $(VENV)/.ready
	rm -rf dist
	$(RUN) -m hatchling build

# The tests' environment holds what the runtime lock holds, version for version, and what tests need beside it.
lock: $(LINT_VENV)/.ready
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --extra embedded --group dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) --group build -o requirements-build.lock
	$(LOCK) pyproject.toml compose/app/requirements.in -c requirements.lock -o compose/app/requirements.lock
	$(LOCK) --group lint -o requirements-lint.lock

clean:
	rm -rf $(VENV) $(LINT_VENV) $(OLDEST_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# An environment is whole when its .ready is there; a second call only looks at the dates. Headstart itself is installed
# as a link to runner/, without fetching anything: its build tools are in the lock.
$(VENV)/.locked: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(RUN) $(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	$(RUN) $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(LINT_VENV)/.ready: requirements-lint.lock
	rm -rf $(LINT_VENV)
	$(PYTHON) -m venv $(LINT_VENV)
	$(LINT)/python $(PIP_INSTALL) --require-hashes -r requirements-lint.lock
	@touch $@

$(OLDEST_VENV)/.ready: pyproject.toml $(LINT_VENV)/.ready
	rm -rf $(OLDEST_VENV)
	$(PYTHON) -m venv $(OLDEST_VENV)
	$(LINT)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --resolution lowest-direct \
		--python $(OLDEST_VENV)/bin/python pyproject.toml --extra embedded --group dev -o $(OLDEST_VENV)/requirements.txt
	$(OLDEST_VENV)/bin/python $(PIP_INSTALL) --require-hashes -r $(OLDEST_VENV)/requirements.txt
	$(OLDEST_VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
