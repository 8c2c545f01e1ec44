# make demo    set up and run the whole workflow on the embedded demo cohort (ARGS="…" is handed on to snakemake)
# make test    set up and run the tests           make lint    formatting, lint, dry run
# make container   image and SIF for --use-singularity (STAGE="python gpu spm fsl"; containers/build says what else)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
STAGE ?= python
export PYTHONPATH := workflow/lib
export PYTHONNOUSERSITE := 1
export PYTHONDONTWRITEBYTECODE :=# compiled once, at the first import, and not in every job

.PHONY: demo cohort test lint format requirements container container-base clean

demo: cohort
	$(BIN)/snakemake --cores all $(ARGS) --configfile config/demo.yaml
	@test ! -f results/report/index.html || echo "The report: $(CURDIR)/results/report/index.html"

cohort: $(VENV)/ready
	$(BIN)/python -m restresponse.phantom demo/bids --truth demo/truth --jobs 2

test: $(VENV)/ready-test
	$(BIN)/python -m pytest tests/unit tests/workflow -n 2 --dist loadfile $(ARGS)
	$(BIN)/python -m pytest tests/integration --durations=12 --durations-min=10 $(ARGS)
	@echo "What was tested: tests/README.md"

lint: $(VENV)/ready-test cohort
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --configfile config/demo.yaml --lint
	$(BIN)/snakemake --configfile config/demo.yaml --quiet all --dry-run
	$(BIN)/snakemake --configfile config/demo.yaml --rulegraph > /dev/null

format: $(VENV)/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

requirements: $(VENV)/ready
	$(BIN)/uv pip compile -q --universal --python-version 3.11 envs/requirements.in --no-emit-package simpleitk -o envs/requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 envs/requirements-test.in -o envs/requirements-test.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 envs/requirements-gpu.in -o envs/requirements-gpu.txt

container:
	containers/build image $(STAGE)

container-base:
	containers/build rootfs

clean:
	rm -rf results demo .snakemake

$(VENV)/ready: envs/requirements.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'restresponse needs Python 3.11 or newer: make PYTHON=python3.11')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r envs/requirements.txt
	touch $@

$(VENV)/ready-test: $(VENV)/ready envs/requirements-test.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r envs/requirements-test.txt
	touch $@
