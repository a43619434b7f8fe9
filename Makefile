# elrun's front desk. `make` lists what there is.

PYTHON ?= python3
VENV ?= .venv
QUICK ?= 0
# Processes that share the tests: most tests wait for something, more than they compute.
TESTERS ?= 3
SEEDS ?= 10000
FIRST ?= 0
MINUTES ?= 10
SEED ?=
ONLY ?=
PYTHONS ?=
TORCHES ?=
KEEP ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# pytest rewrites each test's asserts, and keeps the result if Python may keep bytecode: that saves
# each process some seconds.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest
ROOMS := launcher agent rendezvous

# Folders are listed too: their time changes when a module is deleted.
SOURCES := pyproject.toml $(shell find src $(ROOMS) \
	-name '*.py' -o -name py.typed -o -type d ! -name __pycache__ ! -name '*.egg-info')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check simulate chaos soak fuzz mutants matrix clients bench gpu docs site screenshots gallery release constraints clean

help:  ## list what can be made
	@sed -n 's/^\([a-z]*\):.*##/make \1\t/p' Makefile | expand -t 14

run: $(VENV)/elrun  ## install elrun into .venv (minutes, once) and train on two workers (20 s)
	$(BIN)/elrun --standalone --nproc-per-node 2 --max-restarts 3 examples/train.py

test: $(VENV)/installed .links/elrun  ## run all tests (forty minutes on two cores)
	$(PYTEST) --numprocesses $(TESTERS) --dist loadgroup

check: $(VENV)/installed .links/elrun  ## format, lint, types and the quick tests
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(PYTEST) --numprocesses 4 --dist worksteal -m "not integration" -x

simulate: $(VENV)/installed  ## try the rendezvous in invented worlds; SEEDS=, FIRST=, or SEED= for one
	PYTHONPATH=tests/simulation $(BIN)/python -m simulator \
		$(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST))

chaos: $(VENV)/installed  ## break real agents in network namespaces, and judge; MINUTES=10, SEED= (root)
	PYTHONPATH=tests/chaos:tests/integration $(BIN)/python -m rig --minutes $(MINUTES) \
		$(if $(SEED),--seed $(SEED)) --page docs/reliability.md

soak: $(VENV)/installed  ## let jobs restart and print for long, and look whether anything grows; MINUTES=60
	PYTHONPATH=tests/matrix:tests/rendezvous $(BIN)/python tests/soak/soak.py --minutes $(MINUTES) --write

fuzz: $(VENV)/installed .venv-fuzz/packages  ## feed what elrun reads from others with odd inputs; MINUTES=10 each, ONLY=wire, SEED=, KEEP=1
	PYTHONPATH=.venv-fuzz/packages:tests/fuzz/targets:tests/rendezvous $(BIN)/python tests/fuzz/fuzz.py --minutes $(MINUTES) \
		$(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep)

mutants: $(VENV)/installed .venv-mutants/bin/cosmic-ray  ## plant faults in the decisions, see which of them tests notice; ONLY=round
	.venv-mutants/bin/python tests/mutation/mutants.py --python $(BIN)/python \
		$(if $(ONLY),--only $(ONLY))

matrix: $(VENV)/dependencies  ## try each Python and torch that can be had; PYTHONS="3.12", TORCHES="2.4.1", KEEP=1
	$(BIN)/python tests/matrix/matrix.py --pythons "$(PYTHONS)" --torches "$(TORCHES)" \
		$(if $(KEEP),--keep)

clients: .venv-clients/installed  ## train with the libraries that people use, under elrun; ONLY="hydra fabric"
	PYTHONPATH=tests/matrix .venv-clients/bin/python tests/clients/clients.py $(ONLY)

bench: $(VENV)/installed  ## measure elrun beside torchrun; QUICK=1: fewer runs; ONLY="P3 P4"; PUBLISH=1
	$(BIN)/python benchmarks/bench.py $(if $(filter-out 0,$(QUICK)),--quick) \
		$(if $(ONLY),--only $(ONLY))
	$(if $(filter-out 0,$(PUBLISH)),$(BIN)/python benchmarks/publish.py)

