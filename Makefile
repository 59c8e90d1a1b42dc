# Everything a person does with a checkout. `make setup` stands before each target and is quick when nothing changed.
SHELL := /bin/bash
VENV := .venv
MG := $(VENV)/bin/mg
PY := $(VENV)/bin/python
DATA ?=
export DGLBACKEND := pytorch

.DEFAULT_GOAL := help
BOARD := random popularity content_based content_knn item_knn rp3beta slim ease ease_recent ials bpr graph_filter \
  polynomial_filter content_linear lightgcn hypergraph knowledge graphsage_demo sasrec hybrid fusion

.PHONY: help setup demo test check tour leaderboard serve explore bench clean

help:
	@echo "make setup     a virtual environment with everything in it (Python 3.11)"
	@echo "make demo      the whole way on real data: MovieLens-100K, or DATA=FOLDER for the streaming data"
	@echo "make test      all tests"
	@echo "make check     format, lint, duplicate names, house rules"
	@echo "make tour      runs the notebooks on a small generated world"
	@echo "make leaderboard  every model on the graph of DATA (ingest and export it first), then the report"
	@echo "make serve     the endpoints of the promoted model on loopback"
	@echo "make explore   the explorer in a browser"
	@echo "make bench     benchmarks: ours and the reference, in turn"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@python=$$(for name in $${PYTHON:-} python3.11 python3 python; do \
	   command -v $$name >/dev/null 2>&1 || continue; \
	   [ "$$($$name -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.11 ] && echo $$name && break; done); \
	 if [ -z "$$python" ]; then \
	   echo "setup needs Python 3.11 (DGL 1.1.3 has no wheel for a later one), found none:" >&2; \
	   echo "install it (Debian 12: apt install python3.11-venv; others: pyenv install 3.11, or uv python install 3.11)" >&2; \
	   echo "and run 'make setup PYTHON=/path/to/python3.11'" >&2; exit 2; fi; \
	 [ -x $(PY) ] || $$python -m venv $(VENV) || { rm -rf $(VENV); echo "python3.11 is there but not its venv module: install python3.11-venv" >&2; exit 2; }
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(MG) demo $(if $(DATA),--data "$(DATA)")

test: setup
	$(PY) -m pytest

check: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(PY) -m pytest tests/test_house.py

tour: setup
	MG_DATA=world MG_HOME=$$(mktemp -d)/home $(PY) -m pytest --nbval-lax -o addopts= --nbval-cell-timeout=300 notebooks

leaderboard: setup
	for name in $(BOARD); do $(MG) run experiments/$$name.yaml $(if $(DATA),--data "$(DATA)") || exit 1; done
	$(MG) report --split last_fifth --out "reports/$(or $(notdir $(DATA)),movielens-100k)" $(if $(DATA),--data "$(DATA)")

serve: setup
	$(MG) serve $(if $(DATA),--data "$(DATA)")

explore: setup
	$(MG) explore $(if $(DATA),--data "$(DATA)")

bench: setup
	$(MG) bench serve $(if $(DATA),--data "$(DATA)")

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
