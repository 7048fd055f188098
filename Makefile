# The commands of this repository. `make up` runs the platform, `make test` proves it, `make check` reads the code.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := $(CURDIR)/.venv/bin

# Node and npm come from the venv, so every machine runs the same ones.
export PATH := $(BIN):$(PATH)
export PYTHONPATH :=

# What `make check` runs, side by side.
CHECKS := check-format check-lint check-types check-imports check-contracts check-breaking check-gen check-overview check-web
# Hard links into a shared cache break packages that are later written to, and fail across file systems.
export UV_LINK_MODE := copy

.PHONY: help install up test check bench strangers syncs machines gen contracts format lock browser web $(CHECKS)

CONTRACTS := $(shell find proto gen/proto gen/python -type f -not -name '*.pyc' 2> /dev/null)

# The folders of gen/ that are generated as a whole; what else lies there is written by hand.
GENERATED := python/octopus python/buf ts/octopus ts/buf
# Where the published contracts are: the branch that others see, or the only one there is.
PUBLISHED := $(shell git rev-parse --quiet --verify origin/main > /dev/null 2>&1 && echo origin/main || echo main)

WEB_SOURCES := $(shell find edge/web gen/ts -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2> /dev/null)

help: ## show the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

install: .venv/installed ## create .venv from requirements.lock; needs Python 3.11 or newer and nothing else

# uv does not read pip's settings; where only pip can reach the packages, pip installs them, slower.
.venv/installed: requirements.lock Makefile
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python %d.%d is too old: Octopus needs 3.11 or newer. Install one and run: make PYTHON=python3.11 $(MAKECMDGOALS)" % sys.version_info[:2])'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	uv pip sync --quiet --python .venv/bin/python requirements.lock \
	  || .venv/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	@# The repository's root and the generated code are import roots, and `octopus` is a command.
	printf '%s\n' '$(CURDIR)' '$(CURDIR)/gen/python' > "$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/octopus.pth"
	printf '%s\n' '#!$(BIN)/python' 'from mesh.platform.cli import main' '' 'main()' > .venv/bin/octopus
	chmod +x .venv/bin/octopus
	touch $@

edge/web/node_modules/.package-lock.json: edge/web/package-lock.json | .venv/installed
	cd edge/web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

web: edge/web/dist/.built ## build the web pages

edge/web/dist/.built: edge/web/node_modules/.package-lock.json $(WEB_SOURCES)
	cd edge/web && npm run --silent build
	mkdir -p $(@D) && touch $@

contracts: install dist/contracts/index.json ## write what strangers build clients from: dist/contracts

dist/contracts/index.json: $(CONTRACTS) | .venv/installed edge/web/node_modules/.package-lock.json
	python proto/packages/publish.py dist/contracts

# Debian's browser and a font with Chinese characters; elsewhere the tests say what they miss.
browser:
	@command -v chromium chromium-browser google-chrome > /dev/null || { \
	  command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ] || { echo 'No browser found. Install chromium and fonts-noto-cjk for the browser tests.'; exit 0; }; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk > /dev/null; }

gen: .venv/installed edge/web/node_modules/.package-lock.json ## write gen/ anew from proto/, and the README's picture; works offline
	python .ci/language_options.py proto
	python .ci/proto_text.py gen/proto
	rm -rf $(addprefix gen/,$(GENERATED))
	buf generate
	python -m mesh.platform.overview

format: .venv/installed ## put the code into its one format
	ruff format .
	ruff check --fix .

up: install web contracts ## run the whole platform on this machine
	octopus up

# Most tests wait for something most of the time, so two run side by side; a folder or a file runs in one process.
WORKERS ?= $(if $(TESTS),0,2)

test: install web browser contracts ## run every test
	pytest --numprocesses=$(WORKERS) --max-worker-restart=0 $(TESTS)

# Besides what `make install` brings, this wants Go 1.24 or newer and its module proxy.
strangers: install web contracts ## try the contracts with grpcurl and a client in Go
	GOBIN=$(CURDIR)/.venv/go go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
	GOBIN=$(CURDIR)/.venv/go go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
	GOBIN=$(CURDIR)/.venv/go go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
	PATH="$(CURDIR)/.venv/go:$$PATH" pytest e2e/with_go/check_strangers.py

# Not part of `make test`: it wants strace.
syncs: install ## count NATS's synchronizations between what is sent and its acknowledgement
	pytest -s mesh/platform/components/tests/check_syncs.py

# Network namespaces want root and iproute2. Not part of `make test`: it takes the machine for some minutes.
machines: install ## cut off one of three machines, with NATS R3, two standbys and sentinels, while people talk
	pytest -s e2e/machines/check_network.py e2e/machines/check_machines.py

bench: install web ## measure throughput, latency and memory through Envoy
	python -m e2e.bench

check: install edge/web/node_modules/.package-lock.json ## read the code: format, rules, types, layers, contracts; under a minute
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target $(CHECKS)
	@echo 'check: nothing to mend'

check-format:
	ruff format --check --quiet . || { echo 'Run: make format'; exit 1; }

check-lint:
	ruff check --quiet .

check-types:
	mypy --no-error-summary

check-imports:
	found=$$(lint-imports --no-logo) || { echo "$$found"; exit 1; }

check-contracts:
	buf lint proto

check-breaking:
	@# The published contracts may be from before gen/proto, so what they import is taken from here.
	@git rev-parse --quiet --verify $(PUBLISHED) > /dev/null || { echo 'No published contracts: there is no branch $(PUBLISHED).'; exit 0; }; \
	published=$$(mktemp -d); trap 'rm -rf $$published' EXIT; \
	git archive $(PUBLISHED) proto | tar -xC $$published; \
	mkdir $$published/gen; cp -r gen/proto $$published/gen; cp buf.yaml $$published; \
	buf breaking proto --against $$published/proto

check-gen:
	@fresh=$$(mktemp -d); trap 'rm -rf $$fresh' EXIT; \
	python .ci/proto_text.py $$fresh/gen/proto; \
	buf generate --output $$fresh; \
	for folder in proto/buf $(GENERATED); do \
	  diff --recursive --brief --exclude=__pycache__ $$fresh/gen/$$folder gen/$$folder \
	    || { echo "gen/$$folder is not what proto/ gives. Run \`make gen\` and commit the result."; exit 1; }; \
	done

check-overview:
	python -m mesh.platform.overview --check

check-web:
	cd edge/web && node_modules/.bin/tsc --noEmit

# Keeps the versions that are locked, unless told otherwise: make lock UPGRADE=--upgrade
lock: .venv/installed ## pin in requirements.lock what pyproject.toml names, and all that it brings
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --quiet \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links $(UPGRADE) --output-file requirements.lock
