# Each target is one check; .ci/run calls them in this order. PYTHON=... takes another interpreter.
PYTHON ?= python
.PHONY: check lint types tables smoke test cover slow demo build

check: lint types tables smoke  ## everything that takes a minute

lint:  ## style and format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:  ## mypy, strict
	$(PYTHON) -m mypy

tables:  ## the README's tables are those of the registries
	$(PYTHON) tools/make_tables.py --check

smoke:  ## some tests of every package, with the share of the code that they run
	$(PYTHON) -m pytest -m smoke --cov --cov-report=term:skip-covered

test:  ## all but the slow tests
	$(PYTHON) -m pytest

cover:  ## the same tests, with the share of the code that they run; takes a fifth longer
	$(PYTHON) -m pytest --cov --cov-report=term:skip-covered

slow:  ## the slow tests: an hour and a half
	$(PYTHON) -m pytest -m slow

demo:  ## the installed command, in an empty directory
	cd "$$(mktemp -d)" && time $(PYTHON) -m keras2gp demo

build:  ## a wheel in dist/
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
