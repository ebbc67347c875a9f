# Two commands for everybody: `make demo` and `make test`.
# On a fresh Debian 12/13 or Ubuntu machine, as root, with Python 3.11 to 3.14.

VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := $(VENV)/peers/.ready
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-node test-vm test-dmcrypt test-vllm test-dkms test-h100 lint format bench corpus clean distclean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## Build, sign and verify a bundle; install a practice node from it; show the proof
	@PATH="$(abspath $(BIN)):$$PATH" sh demo/run.sh

test: $(READY) ## Lint, and every test: unit, corpus, archive; practice nodes and virtual machines beside these
	$(BIN)/python scripts/run_tests.py

test-unit: $(READY) ## Only the tests that need no network, no root and no practice node
	$(PYTEST) -m "not bench and not node and not vm and not archive and not dmcrypt"

test-node: $(READY) ## Only the tests on a booted practice node
	$(PYTEST) -m "node and not bench and not dmcrypt and not vllm and not dkms and not h100"

test-vllm: $(READY) ## Only this: real vLLM on a practice node, from a bundle; gigabytes and a quarter of an hour
	$(PYTEST) -m vllm -s

test-dkms: $(READY) ## Only this: NVIDIA's drivers compiled by dkms on practice nodes, from bundles; half an hour for each of three
	$(PYTEST) -m dkms -s

test-h100: $(READY) ## Only this: bundles/h100-vllm.yaml built, and installed on a practice node; 50 GB and a quarter of an hour
	$(PYTEST) -m h100 -s

test-vm: $(READY) ## Only the tests on virtual machines in software emulation: minutes
	$(PYTEST) -m "vm and not bench"

test-dmcrypt: $(READY) ## On this machine those that need dm-crypt, and root; test-vm has them too
	$(PYTEST) -m dmcrypt

corpus: $(READY) ## Only the hostile inputs; by kind, how many there are, and that none was accepted
	$(PYTEST) -q tests/corpus

bench: $(READY) $(PEERS) ## Ratios against the tools people use today, measured in this run
	$(PYTEST) -m bench -s

lint: $(READY) ## ruff, mypy --strict, shellcheck, yamllint, ansible-lint (production profile, offline)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	shellcheck appliance/bundle/bootstrap.sh demo/run.sh scripts/*.sh
	$(BIN)/yamllint --strict .
	PATH="$(abspath $(BIN)):$$PATH" ANSIBLE_HOME="$(abspath .ansible)" ansible-lint --offline

format: $(READY) ## Let ruff lay out the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what demo and tests made; practice nodes are taken down first
	@if [ -x $(BIN)/appliance ]; then $(BIN)/appliance lab down --all; fi
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .ansible
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Also remove the virtual environment
	rm -rf $(VENV)

# The one place where anything is installed: system packages, then the virtual environment.
$(READY): pyproject.toml system-packages.txt scripts/install-requirements.sh
	sh scripts/install-requirements.sh $(VENV)
	@touch $@

# What `make bench` compares with, and nothing else needs.
$(PEERS): $(READY) bench-packages.txt bench-requirements.txt scripts/install-bench.sh
	sh scripts/install-bench.sh $(BIN)/python $(VENV)/peers
	@touch $@