gpu: .links/elrun  ## try what only a GPU can show, with PYTHON's torch and nothing installed; ONLY=memory
	PYTHONPATH=.links $(PYTHON) tests/gpu/suite.py $(if $(ONLY),--only $(ONLY))

docs: $(VENV)/elrun  ## draw the README's picture from a real job
	$(BIN)/python docs/pictures/failure.py

site: $(VENV)/installed .links/elrun  ## build the documents as a site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

screenshots: $(VENV)/installed  ## draw the report's page, light and dark, from a real job (needs chromium)
	PYTHONPATH=tests $(BIN)/python docs/pictures/report_page.py

gallery: $(VENV)/installed  ## run all kinds of death and write docs/gallery.md (seven minutes); ONLY="bash thread"
	PYTHONPATH=tests/integration $(BIN)/python -m gallery.page $(ONLY)

release: .venv-release/bin/twine  ## build what a release uploads into dist/, and check it; nothing is uploaded
	.venv-release/bin/python tests/release/release.py

constraints: $(VENV)/dependencies  ## write constraints.txt anew, with the newest versions that fit each other
	$(BIN)/python tests/release/renew.py

clean:  ## remove all that was made
	rm -rf $(VENV) .venv-ci .venv-clients .venv-fuzz .venv-matrix .venv-mutants .venv-release .links build dist *.egg-info src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a user needs is one thing, what a developer needs another: `make run` waits for no linter.
# pip shows what it fetches, since torch takes minutes.
$(VENV)/elrun: $(SOURCES) $(VENV)/requirements
	@rm -rf build/lib build/bdist.*
	$(PIP) install --quiet --no-deps --no-build-isolation --force-reinstall .
	@touch $@

# Not editable: tests and examples meet elrun as a user has it, and an editable install puts an
# import hook into the start of every interpreter. What setuptools left in build/ is removed, since
# it would put modules that no longer exist into the wheel.
$(VENV)/installed: $(VENV)/elrun $(VENV)/dependencies
	@touch $@

# elrun comes with them: pip has no way to ask for dependencies alone.
$(VENV)/requirements: constraints.txt pyproject.toml $(BIN)/python
	@echo "installing what elrun needs into $(VENV): torch and a few small packages"
	@echo "(minutes, the first time)"
	$(PIP) install --quiet --constraint constraints.txt pip setuptools
	$(PIP) install --constraint constraints.txt --no-build-isolation '.[examples]'
	@touch $@

$(VENV)/dependencies: $(VENV)/requirements
	@echo "installing what elrun's tests and checks need into $(VENV)"
	$(PIP) install --constraint constraints.txt --no-build-isolation '.[dev]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "elrun's development needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "no virtual environment: $(PYTHON) lacks venv (Debian: apt-get install python3-venv)" >&2; \
		exit 1; }

# It has wheels for some Pythons only, and is beside the environment, not in it.
.venv-fuzz/packages: tests/fuzz/requirements.txt
	@rm -rf $@
	$(PIP) install --quiet --no-deps --target $@ -r tests/fuzz/requirements.txt

.venv-mutants/bin/cosmic-ray: constraints.txt
	@$(BIN)/python -m venv .venv-mutants
	.venv-mutants/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt cosmic-ray

# These libraries are many and large, and elrun's own tests need none of them.
.venv-clients/requirements: constraints.txt tests/clients/requirements.txt
	@$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt setuptools torch numpy -r tests/clients/requirements.txt
	@touch $@

.venv-clients/installed: $(SOURCES) .venv-clients/requirements
	@rm -rf build/lib build/bdist.*
	.venv-clients/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt --no-build-isolation --force-reinstall --no-deps .
	.venv-clients/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt --no-build-isolation .
	@touch $@

.venv-release/bin/twine: constraints.txt tests/release/requirements.txt
	@$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt setuptools -r tests/release/requirements.txt
	@touch $@

# The package as a type checker wants to see it: one folder with the rooms inside.
.links/elrun: src/elrun
	@mkdir -p $@
	@ln -sf $(addprefix ../../,$(wildcard src/elrun/*.*) $(ROOMS)) $@
	@touch $@
