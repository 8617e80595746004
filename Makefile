# Everything runs in one virtual environment, made on first use; CI runs these targets and no others.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PATHS := moma_cl store cli tests benchmarks
DEMO ?= moma-demo
PARALLEL ?= -n 2 --dist loadfile  # PARALLEL= runs tests one after another

.PHONY: install format lint type test test-all docs demo bench modules paper build ci clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs]"
	touch $(STAMP)

format: $(STAMP)
	$(BIN)/ruff check --fix $(PATHS)
	$(BIN)/ruff format $(PATHS)

lint: $(STAMP)
	$(BIN)/ruff check $(PATHS)
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/pydoclint --quiet moma_cl store cli
	$(BIN)/lint-imports

type: $(STAMP)
	$(BIN)/mypy

# What must pass before a change lands: under ten minutes on two cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)

test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL) -m ""

# The site, in docs/_build/html; its tutorials are run. A warning is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -j 2 -E docs docs/_build/html

demo: $(STAMP)
	$(BIN)/moma-cl demo $(DEMO)

# ONLY=name runs one of them.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ONLY)

# The modules that ship with the package, trained anew from the datasets beside the repository;
# a run that was cut short goes on.
modules: $(STAMP)
	$(BIN)/python -m benchmarks.upstream --ship

# The paper's table; a run that was cut short goes on.
paper: $(STAMP)
	$(BIN)/python -m benchmarks.paper
	$(BIN)/python -m benchmarks.paper.report

build: $(STAMP)
	$(BIN)/python -m build

ci: lint type test docs

clean:
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
