# Each target is one check; .ci/run calls all but cover, slow and links. PYTHON=... takes another
# interpreter.
PYTHON ?= python
.PHONY: check lint types tables smoke test cover slow demo docs links build

check: lint types tables smoke  ## everything that takes a minute

lint:  ## style and format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:  ## mypy, strict
	$(PYTHON) -m mypy

tables:  ## the tables of docs/reference are those of the registries
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

docs:  ## the documentation in docs/_build/html, without a network; warnings are errors
	$(PYTHON) -m sphinx -q -b html -W --keep-going docs docs/_build/html

links:  ## every link of the documentation, which takes a network
	KERAS2GP_DOCS_ONLINE=1 $(PYTHON) -m sphinx -q -b linkcheck docs docs/_build/links

build:  ## a source archive and a wheel in dist/, which say what an index asks for
	rm -rf dist
	$(PYTHON) -m build --outdir dist . > /dev/null
	$(PYTHON) -m twine check --strict dist/*
