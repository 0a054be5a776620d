# Everything there is to do in this repository. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# rustup puts cargo here, also where the shell has not read that yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
PREFIX ?= $(HOME)/.local
PYTHON_ENV := $(TARGET)/python
PROGRAMS := -p strongroom-cli -p strongroom-vault -p strongroom-tpm
# Built as the suites build everything: another choice of packages has other features, and compiles their dependencies again.
CHORE = $(CARGO) build --quiet --locked --workspace --bin strongroom-$(1) && $(TARGET)/debug/strongroom-$(1)

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: setup ## Build, serve the vaults of this user, and say what to type next
	$(CARGO) build --release --locked $(PROGRAMS)
	@echo
	@echo "In another terminal:  export PATH=\"$(TARGET)/release:\$$PATH\"   (or: make install)"
	@$(TARGET)/release/strongroom serve

install: setup ## Install programs, man pages and completions under PREFIX (~/.local), also over a server that runs
	$(CARGO) build --release --locked $(PROGRAMS)
	scripts/stage.sh $(TARGET)/release $(TARGET)/stage
	$(TARGET)/stage/install.sh $(PREFIX)

uninstall: ## Remove what install put under PREFIX; vaults stay
	packaging/install.sh --remove $(PREFIX)

dist: setup ## Tarball, Debian package, sums, signature (SIGNING_KEY=…) and measurements of a release, in target/dist
	scripts/dist.sh

demo: setup $(PYTHON_ENV)/demo ## The whole story in one terminal
	$(CARGO) build --release --locked $(PROGRAMS)
	demo/run.sh $(TARGET)/release $(PYTHON_ENV)/bin/python

check: setup ## Before each commit: format, lints, unit tests, documentation, arrows
	scripts/suites.sh check

test: setup $(PYTHON_ENV)/demo $(PYTHON_ENV)/vectors ## What CI runs: check, then every suite in its short form
	scripts/suites.sh test

soak: setup ## The long forms, fuzzing, licences, mutations: hours; before a release
	scripts/soak.sh

bench: setup ## Figures, each beside its floor or peer (PEERS=1 installs the peer; VAULTS=100 for fewer vaults)
	scripts/bench.sh

sim: setup ## Replay one seed of the simulator (SEED=42), or play many (SEEDS=1000)
	@$(call CHORE,sim) $(if $(SEEDS),--seeds $(SEEDS),--seed $(or $(SEED),$(error which one? make sim SEED=42)))

arrows: setup ## Compare dependencies between crates with ARCHITECTURE.md
	@$(call CHORE,xtask) arrows

documents: setup ## Write the pages that are made from the code: docs/errors.md, docs/limits.md
	@$(call CHORE,xtask) pages --write

vectors: setup $(PYTHON_ENV)/vectors ## Recompute every vector in Python
	$(PYTHON_ENV)/bin/python vectors/check/check.py vectors

clean: ## Remove what was built
	rm -rf fuzz/target
	$(CARGO) clean

# Not listed: what the targets above are made of.

setup:
	@scripts/setup.sh

demo-debug: $(PYTHON_ENV)/demo
	demo/run.sh $(TARGET)/debug $(PYTHON_ENV)/bin/python

$(PYTHON_ENV)/demo: demo/requirements.txt
$(PYTHON_ENV)/vectors: vectors/check/requirements.txt
$(PYTHON_ENV)/demo $(PYTHON_ENV)/vectors: | setup
	[ -x $(PYTHON_ENV)/bin/pip ] || python3 -m venv $(PYTHON_ENV)
	$(PYTHON_ENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.NOTPARALLEL:
.PHONY: help run install uninstall dist demo check test soak bench sim arrows documents vectors clean setup demo-debug
