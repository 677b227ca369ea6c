# Everything a person or CI does with this checkout. Needs Python >= 3.11 and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --require-hashes --no-deps --no-build-isolation --use-pep517
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
PROOF := $(VENV)/.proof-installed
AUDIT_VENV := .venv-audit
LOCK_VENV := .venv-lock
UV_VERSION := 0.13.9
ENGINE ?= docker
IMAGE ?= cloudflare-access-forwarder
SOURCE ?=
ARGS ?=
MINUTES ?= 60

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test check fmt coverage lock integration integration-all fuzz bench flamegraphs pictures proof proof-long audit docs generate golden splunk-app dist image clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|' 2>/dev/null \
	  || grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST)

venv: $(DEV)  ## Create .venv with everything that `make test` needs

demo: $(RUNTIME)  ## Simulated Cloudflare, the daemon, events on the terminal (ARGS="--for 10s")
	@$(BIN)/forwarder demo $(ARGS)

test: check  ## Lint, types, import rules and the tests, on two cores
	$(BIN)/pytest -n 2 -m "not integration and not proof" $(ARGS)

check: $(DEV)  ## Lint, formatting, types, import rules, security lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive forwarder
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/zizmor --quiet --offline --no-progress .github/workflows

fmt: $(DEV)  ## Format and repair what can be repaired automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(DEV)  ## The tests with branch coverage
	$(BIN)/pytest -m "not integration and not proof" --cov --cov-report=term-missing:skip-covered $(ARGS)

integration: $(PROOF)  ## Tests against real destinations that this machine can start (STRICT=1: all of them)
	$(BIN)/pytest $(SERVERS) -m "integration and not proof and not lengthy" $(ARGS)

integration-all: $(PROOF)  ## The same, with what must be built first: the image, servers in Go; needs root
	$(BIN)/pytest $(SERVERS) -m "integration and not proof" $(ARGS)

# A file's tests share the servers that it starts; most of their time they wait. In the order of their
# names, as the files with the fewest tests take longest. In a folder with a short name: the path of a
# socket in it may have 107 characters.
SERVERS = -n 2 --dist loadfile --no-loadscope-reorder --basetemp "$$(mktemp -d)"
# What measures time or memory has the machine for itself, after everything else, which shares it.
TOGETHER := -n 3 --dist worksteal
LONG := PROOF_RUN=proof-long HYPOTHESIS_PROFILE=long
# With ARGS="-k ..." one of the two may have nothing to run, which pytest says with 5.
OR_NONE := || test $$? = 5

proof: $(PROOF)  ## The promises under crashes and faults, a few minutes
	PROOF_RUN=proof $(BIN)/pytest $(TOGETHER) -m "proof and not slow and not alone" --timeout 1200 $(ARGS) $(OR_NONE)
	PROOF_RUN=proof $(BIN)/pytest -m "proof and not slow and alone" --timeout 1200 $(ARGS) $(OR_NONE)

proof-long: $(PROOF)  ## The same for as long as it takes, with ten times the examples
	$(LONG) $(BIN)/pytest $(TOGETHER) -m "proof and not alone" --timeout 0 $(ARGS) $(OR_NONE)
	$(LONG) $(BIN)/pytest -m "proof and alone" --timeout 0 $(ARGS) $(OR_NONE)

fuzz: $(PROOF)  ## Coverage-guided fuzzing of what reads an API answer, an hour (MINUTES=5: shorter)
	PROOF_RUN=proof-long FUZZ_MINUTES=$(MINUTES) $(BIN)/pytest tests/proof/test_fuzz.py -k coverage_guided --timeout 0

bench: $(PROOF)  ## Measure and write docs/performance.md, long (ARGS="--rows 200000": shorter; "--against DIR": beside another checkout)
	$(BIN)/python -m bench $(ARGS)

