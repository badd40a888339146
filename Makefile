# lmtasks: everything starts here. Needs Python 3.11 or newer, and nothing else.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
WANTED := -c constraints.txt -e '.[test,docs]'
SPREAD := --numprocesses auto --dist worksteal

# Tests start many interpreters; compiled once, hundreds of files are read in no time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install test test-all lint docs run bench bench-store clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## .venv with lmtasks and all that it needs, in tested versions

test: lint ## style, types, and the tests that a change waits for; on real data where LMTASKS_DATA_ROOT names a mirror of the Hub
	$(BIN)/python -m pytest $(SPREAD) -m 'not slow'

test-all: lint ## the same with the slow tests: what .ci/run does first
	$(BIN)/python -m pytest $(SPREAD)

lint: $(INSTALLED) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lmtasks

docs: $(INSTALLED) ## the documents as a site, every link held: build/site/index.html
	$(BIN)/python docs/make_site.py

run: $(INSTALLED) ## carry out benchmarks/starter.yaml and say where its report is
	$(BIN)/lmtasks run benchmarks/starter.yaml

bench: $(INSTALLED) .benchmarks/run.json ## time the package's own hot paths against benchmarks/baseline.json
	$(BIN)/python benchmarks/baseline.py compare .benchmarks/run.json

bench-store: $(INSTALLED) .benchmarks/run.json ## the same, and keep them as the baseline
	$(BIN)/python benchmarks/baseline.py store .benchmarks/run.json

.PHONY: .benchmarks/run.json
.benchmarks/run.json:
	mkdir -p .benchmarks
	$(BIN)/python -m pytest benchmarks -o python_files='bench_*.py' --benchmark-only --benchmark-json=$@

clean: ## remove .venv and what tools left; runs/ stays
	rm -rf .venv .mypy_cache .ruff_cache .benchmarks .cache dist build

# pip is asked again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python benchmarks/install_size.py $(WANTED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(WANTED)
	touch $@
