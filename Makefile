# The vocabulary of this project, for people and for CI. `make` alone explains it.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
GATEWAY = $(BIN)/python -m langchain_segmind.gateway
# Most tests wait for sockets and processes; those of a file share what is costly to make.
WORKERS ?= 3
SIDE_BY_SIDE = --numprocesses=$(WORKERS) --dist=loadfile
FUZZED = headers body answers events queue exchanges journal tools messages
# pip's own last words are of versions that do not exist, also where there is no network.
OR_SAY_WHY = || { echo "pip could not install what is needed: see above. Is there a network? A proxy goes into HTTPS_PROXY." >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help demo test test-random test-min lint format compat docs docs-serve shots build audit bench soak storm fuzz gateway clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo $(if $(SEGMIND_API_KEY),,$(VENV)/.model) ## Talk to a Llama: on Segmind with SEGMIND_API_KEY, else on this machine
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev ## Run all tests, with branch coverage
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term:skip-covered

test-random: $(VENV)/.dev ## Run the property tests on examples of this run alone, twenty times as many
	@HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -m hypothesis --timeout=3600

test-min: $(VENV)-min/.done ## Run all tests on the lowest versions of everything that pyproject.toml declares
	@LOWEST_VERSIONS=1 $(VENV)-min/bin/python -m pytest $(SIDE_BY_SIDE)

PACKAGES ?=

compat: $(VENV)/.dev ## Run tests of LangChain, LangGraph and others on this model; writes docs/compatibility.md
	@$(BIN)/python -m compat $(PACKAGES)

lint: $(VENV)/.dev ## Check style, types and workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(if $(wildcard .github),$(BIN)/zizmor --offline --quiet .github)

format: $(VENV)/.dev ## Put the code into its form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.docs ## Build the documentation into site/; a broken link or reference fails
	@$(BIN)/zensical build --clean --strict
	@echo "The documentation is in $(CURDIR)/site/index.html; make docs-serve shows it in a browser."

docs-serve: $(VENV)/.docs ## Show the documentation at http://localhost:8000, anew with each change
	@$(BIN)/zensical serve

shots: $(VENV)/.dev docs ## Draw all pictures anew: of the demo, a batch, the diagrams, and of the pages in Chromium
	@$(BIN)/python examples/shots.py
	@$(BIN)/python docs/images/draw.py
	@$(BIN)/python docs/images/diagrams.py
	@$(BIN)/python -m benchmarks.report
	@$(BIN)/python docs/images/screenshots.py

build: $(VENV)/.dev ## Build the wheel and the sdist into dist/, as a release does, and check them
	@rm -rf dist
	@$(BIN)/python -m build
	@$(BIN)/python -m twine check --strict dist/*

audit: $(VENV)-audit/.done ## Look for known vulnerabilities and copyleft licences in what users install
	@$(BIN)/uv tool run pip-licenses --python=$(VENV)-audit/bin/python --from=mixed --partial-match --fail-on=GPL
	@$(BIN)/uv pip freeze --quiet --python $(VENV)-audit/bin/python --exclude langchain-segmind > $(VENV)-audit/installed.txt
	@$(BIN)/uv tool run pip-audit --strict --no-deps --disable-pip --requirement $(VENV)-audit/installed.txt

bench: $(VENV)-bench/.done ## Measure speed against other packages; writes benchmarks/results.md
	@$(VENV)-bench/bin/python -m pip install --quiet --upgrade --requirement benchmarks/requirements.txt
	$(VENV)-bench/bin/python -m benchmarks

soak: $(VENV)/.dev ## Call for an hour, against faults; tells whether memory, files, threads or money leak
	$(BIN)/python -m benchmarks.soak

SEED ?= 1

storm: $(VENV)/.dev ## Make 12,800 calls under some thirty kinds of faults (SEED=1): is the bill what was told?
	@$(BIN)/python -m benchmarks.storm --seed $(SEED)

FUZZ_SECONDS ?= 60

fuzz: $(VENV)/.fuzz ## Fuzz all that reads what a server or a model wrote, for FUZZ_SECONDS=60 in all
	@for target in $(FUZZED); do \
	  echo "$$target: $$(($(FUZZ_SECONDS) / $(words $(FUZZED)) + 1)) s"; \
	  $(BIN)/python -m fuzz $$target -max_total_time=$$(($(FUZZ_SECONDS) / $(words $(FUZZED)) + 1)) -print_final_stats=1 2>.fuzz.log \
	    || { cat .fuzz.log >&2; exit 1; }; \
	  grep number_of_executed .fuzz.log; \
	done; rm -f .fuzz.log

gateway: $(VENV)/.model ## Run the local Segmind in the foreground
	@$(GATEWAY)

clean: ## Remove the virtual environment and what the tools left behind
	rm -rf $(VENV) $(VENV)-min $(VENV)-audit $(VENV)-bench .compat .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site .cache

$(VENV)/.pip:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here: name one of 3.11 or newer, as in make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	@echo "Setting up $(VENV)."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" $(OR_SAY_WHY)
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml
	@echo "Installing langchain-segmind, LangChain and llama.cpp from PyPI (about 80 MB)."
	@$(BIN)/python -m pip install --quiet --editable '.[llama]' --group demo $(OR_SAY_WHY)
	@touch $@

$(VENV)/.model: $(VENV)/.demo
	@$(GATEWAY) --fetch-model
	@touch $@

$(VENV)/.dev: $(VENV)/.model
	@echo "Installing the tools for tests and checks from PyPI (about 310 MB)."
	@$(BIN)/python -m pip install --quiet --editable '.[llama]' --group demo --group test --group lint $(OR_SAY_WHY)
	@touch $@

$(VENV)-min/.done: $(VENV)/.dev
	@echo "Installing the lowest declared versions."
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-min
	@$(BIN)/uv pip install --quiet --python $(VENV)-min/bin/python --resolution lowest-direct --editable '.[llama]' --group demo --group test
	@touch $@

# All extras, and nothing that only developers install.
$(VENV)-audit/.done: $(VENV)/.dev
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-audit
	@$(BIN)/uv pip install --quiet --python $(VENV)-audit/bin/python '.[llama,chat]'
	@touch $@

$(VENV)/.docs: $(VENV)/.pip pyproject.toml
	@echo "Installing what builds the documentation from PyPI (about 40 MB)."
	@$(BIN)/python -m pip install --quiet --group docs
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet --group fuzz $(OR_SAY_WHY)
	@touch $@

# An environment of its own: what other packages need must not decide what the tests run on.
$(VENV)-bench/.done: pyproject.toml benchmarks/requirements.txt
	@echo "Installing the packages to compare with from PyPI (a few hundred MB)."
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip install --quiet --editable . --requirement benchmarks/requirements.txt
	@touch $@
