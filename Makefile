# `make help` lists the targets. PYTHON picks another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
SAMPLE ?= runs/demo

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
SET_UP := $(VENV)/.set-up
SET_UP_DEV := $(VENV)/.set-up-dev
EXTRAS := .venv-extras
SET_UP_EXTRAS := $(EXTRAS)/.set-up
PIP_EXTRAS := $(EXTRAS)/bin/python -m pip --disable-pip-version-check
PYTEST = -m pytest -n $(WORKERS) --dist loadfile --durations 10

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-slow test-all test-extras check lint types docs site embedded clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(SET_UP) ## audit the embedded classifiers, write runs/demo/ (ARGS="..." goes to `cfalign demo`)
	@$(VENV)/bin/cfalign demo $(ARGS)

test: $(SET_UP_DEV) ## run the tests but the slow ones (ARGS="..." goes to pytest; WORKERS processes, 2 by default)
	@$(PY) $(PYTEST) -m "not slow" $(ARGS)

test-slow: $(SET_UP_DEV) ## run the slow tests: whole benchmarks, quality of the embedded models
	@$(PY) $(PYTEST) -m slow $(ARGS)

test-all: $(SET_UP_DEV) ## run all tests
	@$(PY) $(PYTEST) $(ARGS)

test-extras: $(SET_UP_EXTRAS) ## run the tests in an environment with every extra, in which none is skipped for want of a package
	@$(EXTRAS)/bin/python $(PYTEST) -m "not slow" --every-extra $(ARGS)

check: lint types docs test ## everything: ruff, strict typing, docs, tests

lint: $(SET_UP_DEV) ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(SET_UP_DEV) ## mypy --strict
	@$(PY) -m mypy

docs: $(SET_UP_DEV) ## run the examples in docstrings of public names and in all pages; build the site
	@$(PY) -m pytest -m docs

site: $(SET_UP_DEV) ## build the documentation into site/, with the report and the explorer of a demo as samples (warnings are errors)
	@test -f $(SAMPLE)/report.html || $(VENV)/bin/cfalign demo --out $(SAMPLE)
	@$(PY) -W ignore docs/explorer_sample.py $(SAMPLE)
	@NO_MKDOCS_2_WARNING=1 CFALIGN_SAMPLE=$(SAMPLE) $(PY) -m mkdocs build --strict --quiet
	@echo "The site is in site/: serve it with \`$(PY) -m http.server -d site\`; opened as a file, site/index.html has all but the search."

embedded: $(SET_UP) ## render, train and measure the embedded models anew from their recorded recipe
	@$(PY) -m cfalign.training.recipes.embedded $(ARGS)

clean: ## remove the environment, caches and builds (runs/ stays)
	rm -rf $(VENV) $(EXTRAS) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp holds the folder's path: an environment that was copied or moved along with the folder would import the old one.
ifneq ($(shell cat $(SET_UP) 2>/dev/null),$(CURDIR))
.PHONY: $(SET_UP)
endif
ifneq ($(shell cat $(SET_UP_EXTRAS) 2>/dev/null),$(CURDIR))
.PHONY: $(SET_UP_EXTRAS)
endif

# An environment with pip in the folder $(1), by whatever way this machine has.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "cfalign needs Python 3.11 or newer, but \`$(PYTHON)\` is $$($(PYTHON) -V 2>&1 | head -n 1)." \
	    "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(1) >/dev/null 2>&1 \
	  || $(PYTHON) -m virtualenv --quiet --clear $(1) 2>/dev/null \
	  || { $(PYTHON) -m venv --clear --without-pip $(1) && $(PYTHON) -m pip --python $(1)/bin/python install pip; } 2>/dev/null \
	  || { rm -rf $(1); echo "\`$(PYTHON) -m venv\` cannot make an environment here." \
	    "Install the venv module (on Debian and Ubuntu: apt install python3-venv) and try again." >&2; exit 1; }
endef

$(SET_UP): pyproject.toml constraints.txt
	$(call environment,$(VENV))
	$(PIP) install -c constraints.txt hatchling editables
	$(PIP) install -c constraints.txt --no-build-isolation -e .
	@printf '%s' "$(CURDIR)" > $@

$(SET_UP_DEV): $(SET_UP)
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev,docs]'
	@touch $@

# Without the constraints: torchvision brings the torch that it goes with. onnx makes the files that onnxruntime reads; Keras
# and scikit-learn need nothing of cfalign, and have examples in docs/.
$(SET_UP_EXTRAS): pyproject.toml
	$(call environment,$(EXTRAS))
	$(PIP_EXTRAS) install hatchling editables
	$(PIP_EXTRAS) install --no-build-isolation -e '.[dev,docs,explore,video,onnx,diffusers,data,heic,dicom,torchvision,timm,hf,xrv,mlflow]' onnx keras scikit-learn
	@printf '%s' "$(CURDIR)" > $@
