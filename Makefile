# `make demo` and `make test` are all a fresh machine needs: both make the environment first.
PYTHON ?= python3
SERVE ?= 1
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
LOWEST := build/lowest

.PHONY: demo test lowest soak check format docs browser clean

demo: $(VENV)/.done
	$(BIN)/glam demo demo $(if $(filter 0,$(SERVE)),--no-serve,--serve) --port $(PORT)

test: $(VENV)/.done browser
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

# The tests on the lowest versions of the dependencies that pyproject.toml allows, in a fresh environment, within 20 minutes
# on 2 cores. Without those of the manual, of the benchmarks, and of the page, and without long trainings.
lowest:
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m tests.lowest_versions > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --disable-pip-version-check --quiet --only-binary :all: \
	--constraint $(LOWEST)/constraints.txt --editable '.[test,teachers]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses auto --dist loadfile \
	--ignore tests/app/page --ignore tests/benchmarks --ignore tests/docs --ignore tests/training

# Long tests, within an hour on 2 cores: damaged images, hostile folders, power cuts and kills of an index, interrupted
# trainings, and attacks on the service beside honest searches.
soak: $(VENV)/.done
	@failed=0; export OMP_NUM_THREADS=1; \
	$(BIN)/python -m tests.intake.fuzz --count 50000 --save build/soak || failed=1; \
	$(BIN)/python -m tests.intake.trees --trees 200 --keep build/soak || failed=1; \
	$(BIN)/python -m tests.power_cut || failed=1; \
	$(BIN)/python benchmarks/kills.py --photographs ../shared/landmarks/val --images 40 --kills 67 || failed=1; \
	$(BIN)/python -m tests.training.interruptions --count 30 --keep build/soak || failed=1; \
	$(BIN)/python benchmarks/attack.py ../shared/landmarks --pairs 7 --seconds 60 || failed=1; \
	exit $$failed

check: $(VENV)/.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The manual, in build/site; a broken link fails, which --quiet would hide.
docs: $(VENV)/.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo build/site/index.html

$(VENV)/.done: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@

# The page's tests run in Chromium; where it cannot be installed they are skipped and say so.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	echo 'Chromium is not installed; the tests of the page will be skipped'

clean:
	rm -rf $(VENV) .cache build dist runs demo *.egg-info
