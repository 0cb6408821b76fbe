# The whole interface of a checkout: `make up`, `make test`, `make check`; CI runs the last two.
#
#   PYTHON  the interpreter that makes .venv             (make venv PYTHON=python3.12)
#   ARGS    more arguments for what the target starts    (make test ARGS="-k spool", make up ARGS="--http 127.0.0.1:8080")

SHELL := /bin/sh
PYTHON ?= python3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.made
DEMO_ROUTERS ?= 25

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Hundreds of programs are started: without bytecode each would compile all of its own anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv system-packages page-libraries test-packages up test test-long \
	check check-format check-lint check-types format bench lock connect-pyz clean

help:
	@echo 'make venv       .venv with everything, Mosquitto, and the libraries of the pages from npm'
	@echo 'make up         a living demo of $(DEMO_ROUTERS) simulated routers, in the foreground, in ./data'
	@echo 'make test       the whole suite, as CI runs it, with PostgreSQL, Chromium and OpenSSH'
	@echo 'make test-long  fuzzing, kill rounds and scale, and all scenarios with PostgreSQL; summary tables'
	@echo 'make check      formatting, lint and types'
	@echo 'make format     puts the formatting right'
	@echo 'make bench      measurements beside the peers'
	@echo 'make lock       requirements-test.lock from a fresh environment'
	@echo 'make connect-pyz  dist/fleetgate-connect.pyz, `fleetgate connect` for a laptop'

# Cheap enough for every call, so that a removed Mosquitto is noticed too.
system-packages:
	@PYTHON='$(PYTHON)' packaging/system-packages

# PostgreSQL, Chromium and so on; after the others, since apt-get runs once at a time. Where they may not be installed
# that is said and the tests run all the same: those that need PostgreSQL fail, those that need another one are skipped.
test-packages: system-packages
	-@PYTHON='$(PYTHON)' packaging/system-packages tests

venv: system-packages $(STAMP) page-libraries

# After the others, since apt-get runs once at a time. What they bring may be missing, and everything else works.
page-libraries: system-packages $(STAMP)
	@PYTHON='$(PYTHON)' packaging/pages/fetch

# The stamp is written last: an interrupted installation is done again.
$(STAMP): pyproject.toml requirements-test.lock | system-packages
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -c requirements-test.lock -e '.[test]'
	@touch $@

# `exec` leaves one process to interrupt.
up: venv
	@exec $(VENV)/bin/fleetgate up --demo $(DEMO_ROUTERS) --data ./data --ready-file ./data/ready.json $(ARGS)

test: venv test-packages
	@$(RUN) -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m 'not long' $(ARGS)

# Then all scenarios once more with PostgreSQL; both results count.
test-long: venv test-packages
	@status=0; $(RUN) -m pytest -m long $(ARGS) || status=$$?; \
	FLEETGATE_TEST_ENGINE=postgresql $(RUN) -m pytest tests/scenario $(ARGS) || status=$$?; \
	exit $$status

# Three targets, so that `make -k check` tells all that there is to tell.
check: check-format check-lint check-types

check-format: venv
	$(RUN) -m ruff format --check .

check-lint: venv
	$(RUN) -m ruff check .

check-types: venv
	$(RUN) -m mypy

format: venv
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: venv test-packages
	@$(RUN) -m bench $(ARGS)

# Constraints only: names and exact versions of what a fresh environment holds.
lock: system-packages
	rm -rf .lock-venv
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[test]'
	{ sed -n '/^#/p' requirements-test.lock; \
	  .lock-venv/bin/python -m pip freeze --exclude-editable | LC_ALL=C sort -f; } > .lock-venv/lock
	mv .lock-venv/lock requirements-test.lock
	rm -rf .lock-venv

# One file that needs nothing but a Python.
connect-pyz:
	$(PYTHON) packaging/connect/build.py dist/fleetgate-connect.pyz

clean:
	rm -rf $(VENV) .lock-venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		gateway/web/vendor packaging/pages/node_modules
