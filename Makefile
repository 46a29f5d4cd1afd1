# make setup | toy | test | docs | lint | clean      (README.md says what each gives)
SHELL := /bin/bash
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.complete
CORES ?= 2
# Build of PyTorch: cpu, cuda (what the package index gives), or another label of PyTorch's own index, such as cu126.
TORCH ?= $(if $(wildcard /dev/nvidiactl /dev/kfd /dev/dxg),cuda,cpu)
TORCH_BUILD := $(shell grep ^torch== constraints.txt)+$(TORCH)
# A run on a mirror of real files stands beside the run on the embedded one (workflow/Snakefile names it alike).
TOY := results/toy$(if $(CELLLM_MIRROR),-$(notdir $(realpath $(CELLLM_MIRROR))))
SNAKEMAKE := PATH="$(BIN):$$PATH" $(BIN)/snakemake --configfile config/toy.yaml --cores $(CORES)

# Rules that would take all cores for themselves.
SCORING := annotate drug_sensitivity drug_response
MANY_THREADS := pretrain graphmae geometry held_out $(SCORING) $(addsuffix _controls,$(SCORING))

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
	@[ $(TORCH) = cuda ] || $(BIN)/python -m pip install --quiet $(TORCH_BUILD) 2>/dev/null || \
	  echo "make: no $(TORCH_BUILD) where pip looks, so its default build, on Linux 3 GB with CUDA (docs/install.md, PyTorch)"
	@set -o pipefail; $(BIN)/python -m pip install --progress-bar off --constraint constraints.txt \
	  --editable '.[graph,workflow,docs,dev]' | awk -v all=$$(grep -c == constraints.txt) ' \
	  /^Collecting/ && ++n % 20 == 0 {print "pip: found " n " of about " all " packages"; fflush()} \
	  /^ *Downloading .*\(([0-9][0-9]+[0-9.]* M|[0-9.]+ G)B\)/ {sub(/-cp.*|-py.*/, "", $$2); print "pip: downloading " $$2, $$3, $$4; fflush()} \
	  /^Installing/ {print "pip: installing them, a minute or two"; fflush()}'
	@touch $@

toy: setup
	@mkdir -p $(TOY)
	$(SNAKEMAKE) --set-threads $(addsuffix =1,$(MANY_THREADS)) -- all
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
	PATH="$(BIN):$$PATH" $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/workflow

# The site; the tutorial is executed.
docs: setup
	$(BIN)/sphinx-build -W --keep-going --quiet docs docs/_build/html
	@echo "Site: docs/_build/html/index.html"

clean:
	rm -rf results/toy* docs/_build .pytest_cache .mypy_cache .ruff_cache
