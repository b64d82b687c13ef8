# make demo and make test each do their whole set-up; nothing is installed outside .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
BASE := .venv/.installed
DEV := .venv/.installed-dev
DEFAULT_TESTS := not slow and not bench and not reliability
WORKERS := --numprocesses auto --dist worksteal
# Where there is room in memory for what tests write, they wait for no disk.
IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "/dev/shm"}')

# Tests start some hundred processes: each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   install ByHeart and show it: a server, a client, a conversation recalled"
	@echo "make test   install the development tools and run the fast tests"
	@echo "make lint   ruff, mypy and the layering of the packages"
	@echo "make bench  measure all costs beside their floors, up to a million memories"
	@echo "make clean  remove .venv and the caches"
	@echo
	@echo "Another Python: make demo PYTHON=python3.12"

demo: $(BASE)
	@$(BIN)/byheart demo

test: $(DEV)
	$(if $(IN_MEMORY),PYTEST_DEBUG_TEMPROOT=$(IN_MEMORY)) \
	$(BIN)/python -m pytest $(WORKERS) -m "$(DEFAULT_TESTS)"

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: export BYHEART_BENCH_SIZES ?= 50,1000,10000,100000,1000000
bench: $(DEV)
	$(BIN)/python -m pytest -m bench -s

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BASE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing ByHeart into .venv ..."
	@$(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing ByHeart and its development tools into .venv ..."
	@$(PIP) --editable ".[dev,retrain]"
	@touch $(BASE) $@

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "ByHeart needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; } >&2
	@$(PYTHON) -m venv --clear .venv
