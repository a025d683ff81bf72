# Every target does its own set-up in .venv and repeats none of it. Needs only make and Python 3.11 or newer.
#
#   make bench                            all algorithms on the built-in world: train, score, leaderboard
#   make bench ARGS="my.yaml --seeds 5"   arguments for `zoo bench`
#   make test                             all tests;  ARGS="plugins/ppo -k clip" for some of them
#   make lint                             style and types
#   make mutants                          break each line of every loss and see a test go red
#   make benchmark                        speed, beside TRL as well; see tests/benchmarks/README.md
#   make dist                             the wheels of all distributions, in dist/: pip install --find-links dist rlhf-zoo
#   make results                          the results in all READMEs, from the board in leaderboard/published/quick
#   make screens                          docs/screens, what a terminal shows; needs tmux
#   make parity                           our losses and gradients beside TRL's, in environments apart from .venv
#   make oldest                           a small bench with the oldest versions that the pyproject files allow
#   make venv | clean                     only the set-up | remove it, wheels and caches (never results)
#
# HF_HUB_OFFLINE=0 make bench ARGS=...    lets models and data sets come from the hub
# PYTHON=python3.12 make ...              makes .venv with another Python

PYTHON ?= python3
PROJECTS := $(patsubst %/,%,$(dir $(wildcard plugins/*/pyproject.toml harness/pyproject.toml leaderboard/pyproject.toml)))
INPUTS := constraints.txt $(addsuffix /pyproject.toml,. $(PROJECTS))
PIP := .venv/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt
TRL := .parity/trl-1.16/installed .parity/trl-1.12/installed
OLDEST := .oldest/bin/python -m pip --disable-pip-version-check install --no-compile --constraint .oldest/constraints.txt

# Cells and tests run one thread each: several of them share the cores, and OpenMP threads that wait spin.
OMP_NUM_THREADS ?= 1
HF_HUB_OFFLINE ?= 1
export OMP_NUM_THREADS HF_HUB_OFFLINE

.PHONY: help bench test lint mutants benchmark dist results screens parity parity-environments oldest venv install clean

help:  # the comment at the top of this file
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

bench: venv
	.venv/bin/zoo bench $(ARGS)

test: venv
	.venv/bin/pytest --numprocesses logical --dist loadfile --no-loadscope-reorder $(ARGS)

lint: venv
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python tests/commits.py

mutants: venv
	.venv/bin/python tests/mutation.py $(ARGS)

benchmark: venv parity-environments
	.venv/bin/pytest tests/benchmarks $(ARGS)
	.venv/bin/python tests/benchmarks/table.py

# rlhf-zoo has no code, only the names of the others; an editable installation has no use for it.
dist: venv
	rm -rf dist
	for project in . rlhf-zoo $(PROJECTS); do \
	  (cd $$project && $(CURDIR)/.venv/bin/python -m hatchling build --target wheel --directory $(CURDIR)/dist) || exit 1; \
	done

screens: venv
	.venv/bin/python tests/captures.py

results: venv
	.venv/bin/python tests/results.py $(ARGS)

parity-environments: $(TRL)

parity: venv parity-environments
	.venv/bin/pytest tests/test_parity.py tests/test_parity_pairs.py tests/test_parity_rollouts.py \
	  tests/test_parity_distillation.py $(ARGS)

.parity/%/installed: tests/parity/%.txt constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt torch
	$(@D)/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt --requirement $<
	@touch $@

# A spec with flags over it, a tracker, an adapter and tasks: what one row reaches, the bench reaches with few updates.
# Its folder is removed, for what is done is not done again.
oldest: .oldest/installed
	rm -rf .oldest/runs
	.oldest/bin/zoo bench docs/results/quick/spec.yaml --preset smoke --seeds 1 --algorithms coreset,dpo,ppo \
	  --budget 2e11 --set ppo.models=lora --tracker tensorboard --output .oldest/runs/bench $(ARGS)

.oldest/installed: tests/oldest.py $(INPUTS) | venv
	rm -rf .oldest
	$(PYTHON) -m venv .oldest
	.venv/bin/python tests/oldest.py > .oldest/constraints.txt
	$(OLDEST) torch hatchling editables
	$(OLDEST) --quiet --no-build-isolation tensorboard --editable . $(addprefix --editable ,$(PROJECTS))
	@touch $@

# .venv/inputs holds what the last complete installation was made from; a new plugin folder changes it, too.
venv:
	@cksum $(INPUTS) | cmp -s - .venv/inputs || $(MAKE) --no-print-directory install

install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "'$(PYTHON)' is missing or older than Python 3.11. Install Python 3.11 or newer," \
	       "or name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) torch hatchling editables
	$(PIP) --quiet --no-build-isolation --editable '.[dev]' $(addprefix --editable ,$(PROJECTS))
	@cksum $(INPUTS) > .venv/inputs

clean:
	rm -rf .venv .parity .oldest dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
