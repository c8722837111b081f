# make demo   repairs a photograph with the model that ships with pixmend
# make test   ruff, mypy and pytest
# make clean  removes what these made (.venv as well)
#
# Both make .venv first and do nothing to it when it is up to date. To take torch from a place other than pip's default
# index, such as the CPU builds that pytorch.org names: make demo TORCH_ARGS="--index-url ADDRESS"

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)
TORCH_ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
DEMO := runs/demo

.PHONY: demo test clean

demo: .venv/.installed
	@mkdir -p $(DEMO)
	$(BIN)/pixmend demo --output $(DEMO)/mended.png --overwrite

test: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# torch alone and first: what follows finds it there and leaves it as it is. It brings setuptools, our build backend.
.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "pixmend needs Python 3.11 or newer with venv; none was found" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(PIP) $(TORCH_ARGS) torch
	$(PIP) --no-build-isolation --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist src/*.egg-info $(DEMO)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
