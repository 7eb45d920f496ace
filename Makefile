# Every target sets up what it needs: a virtual environment in .venv with the tested versions.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
AGENT ?= drc12-rl-maze11-s0

# two cores are better used by two single-threaded workers than by two threads that wait for each other
TEST_ENV := OMP_NUM_THREADS=1

.PHONY: study test lint types notebooks figures bench clean

study: $(INSTALLED)
	$(BIN)/planprobe study $(AGENT)

test: $(INSTALLED)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright

notebooks: $(INSTALLED)
	$(BIN)/python -m jupytext --to ipynb notebooks/*.py

# README's figure, from the study that is kept with its agent, and those of every study in results/
figures: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[figures]"
	$(BIN)/planprobe figures first-moves --results agents/drc12-rl-maze11-s0/study --svg docs
	if ls results/*/verdict.json >/dev/null 2>&1; then $(BIN)/planprobe figures; fi

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[compare]" || echo "some peers did not install; they are left out"
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
