# One command each: make demo | test | soak | mutants | check | docs | dist | bench | screenshots | lock | schema | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Two processes with one thread beat one process with two (see DESIGN in docs/), and
# libraries that guess would start a thread per core in every worker.
export OMP_NUM_THREADS ?= 1
# A page about the successor of MkDocs, at each build.
export NO_MKDOCS_2_WARNING = 1

.PHONY: demo test soak mutants check docs dist bench screenshots lock schema clean

demo: $(READY)
	$(BIN)/gru-optuna tune studies/japanese-vowels.toml

test: $(READY)
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

# Workers killed, stopped, starved, on both databases; files larger than memory; every key
# of the study file: well over an hour on two cores.
soak: $(READY)
	$(BIN)/python -m pytest -m soak -s

# Changes the code here and there, and asks whether the tests notice: an hour or two.
mutants: $(READY)
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	$(BIN)/python benchmarks/mutants.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mkdocs build --quiet

# The documentation as a site, in site/: strictly, so that no link leads nowhere.
docs: $(READY)
	$(BIN)/python -m mkdocs build

# The wheel and the source distribution, in dist/.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist

# Ours against torch.nn.GRU and plain Optuna, side by side, and what a study's size
# costs: twenty minutes or so, of a quiet machine.
bench: $(READY)
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/steps.py --json benchmarks/results/steps.json
	$(BIN)/python benchmarks/study.py --json benchmarks/results/study.json
	$(BIN)/python benchmarks/options.py --json benchmarks/results/options.json
	$(BIN)/python benchmarks/database.py --json benchmarks/results/database.json
	$(BIN)/python benchmarks/startup.py --json benchmarks/results/startup.json
	$(BIN)/python benchmarks/growth.py --trials 1000 10000 --json benchmarks/results/growth.json
	$(BIN)/python benchmarks/service.py --json benchmarks/results/service.json
	$(BIN)/python benchmarks/plot.py benchmarks/results/steps.json benchmarks/results/study.json \
	  benchmarks/results/database.json benchmarks/results/index.html

# The README's pictures, from a real run of the demo.
screenshots: $(READY)
	PYTHONPATH=tests $(BIN)/python docs/screenshots.py

# The set-up: a virtual environment with exactly the versions of the lock.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "gru-optuna needs Python 3.11 or newer, and $(PYTHON) is older." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment." >&2; \
	  echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Renews the lock from pyproject.toml. The CUDA packages are left to torch itself: its own
# pins choose them where it is a CUDA build, and a CPU build needs none.
lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
	  --no-annotate --no-header pyproject.toml \
	  | grep -vE '^(nvidia-|cuda-|triton)' > requirements.lock

# Writes the JSON schema that editors complete and check study files with.
schema: $(READY)
	$(BIN)/python -m gru_optuna.study_file > studies/study.schema.json

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache dist site
