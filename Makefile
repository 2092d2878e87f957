# The ways into the project; each one sets up what it needs (see scripts/bootstrap). `make help` lists them.
PYTHON ?= python3
PYTEST := .venv/bin/python -m pytest
TEST ?= tests
WORKERS ?= $(shell nproc)
export PYTHON
unexport PYTHONDONTWRITEBYTECODE  # hundreds of short runs of one command: each would compile it anew

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

venv: ## .venv with instar and what it needs to run
	@scripts/bootstrap build
	@scripts/environment build

venv-dev: ## the same with the tools of the tests
	@scripts/bootstrap test
	@scripts/environment dev

native: ## the C part, into src/instar/native
	@scripts/bootstrap build
	@$(MAKE) -C native --no-print-directory

demo: venv native ## update a server under 1,000 clients; ends in one summary line
	@.venv/bin/python examples/demo.py $(DEMO)

test: venv-dev native ## all tests but those of real servers (TEST=path for some, WORKERS=1 one by one)
	@$(PYTEST) $(TEST) -m "not real" -n $(WORKERS) --dist worksteal $(PYTESTFLAGS)

test-real: venv-dev native ## updates of real servers, fetched as source packages
	@$(PYTEST) tests -m real $(PYTESTFLAGS)

bench: venv-dev native ## measure; a table on the terminal, figures in bench/results
	@.venv/bin/python -m bench $(BENCH)

faults: venv-dev native ## inject 2,100 faults into updates, FAULTS="--seed 2 --count 100"; a table, all of it in faults/results (--resume FILE goes on)
	@.venv/bin/python -m faults $(FAULTS)

fuzz: venv-dev native ## damage whatever an update reads, FUZZ="--seconds 60 walker"; needs clang
	@.venv/bin/python -m fuzz $(FUZZ)

soak: venv-dev native ## updates in a row under load, COUNT=1000: does anything grow?
	@.venv/bin/python -m faults.soak --count $(or $(COUNT),1000)

rcb: ## lines of code that must be right for the old version to survive, and of the rest
	@$(PYTHON) scripts/rcb.py

lint: venv-dev native ## ruff, mypy --strict on everything in Python, clang-format
	@scripts/lint

format: venv-dev ## rewrite Python and C in the project's style
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format --quiet .
	@.venv/bin/clang-format -i native/*/*.[ch]

picture: venv-dev native ## draw docs/demo.svg and docs/report.png anew from a run of the demo
	@.venv/bin/python scripts/picture.py docs

clean: ## everything that was built, .venv too
	@$(MAKE) -C native --no-print-directory clean
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/results faults/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help venv venv-dev native demo test test-real bench faults fuzz soak rcb lint format picture clean
