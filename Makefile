# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer and a package index.
# pip's own settings (pip.conf, PIP_* variables) are honoured; PIP_ARGS adds to them.
PYTHON   ?= python3
PIP_ARGS ?=
ARGS     ?=
WORKERS  ?= -n 2 --dist worksteal
PY       := .venv/bin/python
# Bytecode is kept: without it each process compiles what it imports anew, and pytest rewrites every test.
RUN      := OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE= $(PY)

.PHONY: docs demo test test-all test-versions test-frameworks faults faults-all results-pages lint types install clean

demo: .venv/installed            ## train a real model on real text under several rules, and compare
	$(RUN) examples/demo.py $(ARGS)

test: .venv/installed            ## the fast suite
	$(RUN) -m pytest -m "not slow" $(WORKERS) --durations=40 $(ARGS)

test-all: .venv/installed        ## everything, and the trainers with the oldest and newest versions
	$(RUN) -m pytest $(WORKERS) --durations=40 $(ARGS)
	$(MAKE) test-versions

test-versions: test-oldest test-newest  ## the trainers' tests with other versions of transformers and the rest

test-%: .venv-%/installed
	OMP_WAIT_POLICY=PASSIVE .venv-$*/bin/python -m pytest tests/trainers $(ARGS)

FRAMEWORKS := $(sort $(basename $(notdir $(wildcard tests/frameworks/requirements/*.txt))))

test-frameworks: $(FRAMEWORKS:%=test-framework-%)  ## the hosts that need an environment of their own, each in its own

test-framework-%: .venv-framework-%/installed
	OMP_WAIT_POLICY=PASSIVE .venv-framework-$*/bin/python -m pytest $(wildcard tests/frameworks/test_$*.py tests/frameworks/test_$*__*.py) $(ARGS)

# axolotl needs Python 3.12 or newer; another name or path: PYTHON312=…
PYTHON312 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python3) python3.12)
.venv-framework-axolotl/installed: PYTHON = $(PYTHON312)

.venv-framework-%/installed: tests/frameworks/requirements/%.txt pyproject.toml
	test -x .venv-framework-$*/bin/python || $(PYTHON) -m venv .venv-framework-$*
	.venv-framework-$*/bin/python -m pip install -q $(PIP_ARGS) -c constraints.txt torch numpy
	.venv-framework-$*/bin/python -m pip install -q $(PIP_ARGS) --no-deps -r tests/frameworks/requirements/$*.txt
	.venv-framework-$*/bin/python -m pip install -q $(PIP_ARGS) --no-deps -e .
	touch $@

.venv-%/installed: constraints/%.txt pyproject.toml
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install -q $(PIP_ARGS) -c constraints/$*.txt torch numpy
	.venv-$*/bin/python -m pip install -q $(PIP_ARGS) -c constraints/$*.txt -e '.[all]' pytest pytest-timeout hypothesis
	touch $@

faults: .venv/installed          ## kills, failing disks, damage, bad numbers: half an hour, and a table
	$(RUN) tools/inject_faults.py --minutes 25 --plain $(ARGS)

faults-all: .venv/installed      ## the same for two hours, resumable, and 2,000 bad inputs
	$(RUN) tools/inject_faults.py --minutes 90 --plain --results .faults.jsonl $(ARGS)
	$(RUN) tools/fuzz_inputs.py --count 2000 --jobs 2

results-pages: .venv/installed   ## the tables on the pages of results/, from their numbers
	$(PY) tools/results.py

docs: .venv-docs/installed       ## the site, offline, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict -q --clean

.venv-docs/installed: pyproject.toml
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -q $(PIP_ARGS) $$(.venv-docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	touch $@

lint: .venv/installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: .venv/installed
	$(PY) -m basedpyright --pythonpath $(PY)

install: .venv/installed

# torch first, from the constraints: nothing replaces it afterwards.
.PRECIOUS: .venv-%/installed .venv-framework-%/installed
.venv/installed: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt torch numpy
	$(PY) -m pip install -q $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-* build dist site *.egg-info
