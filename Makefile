# `make demo` and `make test` are all a fresh machine needs: both make the environment first.
PYTHON ?= python3
SERVE ?= 1
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test soak check format docs browser clean

demo: $(VENV)/.done
	$(BIN)/glam demo demo $(if $(filter 0,$(SERVE)),--no-serve,--serve) --port $(PORT)

test: $(VENV)/.done browser
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

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
