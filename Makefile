# The door for people. `make demo` on a fresh Debian 12 brings up a lab of three hosts and asks it a question.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Any Python 3.11, 3.12 or 3.13 works as control node.
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(shell command -v python$(v) 2>/dev/null)) python3)
VENV := .venv
BIN := $(VENV)/bin
CACHE := $(or $(LABWRIGHT_CACHE),.cache)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
DEMO := $(BIN)/ansible-playbook -i inventories/demo
# Tests leave in build/junit how they ended, and of which commit: docs/reference/parity.md is made of that.
PYTEST = $(BIN)/pytest -o junit_suite_name=$$(git describe --always --dirty --abbrev=12 --exclude '*') --junitxml=build/junit

.PHONY: help ready demo demo-down test lint unit docs molecule contract windows e2e mutants bench soak lock lock-check trial clean develop

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: env/control/requirements.txt env/control/collections.txt env/control/collections.yml env/control/venv.sh
	@bash env/control/venv.sh "$(PYTHON)" $(VENV) env/control/requirements.txt
	@touch $@

$(VENV)/.develop: $(VENV)/.ready env/control/develop.txt
	@bash env/control/venv.sh "$(PYTHON)" $(VENV) env/control/develop.txt
	@touch $@

ready: $(VENV)/.ready ## Make the virtual environment that plans and provisions

develop: $(VENV)/.develop ## Make the virtual environment with all tools for changing Labwright

demo: $(VENV)/.ready ## Bring up three hosts on this machine, provision them, and let agents ask the lab
	$(DEMO) playbooks/demo_up.yml
	$(DEMO) site.yml
	$(DEMO) playbooks/ask.yml -e example=primes
	$(DEMO) playbooks/ask.yml -e program=coder -e example=leap-year
	$(DEMO) playbooks/ask.yml -e program=research -e example=api-port

demo-down: $(VENV)/.ready ## Take the demo's hosts away
	$(DEMO) playbooks/demo_down.yml

# Two suites at a time, each with hosts of its own: the demo from end to end takes as long as all others together. All are run, so that
# one that is red hides no other.
test: lint $(CACHE)/agents/.ready $(CACHE)/fastchat/.ready $(CACHE)/web/.ready $(CACHE)/nginx/.ready $(CACHE)/docs/.ready $(CACHE)/chromium/.ready ## All that CI runs: lint, unit tests, documentation, the demo from end to end, role tests, the service contract
	$(BIN)/python tests/lab/lab.py prerequisites --install
	$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target e2e unit docs molecule contract

lint: develop ## Style and types, with no findings and no skips
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline --strict
	$(MAKE) --no-print-directory lock-check
	set -e; for stack in chatglm2 current frontend agents; do out=$$($(BIN)/python env/pins.py --stack $$stack) || { echo "$$out"; exit 1; }; done

unit: develop $(CACHE)/agents/.ready $(CACHE)/fastchat/.ready $(CACHE)/web/.ready $(CACHE)/nginx/.ready $(CACHE)/chromium/.ready ## Unit tests, and those of the programs that run on hosts
	LABWRIGHT_NGINX=$(abspath $(CACHE))/nginx/usr/sbin/nginx $(PYTEST)/unit.xml tests/unit
	LABWRIGHT_AGENT_PYTHON=$(abspath $(CACHE))/agents/bin/python $(PYTEST)/agents.xml agents/tests
	LABWRIGHT_FASTCHAT_PYTHON=$(abspath $(CACHE))/fastchat/bin/python LABWRIGHT_PAGE_PYTHON=$(abspath $(CACHE))/web/bin/python $(PYTEST)/serve.xml tests/serve

docs: develop $(CACHE)/docs/.ready $(CACHE)/chromium/.ready ## The documentation as a site, in build/docs, and its tests in a browser
	$(CACHE)/docs/bin/python docs/site/build.py
	$(BIN)/pytest tests/docs

$(CACHE)/docs/.ready: env/control/docs.txt
	@mkdir -p $(CACHE)
	"$(PYTHON)" -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

