# make demo     the demonstration, from nothing
# make test     everything that is checked on each change
# make test-clients  Claude Code, Codex, Gemini CLI, OpenCode, ACP adapters against a scripted model; make test has the first two
# make sim      the production core in simulated worlds full of faults (SEEDS=500)
# make torture  kill -9, power cuts, full disks and more, the long form, which takes hours (ARGS="--short test_power"); some needs root
# make bench    speed, as a table (ARGS="noop --quick --json"); make bench-peers first to compare with others
# make docs     the generated pages of the manual
# make lock     requirements/*.txt anew from pyproject.toml and requirements/*.in, and the clients' locks
# make clean    takes away what make made
#
# PYTHON=... names the interpreter; pip's own settings (PIP_*, pip.conf) are respected.

SEEDS ?= 500
ARGS ?=
BIN = .venv/bin
SOURCES = pyproject.toml .ci/venv requirements/base.txt

.DEFAULT_GOAL = help
.PHONY: help demo test test-clients sim torture bench bench-peers docs lock clean

help:
	@sed -n 's/^# //p; /^$$/q' Makefile

demo: .venv/.base
	@.ci/tools bwrap
	@$(BIN)/python examples/fix-the-bug/demo.py

test: .venv/.dev
	@.ci/test

test-clients: .venv/.dev
	@.ci/tools
	@.ci/clients
	@$(BIN)/python -m pytest -n 2 tests/clients

sim: .venv/.dev
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

torture: .venv/.dev
	@$(BIN)/python -m tests.torture $(ARGS)

bench: .venv/.dev
	@$(BIN)/python -m bench.run $(ARGS)

bench-peers: $(patsubst requirements/peers/%.txt,.venv-bench/%/.made,$(wildcard requirements/peers/*.txt))

docs: .venv/.dev
	@$(BIN)/python docs/generate.py

lock:
	@.ci/lock

clean:
	rm -rf .venv .venv-bench .venv-lock .clients .demo build dist bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.base: $(SOURCES)
	@.ci/venv .venv requirements/base.txt project
	@touch $@

# The tests' lock holds the base lock's versions too, so `make demo` finds nothing to do after it.
.venv/.dev: $(SOURCES) requirements/dev.txt
	@.ci/venv .venv requirements/dev.txt project
	@touch .venv/.base $@

# Peers want different versions of the same libraries, so each has a venv.
.venv-bench/%/.made: requirements/peers/%.txt .ci/venv
	@mkdir -p .venv-bench
	@.ci/venv .venv-bench/$* $<
	@touch $@
