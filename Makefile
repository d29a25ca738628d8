# The course in commands. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python

# A notebook stays in one process from its first cell to its last. What takes longest (tests/hub) is collected first.
PARALLEL := --numprocesses=2 --dist=loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run test lint lab bench book gallery slides lock standins clean

help:  ## list these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(VENV)/.complete  ## make .venv with the pinned dependencies (once)

# The stamp is written last, so a set-up that was interrupted is done again.
$(VENV)/.complete: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The course needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another: make setup PYTHON=python3.12")'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@start=$$(date +%s); \
	  $(PY) -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]' && \
	  echo "Set up in $$(( $$(date +%s) - start )) s, $$(du -sh $(VENV) | cut -f1)."
	@touch $@

run: setup  ## execute the course on whatever data there are and write it as HTML
	@$(PY) -m course_utils run

# The notebooks with their outputs, for the slides and the book.
PACKAGE  := $(wildcard course_utils/*.py course_utils/*/*.py)
EXECUTED := $(patsubst notebooks/%,build/executed/%,$(wildcard notebooks/*.ipynb))
build/executed/%.ipynb: notebooks/%.ipynb $(PACKAGE) | $(VENV)/.complete
	@$(PY) -m course_utils run $<

test: setup  ## run all tests, the notebooks among them, two files at a time
	@$(PY) -m pytest $(PARALLEL)

lint: setup  ## check style, formatting, types and that notebooks carry no outputs
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy
	@$(PY) -m nbstripout --verify notebooks/*.ipynb

lab: setup  ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab --notebook-dir=notebooks

bench: setup  ## measure speed side by side with what one would otherwise use
	@for script in benchmarks/*.py; do $(PY) $$script || exit 1; done

book: setup $(EXECUTED)  ## execute what has changed and build the course as a web site
	@rm -rf build/book
	@$(PY) docs/book/make_book.py

gallery: setup $(EXECUTED)  ## make the README's figures again, from the real data
	@$(PY) docs/book/make_gallery.py

slides: setup $(EXECUTED)  ## make a reveal.js deck of each notebook, for the projector, in build/slides/
	@$(PY) docs/slides.py $(EXECUTED)

standins: setup  ## generate the stand-in data again
	@$(PY) -m course_utils data standins

lock: setup  ## write requirements.lock from what is installed
	@$(PY) -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:  ## remove what the commands above made
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
