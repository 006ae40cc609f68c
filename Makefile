# The verbs of the project; continuous integration calls nothing else.

VENV := .venv
READY := $(VENV)/.ready
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

N ?= 50
JOBS ?= 2

.PHONY: help demo check test crashtest bench clean

help:
	@echo "make demo    train on real handwriting, kill it half-way, resume, show the run (folder demo/)"
	@echo "make check   format, lint, types, import contracts, spelling"
	@echo "make test    the whole suite, offline, in JOBS=2 processes"
	@echo "make crashtest N=50 [SEED=1]   kill trainings at random, resume them, compare with one left alone"
	@echo "make bench   what tracking costs, beside other tools (half an hour, on a quiet machine)"
	@echo "make clean   remove the environment, the demo and everything that tools left"

demo: $(READY)
	mmrun demo run demo

check: $(READY)
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	codespell

test: export HF_HUB_OFFLINE := 1
test: export HF_DATASETS_OFFLINE := 1
test: export TRANSFORMERS_OFFLINE := 1
test: export OMP_NUM_THREADS := 1
test: $(READY)
	pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

crashtest: export HF_HUB_OFFLINE := 1
crashtest: $(READY)
	python -m tests.crashtest $(N) $(if $(SEED),--seed $(SEED))

bench: $(READY)
	python -m benchmarks $(ARGS)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found" >&2; \
		echo "try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(VENV)/bin/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing into $(VENV), which takes some minutes the first time"
	python -m pip install --quiet --quiet -c constraints.txt -e '.[all,demo,s3,postgresql,dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo bench build dist .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find mmrun tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
