# `make demo` and `make test` do all the set-up they need: a virtual environment in .venv with the pinned
# packages of requirements.lock and this package (editable).

PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3)
# the other supported Python: on the search path, or one of pyenv's
PYTHON312 ?= $(shell for p in python3.12 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.12*/bin/python3.12; do \
    $$p -c '' 2> /dev/null && echo $$p && break; done)
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-3.12 lint types layers unit validate bench lock clean system-deps

help: ## Show the targets
	@grep -E '^[a-z0-9.-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.installed ## Create .venv with everything that runs and tests the package

.venv/.installed: requirements.lock pyproject.toml
	@echo "creating .venv with $(PYTHON) and installing the pinned packages (about 1.4 GB) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Simulate one exposure, calibrate it, compare with the truth
	$(BIN)/zeropoint demo --out demo

test: setup lint types layers unit ## Lint, types, layer rules and the test suite

test-3.12: .venv-3.12/.installed ## The test suite on Python 3.12
	.venv-3.12/bin/python -m pytest -n 2 --dist loadscope

.venv-3.12/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON312)" || { echo "no Python 3.12 found: make test-3.12 PYTHON312=/path/to/python3.12"; exit 1; }
	$(PYTHON312) -m venv .venv-3.12
	.venv-3.12/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	.venv-3.12/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope

validate: setup ## Full-size truth tests and real data; minutes
	$(BIN)/python benchmarks/validate.py --markdown docs/validation.md
	$(BIN)/python benchmarks/zeropoint_pulls.py --markdown docs/photometry.md
	$(BIN)/python benchmarks/matcher_grid.py --markdown docs/astrometry.md
	$(BIN)/python benchmarks/atmosphere.py
	$(BIN)/python benchmarks/real_data.py
	$(BIN)/python benchmarks/repositories.py
	$(BIN)/python benchmarks/fgcm_real.py
	$(BIN)/python benchmarks/night.py --compare
	$(BIN)/python benchmarks/survey.py
	$(BIN)/python benchmarks/fgcm_survey.py
	$(BIN)/python -m pytest -m slow

bench: setup ## CPU seconds per stage on a 4k image, beside named peers; ingestion of references
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/refcats.py
	$(BIN)/python benchmarks/association.py
	$(BIN)/python benchmarks/fgcm_stars.py
	$(BIN)/python benchmarks/finalize.py
	$(BIN)/python benchmarks/fgcm_lut.py

lock: ## Renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.12 --all-extras --group test --group lint --group build \
	    --no-emit-index-url --generate-hashes --quiet -o requirements.lock

system-deps: ## Debian packages that some validations want
	apt-get update && apt-get install -y chromium postgresql psfex source-extractor astrometry-data-tycho2-07-littleendian

clean: ## Remove the environment and caches
	rm -rf .venv .venv-3.12 .mypy_cache .ruff_cache .pytest_cache .hypothesis demo
