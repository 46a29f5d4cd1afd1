# make setup | toy | test | docs | lint | clean      (README.md says what each gives)
SHELL := /bin/bash
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.complete
CORES ?= 2
# A run on a mirror of real files stands beside the run on the embedded one (workflow/Snakefile names it alike).
TOY := results/toy$(if $(CELLLM_MIRROR),-$(notdir $(realpath $(CELLLM_MIRROR))))
SNAKEMAKE := PATH="$(BIN):$$PATH" $(BIN)/snakemake --configfile config/toy.yaml --cores $(CORES)

.PHONY: setup toy test docs lint typecheck unit clean

setup: $(STAMP)

# dgl 1.1.3, the last release that works beside a current torch, has wheels up to Python 3.11: that version is looked for.
$(STAMP): pyproject.toml constraints.txt
	@found=; for python in $(PYTHON) python3.11 python3 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	    "$$python" -m venv --clear $(VENV) && found=$$python && break; fi; done; \
	if [ -z "$$found" ]; then \
	  if command -v uv >/dev/null; then uv venv --quiet --clear --seed --python 3.11 $(VENV); \
	  else echo "make: Python 3.11 with venv is needed and none was found. Install it (Debian/Ubuntu: apt install python3.11-venv;" \
	    "conda: conda create -n py311 python=3.11; or install uv, which fetches one), then run make PYTHON=/path/to/python3.11" >&2; exit 1; fi; fi
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[graph,workflow,docs,dev]'
	@touch $@

toy: setup
	@mkdir -p $(TOY)
	$(SNAKEMAKE) --set-threads pretrain=1 annotate=1 drug_sensitivity=1 drug_response=1 graphmae=1 geometry=1 -- all
	@[ $(TOY)/snakemake-report.html -nt $(TOY)/manifest.json ] || \
	  $(SNAKEMAKE) all --report $(TOY)/snakemake-report.html >/dev/null 2>$(TOY)/logs/snakemake-report.log
	@echo; echo "Tables:  $(TOY)/tables/    Figures: $(TOY)/figures/    Claims: $(TOY)/claims.md"
	@echo "Report:  $(TOY)/report.html    Snakemake's report: $(TOY)/snakemake-report.html"

test: lint typecheck unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow

typecheck: setup
	$(BIN)/mypy

unit: setup
	PATH="$(BIN):$$PATH" $(BIN)/pytest -n $(CORES) --ignore tests/workflow
	PATH="$(BIN):$$PATH" $(BIN)/pytest tests/workflow

# The site; the tutorial is executed.
docs: setup
	$(BIN)/sphinx-build -W --keep-going --quiet docs docs/_build/html
	@echo "Site: docs/_build/html/index.html"

clean:
	rm -rf results/toy* docs/_build .pytest_cache .mypy_cache .ruff_cache