# A browser, to see how wide pages get. It has too many libraries to be unpacked beside them, so the distribution installs it.
$(CACHE)/chromium/.ready:
	@command -v chromium >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }
	@mkdir -p $(@D)
	@touch $@

# Agents and FastChat run on Python 3.11 on the hosts, whatever the control node has; their tests do too.
$(CACHE)/agents/.ready: env/agents/autogen-linux-64.txt
$(CACHE)/fastchat/.ready: env/stacks/frontend/fastchat-linux-64.txt
$(CACHE)/web/.ready: env/stacks/web/fastchat-linux-64.txt
$(CACHE)/agents/.ready $(CACHE)/fastchat/.ready $(CACHE)/web/.ready:
	@command -v python3.11 >/dev/null || { echo "LW-CONTROL-003: tests of what runs on hosts need python3.11; install it." >&2; exit 2; }
	@mkdir -p $(CACHE)
	python3.11 -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

molecule: develop ## Every role under Molecule on Debian 12 and 13, two scenarios at a time, with their times
	$(PYTEST)/molecule.xml tests/roles

contract: develop ## The service contract: what a service does when it crashes, hangs, is changed or removed; on Debian 12 and 13
	$(PYTEST)/contract.xml tests/contract/test_contract.py

# The gateway's tests run the distribution's nginx, unpacked and not installed.
$(CACHE)/nginx/.ready:
	@mkdir -p $(@D)
	cd $(@D) && { apt-get download -q nginx || { apt-get update -q && apt-get download -q nginx; }; } && dpkg-deb -x nginx_*.deb .
	@touch $@

windows: develop ## Windows: real Ansible, WinRM and nssm.exe on Wine, with stand-ins for PowerShell's modules and for Python
	$(PYTEST)/windows.xml tests/windows_target tests/contract/test_nssm.py tests/windows

e2e: develop ## The demo from end to end, with faults
	$(PYTEST)/e2e.xml tests/e2e

MUTANTS ?=
mutants: develop $(CACHE)/agents/.ready $(CACHE)/fastchat/.ready $(CACHE)/web/.ready $(CACHE)/nginx/.ready ## Break each role in a few places: a test must turn red each time (MUTANTS='--role git')
	LABWRIGHT_NGINX=$(abspath $(CACHE))/nginx/usr/sbin/nginx LABWRIGHT_AGENT_PYTHON=$(abspath $(CACHE))/agents/bin/python LABWRIGHT_FASTCHAT_PYTHON=$(abspath $(CACHE))/fastchat/bin/python LABWRIGHT_PAGE_PYTHON=$(abspath $(CACHE))/web/bin/python $(BIN)/python tests/mutants.py $(MUTANTS)

bench: develop ## Measure: a thousand and ten thousand hosts planned, an environment from the bundle (after `make demo`)
	$(BIN)/python tests/bench/plan.py
	$(BIN)/python tests/bench/environment.py

soak: develop ## Ten thousand requests through the demo, and what memory each process then has; half an hour or more (after `make demo`)
	$(BIN)/python tests/bench/soak.py

lock-check: develop ## Locks fit their sources, the catalogue and their own wheels' requirements; reads files only
	$(BIN)/python env/lock.py --check
	$(BIN)/python env/locking/conda.py --check

lock: develop ## Make the locks anew from their sources
	$(BIN)/python env/lock.py
	$(BIN)/python env/locking/conda.py

STACK ?= chatglm2
TAG ?= cpu
trial: develop ## Install a stack's locks afresh, serve tiny models with them, write down what passed (STACK=… TAG=…)
	$(BIN)/python env/trial.py $(STACK) --tag $(TAG)

clean: ## Take away everything that make and the demo put on this machine
	@if [ -x $(BIN)/python ]; then $(BIN)/python tests/lab/windows/target.py clean; $(BIN)/python tests/lab/lab.py clean; fi
	rm -rf $(VENV) $(CACHE)
