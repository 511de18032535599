# Every target works as the first command in a fresh clone: it needs Python >= 3.11, a Rust toolchain, and make.
# The environment lives in .venv; the library is built once, in release, and again when Rust sources change.

PYTHON ?= python3
BIN := .venv/bin
CORE := python/roofline_fast/_core.abi3.so
RUST := Cargo.toml Cargo.lock $(shell find rust -type f -not -path "*/target/*")

.DEFAULT_GOAL := help
.PHONY: help build wheel demo test lint test-rust test-python bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: $(CORE) ## Create .venv and build the library into it

wheel: .venv/tools ## Build a wheel into dist/
	$(BIN)/maturin build --profile dist --locked --quiet --out dist

demo: $(CORE) ## Simulate ten minutes of chat on one GPU
	$(BIN)/roofline-fast simulate examples/chat.jsonl --hw h100

test: lint test-rust test-python ## Run every check

lint: $(CORE) ## Formatting, lints and types
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml roofline_fast._core

test-rust: ## Unit tests and documentation examples of the crates
	cargo test --workspace --locked --quiet

test-python: $(CORE) ## Python tests, docstring and README examples
	$(BIN)/pytest

bench: $(CORE) ## Time whole units of work
	$(BIN)/python benches/run.py

clean: ## Remove everything that was built
	rm -rf .venv target dist $(CORE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python tests examples benches -name __pycache__ -type d -prune -exec rm -rf {} +

# pip of Python 3.11 does not know dependency groups yet.
.venv/tools: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 must run this: PYTHON=python3.12 make")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

# Python sources are used in place; only Rust makes this out of date.
$(CORE): .venv/tools $(RUST)
	PIP_QUIET=1 $(BIN)/maturin develop --release --locked --quiet
	touch $@
