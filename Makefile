# `make demo` and `make test` need Python 3.11 or newer, and nothing else: the rest goes into .venv.
PYTHON ?= python3
VENV   := .venv
PEERS  := .venv-bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo examples test check docs bench bench-compiled clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo  ## train on handwritten digits
	$(VENV)/bin/python examples/digits.py

# Their matrices are small: a second thread would only wait for the first.
examples: $(VENV)/.demo  ## fit an equation, train in private, learn to write, minimise to the last digit
	for program in newton_cg ode_fit private_sgd char_rnn; do \
	    OPENBLAS_NUM_THREADS=1 $(VENV)/bin/python examples/$$program.py || exit 1; done

test: $(VENV)/.dev  ## run the tests
	$(VENV)/bin/python -m pytest $(ARGS)

check: $(VENV)/.dev  ## lint, format, types, import contract, docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(build-docs)

docs: $(VENV)/.dev  ## build the documentation into site/
	$(build-docs)

bench: $(PEERS)/.bench  ## compare with autograd and JAX
	$(PEERS)/bin/python -m benchmarks $(ARGS)
	@echo
	$(PEERS)/bin/python -m benchmarks.compiled $(ARGS)

bench-compiled: $(PEERS)/.bench  ## compare jitted functions with JAX's
	$(PEERS)/bin/python -m benchmarks.compiled $(ARGS)

clean:  ## remove what the other targets wrote, but keep the environments
	rm -rf build dist site .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find benchmarks examples funcgrad tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## remove the environments, too
	rm -rf $(VENV) $(PEERS)

# `--strict` turns warnings into errors, but it sees none under `--quiet`. Links may lead to other hosts; what a page
# loads by itself may not.
define build-docs
NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
@! grep -rnoE --include=*.html --include=*.css $(REMOTE) site || { echo 'the site loads this from another host'; exit 1; }
endef
REMOTE = '<(script|link|img|iframe|source|video)[^>]* (src|href)="?(https?:)?//[^" >]+|(@import |url\()[" ]*(https?:)?//[^")]+'

# An environment is made in two steps, each of which leaves a stamp only when it succeeded: `.made` says that the
# environment exists and in which directory, `.demo`, `.dev` and `.bench` say what is installed in it.

INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(VENV)/bin/python $(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(VENV)/bin/python $(INSTALL) --editable '.[dev]'
	@touch $@

$(PEERS)/.bench: $(PEERS)/.made pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PEERS)/bin/python $(INSTALL) --editable . --requirement benchmarks/requirements.txt
	@touch $@

$(VENV)/.made $(PEERS)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "funcgrad needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv --clear $(@D)
	@echo '$(CURDIR)' > $@

# An environment that was copied here from another checkout still imports that one's code: it is made anew.
STALE := $(foreach env,$(VENV) $(PEERS),$(if $(wildcard $(env)/.made),\
    $(if $(filter-out $(CURDIR),$(shell cat $(env)/.made)),$(env)/.made)))
.PHONY: $(STALE)