flamegraphs: $(PROOF)  ## Draw where the daemon's time goes, docs/images/flame-*.svg
	$(BIN)/python -m bench.flamegraphs $(ARGS)

pictures: $(PROOF)  ## Take the picture of the status page of a forwarder that runs; some minutes
	@$(BIN)/python -m tests.docs.pictures

generate: $(DEV)  ## Write what is generated: values schema, manifests, pages of docs/
	$(BIN)/python -m deploy.generate

golden: $(DEV)  ## Rewrite the golden files in tests/golden/expected; review what changed
	$(BIN)/python -m tests.golden.update

splunk-app: $(BIN)/python  ## Pack the Splunk app, dist/cloudflare_access_forwarder.tgz
	@$(BIN)/python -m deploy.splunk

dist: $(DEV)  ## Write a release but its image: wheel, sdist, chart, SIEM content, checksums, in dist/
	@$(BIN)/python -m deploy.release

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' forwarder/__init__.py)
BASE = $(shell sed -n 's/^ARG PYTHON_IMAGE=//p' deploy/Dockerfile)

image:  ## Build the image on the newest base, pinned by its digest (ENGINE=podman IMAGE=name SOURCE=url)
	$(ENGINE) pull $(BASE)
	$(ENGINE) build --file deploy/Dockerfile --tag $(IMAGE):$(VERSION) \
	  --build-arg PYTHON_IMAGE="$$($(ENGINE) image inspect --format '{{index .RepoDigests 0}}' $(BASE))" \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION="$$(git rev-parse HEAD)" --build-arg SOURCE=$(SOURCE) .

docs: $(DEV)  ## Check that the documentation agrees with the code
	$(BIN)/pytest tests/docs tests/deploy/test_generated.py $(ARGS)

audit: $(RUNTIME)  ## Bill of materials and known vulnerabilities of the locked packages
	test -d $(AUDIT_VENV) || $(PYTHON) -m venv $(AUDIT_VENV)
	$(AUDIT_VENV)/bin/pip install --quiet --require-hashes --no-deps -r requirements/audit.txt
	$(AUDIT_VENV)/bin/cyclonedx-py requirements --output-file sbom.json requirements/image.txt
	$(AUDIT_VENV)/bin/pip-audit --disable-pip --require-hashes -r requirements/image.txt

# One lock for each purpose, hash-pinned, for every supported Python and platform, naming no index.
COMPILE = $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS)

lock:  ## Pin what pyproject.toml asks for (ARGS=--upgrade for the newest)
	test -d $(LOCK_VENV) || $(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/pip install --quiet uv==$(UV_VERSION)
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --all-extras -c requirements/runtime.txt -o requirements/image.txt
	$(COMPILE) --group build -o requirements/build.txt
	$(COMPILE) pyproject.toml --group dev -c requirements/image.txt -c requirements/build.txt -o requirements/dev.txt
	$(COMPILE) --group proof -c requirements/dev.txt -o requirements/proof.txt
	$(COMPILE) --group audit -o requirements/audit.txt
	$(COMPILE) --group splunk -o requirements/splunk.txt

clean:  ## Remove everything that was made
	rm -rf $(VENV) $(AUDIT_VENV) $(LOCK_VENV) build dist sbom.json .coverage htmlcov .pytest_cache .mypy_cache \
	  .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "forwarder needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`." \
	  "Say which one to use: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements/build.txt requirements/runtime.txt pyproject.toml forwarder/__init__.py | $(BIN)/python
	@echo "installing the locked packages into $(VENV): about a minute, once"
	@$(INSTALL) -r requirements/build.txt -r requirements/runtime.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.txt
	@echo "installing what the tests need into $(VENV)"
	@$(INSTALL) -r requirements/dev.txt
	@touch $@

$(PROOF): $(DEV) requirements/proof.txt
	@echo "installing what the long suites need into $(VENV)"
	@$(INSTALL) -r requirements/proof.txt
	@touch $@
