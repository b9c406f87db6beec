# `make demo`, `make test` and `make lint` each do their own set-up in .venv.
#   PYTHON=/path/to/python3.12   the interpreter (default: the first of 3.11 to 3.13 that works)
#   TORCH='torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu'   another torch

TORCH ?= torch==2.13.0
PYTHON ?=
PYTEST_ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
DEMO := build/demo

.PHONY: demo test lint format clean

demo: $(READY)
	$(BIN)/python tools/demo.py --out $(DEMO)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build

# A name on PATH may be a shim that fails, so every candidate is run.
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.11 python3.12 python3.13); do \
	  if $$python -c "$(USABLE)" 2>/dev/null; then \
	    echo "creating .venv with $$($$python --version)"; \
	    exec $$python -m venv .venv; \
	  fi; \
	done; \
	echo "no Python from 3.11 to 3.13 with venv was found (tried: \
	$(or $(PYTHON),python3 python3.11 python3.12 python3.13)); name one with make PYTHON=..." >&2; \
	exit 1

$(READY): setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install -e '.[test]'
	touch $@
