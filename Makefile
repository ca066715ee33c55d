# `make demo` and `make test` do everything a fresh clone needs, the environment included.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Installation is complete when this file is newer than what it was made from.
READY := $(VENV)/.installed

export OMP_NUM_THREADS ?= 2

.PHONY: demo test lint format docs clean

demo: $(READY)  ## Render a scene, train iga-nerf-tiny and the plain NeRF on it, evaluate and show both.
	$(BIN)/iga-demo

# Two files at a time, one thread each: most tests wait for processes that start on one core.
test: $(READY)  ## Run every test.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: $(READY)  ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## README, docs/ and the reference of all modules as one site, to site/; a broken link fails.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build dist *.egg-info outputs data site

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13) and "nerfstudio 1.1.5 needs numpy 1, which has no wheels for Python 3.13; try: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# First, so that its wheels are off the disk before the others are on it: 2.5 GB less at the most.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	# Without its dependencies: it wants an OpenCV that brings a display along, and all else it needs here is there.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps nerfbaselines plyfile
	touch $@
