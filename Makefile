# Everything there is to do in this repository. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET ?= target
PYTHON_ENV := $(TARGET)/python

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: setup ## Build, serve the vaults of this user, and say what to type next
	$(CARGO) build --release --locked -p strongroom-cli -p strongroom-vault
	@echo "The command is $(TARGET)/release/strongroom; 'make install' puts it into your PATH."
	$(TARGET)/release/strongroom serve

install: setup ## Install both programs (PREFIX=~/.local)
	$(CARGO) build --release --locked -p strongroom-cli -p strongroom-vault
	install -D -m 755 $(TARGET)/release/strongroom $(or $(PREFIX),$(HOME)/.local)/bin/strongroom
	install -D -m 755 $(TARGET)/release/strongroom-vault $(or $(PREFIX),$(HOME)/.local)/bin/strongroom-vault

setup: ## Install the Debian packages that the build needs
	scripts/setup.sh

check: setup ## Before each commit: format, lints, unit tests, documentation, arrows
	scripts/suites.sh check

test: setup ## What CI runs: check, then every suite in its short form
	scripts/suites.sh test

demo: setup $(PYTHON_ENV)/demo ## The whole story in one terminal
	$(CARGO) build --release --locked -p strongroom-cli -p strongroom-vault
	demo/run.sh $(TARGET)/release $(PYTHON_ENV)/bin/python

demo-debug: $(PYTHON_ENV)/demo
	demo/run.sh $(TARGET)/debug $(PYTHON_ENV)/bin/python

vectors: $(PYTHON_ENV)/vectors ## Recompute every vector in Python
	$(PYTHON_ENV)/bin/python vectors/check/check.py vectors

$(PYTHON_ENV)/%: vectors/check/requirements.txt demo/requirements.txt
	python3 -m venv $(PYTHON_ENV)
	$(PYTHON_ENV)/bin/pip install --quiet --disable-pip-version-check -r $(if $(filter demo,$*),demo,vectors/check)/requirements.txt
	touch $@

clean: ## Remove what was built
	$(CARGO) clean

.PHONY: help run install setup check test demo demo-debug vectors clean
