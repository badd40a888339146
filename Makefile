# lmtasks: everything starts here. Needs Python 3.11 or newer, and nothing else.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install test lint run bench clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## .venv with lmtasks and all that it needs, in tested versions

test: lint ## style, types and tests; tests on real data where LMTASKS_DATA_ROOT names a mirror of the Hub
	$(BIN)/python -m pytest

lint: $(INSTALLED) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lmtasks

run: $(INSTALLED) ## carry out benchmarks/starter.yaml and say where its report is
	$(BIN)/lmtasks run benchmarks/starter.yaml

bench: $(INSTALLED) ## time the package's own hot paths
	$(BIN)/python -m pytest benchmarks -o python_files='bench_*.py' --benchmark-only

clean: ## remove .venv and what tools left; runs/ stays
	rm -rf .venv .mypy_cache .ruff_cache .benchmarks dist build

# pip is asked again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@
