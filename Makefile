# Two commands do all the set-up they need on a machine with Python >= 3.11 and a network:
#   make demo    invert and edit an example photograph with the embedded model
#   make test    lint, types, tests
# Two more run the tests in environments of their own, which takes another gigabyte and some minutes each:
#   make test-lowest    with the lowest versions that pyproject.toml accepts
#   make test-newest    with the newest there are
PYTHON ?= python3
VENV ?= .venv
DATA ?= ../shared/data
BIN := $(VENV)/bin
RANKS ?= --threads 1 --ranks 2# for a CPU of two cores; RANKS= for a GPU
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-lowest test-newest lint types pytest format bench orchard constraints clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(RUN)
	$(BIN)/renoise demo

test: lint types pytest

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The version is pinned; the variable only keeps pyright from asking the network for a newer one.
types: $(DEV)
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

# One thread a worker: tiny tensors gain nothing from more, and workers share the cores.
pytest: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4

# Both with the torch of constraints.txt: PyPI's other releases for Linux bring gigabytes of CUDA, without which they fail.
test-lowest: VERSIONS := -c constraints-lowest.txt
test-lowest test-newest: test-%:
	rm -rf .venv-$*
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check $(VERSIONS) \
		"$$(sed -n '/^torch==/p' constraints.txt)" -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest -q -n auto --maxprocesses 4

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Measures how photographs come back, from their folder; the other benchmarks are in benchmarks/README.md.
bench: $(RUN)
	$(BIN)/renoise bench reconstruction "$(DATA)" --output benchmarks

# Trains the embedded model again from a folder of pictures (training/README.md).
orchard: $(RUN)
	$(BIN)/python -m training.data --data "$(DATA)" --count 20000 --seeds 0 1 2
	$(BIN)/python -m training.autoencoder --data "$(DATA)" --seeds 0 1 2 --minutes 10 $(RANKS)
	$(BIN)/python -m training.autoencoder --data "$(DATA)" --seeds 0 1 2 --encode
	$(BIN)/python -m training.denoiser --data "$(DATA)" --seeds 0 1 2 --minutes 68 $(RANKS) --name narrow --blocks 32 96 128 192
	$(BIN)/python -m training.denoiser --data "$(DATA)" --seeds 0 1 2 --minutes 115 $(RANKS) --start runs/narrow
	$(BIN)/python -m training.export --data "$(DATA)"
	$(BIN)/python -m training.decoder --data "$(DATA)" --seeds 0 --draw
	$(BIN)/python -m training.decoder --data "$(DATA)" --seeds 0 --minutes 40
	$(BIN)/python -m training.export --data "$(DATA)"
	$(BIN)/python -m training.judge --data "$(DATA)" --minutes 14
	$(BIN)/python -m training.example
	$(BIN)/python -m training.evaluate --data "$(DATA)" --count 400
	$(BIN)/python -m training.distill turbo --data "$(DATA)" --seeds 0 1 2 --minutes 35 $(RANKS)
	$(BIN)/python -m training.distill lcm --data "$(DATA)" --seeds 0 1 2 --minutes 12 $(RANKS) --start runs/turbo
	$(BIN)/python -m training.export turbo --data "$(DATA)"
	$(BIN)/python -m training.export lcm --data "$(DATA)"
	$(BIN)/python -m training.siblings --data "$(DATA)" --count 200

# Both stamps go stale with the files that say what to install, and only then.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing renoise into $(VENV): a few minutes the first time ..."
	$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing renoise and its development tools into $(VENV): a few minutes the first time ..."
	$(PIP) -e '.[dev]'
	@touch $(RUN) $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "renoise needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

constraints: $(DEV)
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest dist build .pytest_cache .ruff_cache .hypothesis
