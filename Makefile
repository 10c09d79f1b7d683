# `make help` lists the targets. Everything is installed below .venv and .cache; system packages: .ci/system.sh.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
UV_VERSION := 0.13.9
UV := .cache/uv-$(UV_VERSION)/bin/uv
# Options for pytest: make test ARGS='-k lease -n 0'
ARGS :=
# Python that `make test-lowest` tests with: make test-lowest LOWEST_PYTHON=python3.13
LOWEST_PYTHON = $(shell .ci/system.sh which-python)
LOWEST := .cache/lowest
# Tests start the tool by the hundred: where PYTHONDONTWRITEBYTECODE is set, each would compile all of it anew.
COMPILE := $(BIN)/python -m compileall -q ebspub migrations tests
SHELL_SCRIPTS = $(shell find $(wildcard ebspub examples tests .ci) -name '*.sh') .ci/run

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: demo
demo: ## set everything up, then publish an image to the embedded cloud
	@.ci/system.sh demo
	@.ci/venv.sh demo
	$(BIN)/ebspub demo

.PHONY: test
test: ## set everything up, then run the tests (ARGS: options for pytest)
	@.ci/system.sh test
	@.ci/venv.sh dev
	@$(COMPILE)
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-long
test-long: ## run the tests that take long: the README's commands, chaos, hostile images, leases, planted bugs, ...
	@.ci/system.sh test
	@.ci/venv.sh dev
	@$(COMPILE)
	$(BIN)/python -m pytest --long $(ARGS)

.PHONY: test-whole
test-whole: ## both, with every variant and every point of the crash matrix
	@.ci/system.sh test
	@.ci/venv.sh dev
	@$(COMPILE)
	$(BIN)/python -m pytest --whole $(ARGS)

# Histories that `make simulate` plays: make simulate SEEDS=100000
SEEDS := 10000

.PHONY: simulate
simulate: venv ## play SEEDS seeded histories of the real engine against a simulated EC2
	$(BIN)/python -m tests.simulation $(SEEDS)

.PHONY: crash
crash: ## kill the publisher at every point of a publish, and let everything fail at random (ARGS: options for pytest)
	@.ci/system.sh test
	@.ci/venv.sh dev
	@$(COMPILE)
	$(BIN)/python -m pytest tests/crash tests/local/test_chaos.py --whole $(ARGS)

.PHONY: bench
bench: ## measure the three methods against what this machine can do (ARGS: --rounds N, --size MIB, --help)
	@.ci/system.sh bench
	@.ci/venv.sh dev
	$(BIN)/python -m tests.bench $(ARGS)

.PHONY: check
check: ## lint, format, types, imports and shell scripts
	@.ci/system.sh check
	@.ci/venv.sh dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	shellcheck $(SHELL_SCRIPTS)

.PHONY: format
format: venv ## format the code, mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: venv
venv: ## make .venv, or bring it up to date
	@.ci/system.sh python
	@.ci/venv.sh dev

.PHONY: system
system: ## check for system packages; as root, install what is missing
	@.ci/system.sh test

.PHONY: wheel
wheel: venv ## build the wheel and the source archive into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

.PHONY: test-lowest
test-lowest: $(UV) ## run the unit tests with the oldest packages that pyproject.toml allows
	$(UV) venv --quiet --clear --python $(LOWEST_PYTHON) $(LOWEST)
	$(UV) pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		--editable '.[localcloud,postgresql,dev]'
	$(LOWEST)/bin/python -m pytest tests/unit $(ARGS)

.PHONY: constraints
constraints: $(UV) ## pin today's newest packages in constraints.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --output-file .cache/constraints.txt pyproject.toml
	{ echo '# What was tested, of every extra, on every Python that we support. Made by `make constraints`.'; \
		cat .cache/constraints.txt; } >constraints.txt

$(UV):
	@.ci/system.sh python
	"$$(.ci/system.sh which-python)" -m venv --clear .cache/uv-$(UV_VERSION)
	.cache/uv-$(UV_VERSION)/bin/python -m pip --quiet --disable-pip-version-check install uv==$(UV_VERSION)

.PHONY: clean
clean: ## remove everything that make made
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find ebspub migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +
