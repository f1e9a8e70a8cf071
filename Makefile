# Three commands for a fresh clone: `make demo`, `make test` and `make docs`. `make dist` builds a
# release.
PYTHON ?= python3
VENV   := .venv
# Environment of `make test-ui`: gradio needs an older Pillow than the other tests.
UI_VENV := .venv-ui
BIN    := $(VENV)/bin
# Index of torch and torchvision, such as https://download.pytorch.org/whl/cpu for a build without
# CUDA; empty = pip's default index.
TORCH_INDEX ?=
# Budget of the demo: quick or full.
BUDGET ?= quick

# Three workers on two cores, since some tests wait for processes that they start. Each begins with
# a third of the tests in order, so that few fixtures are built twice.
WORKERS := -n 3 --dist worksteal
# Bytecode is kept even where the environment says otherwise, as that of containers does: each worker
# and each program of a test would compile the package again.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest $(WORKERS)
# Files or folders whose tests `make coverage` runs.
TESTS ?= tests

.PHONY: demo test test-ui test-page coverage docs lint dist clean

demo: $(VENV)/.installed
	$(BIN)/pippin demo --budget $(BUDGET)

test: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/largest.py
	$(PYTEST)

# The playground over HTTP and in Debian's Chromium, /usr/bin/chromium.
test-ui:
	$(MAKE) VENV=$(UI_VENV) test-page

test-page: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[ui]' playwright
	$(BIN)/python -m pytest tests/app

# Lines and branches that no test runs; coverage/index.html shows them in the sources.
coverage: $(VENV)/.installed-dev
	$(PYTEST) --cov --cov-report=term --cov-report=html:coverage $(TESTS)

# The site goes into site/, which git ignores; open site/index.html.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

# Wheel and source distribution of a release in dist/; nothing is uploaded.
dist: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch and torchvision go in together, so that pip picks a matching pair.
$(VENV)/.torch: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch torchvision
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable '.[text]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(UI_VENV) dist .mypy_cache .ruff_cache .pytest_cache site coverage .coverage*
