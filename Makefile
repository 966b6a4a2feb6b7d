# The commands of this repository; `make help` lists them.
SHELL := /usr/bin/env bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTHON := .venv/bin/python

# molecule: where the scenarios are, and plain output that a log can hold.
export MOLECULE_GLOB := molecule/*/molecule.yml
export MOLECULE_COMMAND_BORDERS := false

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup lock images demo demo-down grade clean-images test test-molecule test-vm test-vm-down

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv, with every tool in its locked version
	@lab/setup.sh

lock: setup ## Renew requirements/*.txt from requirements/*.in
	@$(LOCK) requirements/dev.in --output-file requirements/dev.txt --upgrade
	@$(LOCK) requirements/uv.in --output-file requirements/uv.txt --constraint requirements/dev.txt
	@$(LOCK) requirements/s3.in --output-file requirements/s3.txt --constraint requirements/dev.txt
	@$(LOCK) requirements/grade.in --output-file requirements/grade.txt

images: setup ## Build the images of the test bench; HOSTS="ubuntu-24.04" for others
	@lab/engine.sh
	@$(PYTHON) lab/images.py $(if $(HOSTS),$(HOSTS) pebble bucket)

demo: ## A whole site on a throw-away host, over HTTPS from a real ACME server
	@DEMO_STARTED=$$(date +%s) && export DEMO_STARTED && lab/setup.sh && $(PYTHON) lab/demo.py up

demo-down: ## Remove the demo: containers, network, .demo
	@$(or $(wildcard $(PYTHON)),python3) lab/demo.py down

grade: setup ## Grade the demo by other people's tools; needs `make demo`
	@$(PYTHON) lab/images.py grader
	@$(PYTHON) lab/grade.py

clean-images: ## Remove the images of the test bench
	@$(or $(wildcard $(PYTHON)),python3) lab/images.py --clean

test: setup ## Everything that CI checks; STEPS="lint unit" for a part
	@$(PYTHON) tests/run.py $(STEPS)

test-molecule: setup ## One role on a bare host: make test-molecule ROLE=nginx
	@$(PYTHON) tests/run.py molecule-$(or $(ROLE),$(error say which role: make test-molecule ROLE=nginx))

test-vm: export VM_SYSTEM = $(or $(SYSTEM),debian-13)
test-vm: PYTEST = $(PYTHON) -m pytest -p no:cacheprovider
test-vm: setup ## The site on a booted machine, reboots and faults: SYSTEM=debian-12, VM_IMAGE=<cloud image>, TESTS=<part>
	@$(PYTEST) -q --collect-only $(or $(TESTS),tests/vm)
	@lab/engine.sh
	@$(PYTHON) lab/images.py debian-13 pebble bucket vm
	@$(PYTEST) -x -v --durations=0 --durations-min=1 $(or $(TESTS),--record tests/vm)

test-vm-down: ## Remove the machine that KEEP_VM=1 has left
	@PYTHONPATH=lab $(PYTHON) tests/vm/virtual.py
