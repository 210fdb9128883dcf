# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or 3.12; second runs start in seconds.
SHELL := bash
BIN := .venv/bin

.PHONY: help setup demo test test-long test-peers lint lock clean

help:
	@echo "make demo       set up, then run the whole loop and write runs/demo/report.html"
	@echo "make test       set up, then lint, type-check and test (what CI runs)"
	@echo "make test-long  the long forms: soaks, fuzzing, seeds"
	@echo "make test-peers  other people's packages on our files: robomimic trains on a prepared file"
	@echo "make lint       ruff and mypy alone"
	@echo "make lock       resolve requirements.in into requirements.lock anew"

setup:
	@bash bootstrap.sh

demo: setup
	@$(BIN)/armchair demo

test: setup lint
	@$(BIN)/python -m pytest -q -m "not long and not peers" --durations=10 -n 2 --dist loadscope

test-long: setup
	@$(BIN)/python -m pytest -q -m "long and not peers" --durations=20 --timeout=3600

test-peers: setup
	@$(BIN)/python -m pytest -q -m peers tests/peers --timeout=1800

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p episodes -p policy.runtime

lock:
	@test -x .bootstrap/bin/uv || bash bootstrap.sh
	@.bootstrap/bin/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate $(UPGRADE) requirements.in -o requirements.lock

clean:
	rm -rf .venv .bootstrap build install log *.egg-info
