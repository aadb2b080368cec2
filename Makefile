# Everything a newcomer needs is `make demo` or `make test`: each builds .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OUT    ?= out
FRESH  ?=
SAMPLE ?= 40

.PHONY: help demo demo-no-model test mutants test-fuzz test-sweep test-checkpoints test-slow test-all lint format docs bench figures golden lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "==> creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "==> installing pinned packages into $(VENV) (about a minute)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on \
	  -c constraints.txt -e '.[rtl,prove,torch,harness,plot,explore,docs,test,lint]'
	@touch $@

demo: $(STAMP) ## Run the whole demonstration and write out/report.html
	@$(BIN)/fpsim demo --out $(OUT)

demo-no-model: $(STAMP) ## The same without the language model
	@$(BIN)/fpsim demo --out $(OUT) --no-model

test: $(STAMP) ## Run the test suite (long sweeps left out); COVERAGE=1 prints its branch coverage of fpsim/ (kernels apart)
ifdef COVERAGE
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n 2 --dist worksteal
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report
else
	@$(BIN)/python -m pytest -n 2 --dist worksteal
endif

test-fuzz: $(STAMP) ## Give every parser damaged inputs for half a minute
	@$(BIN)/python -m pytest -m fuzz -n 2 tests/fuzz

mutants: $(STAMP) ## Put small mistakes into oracle, formats, units and blocks (SAMPLE of each) and print those that no test notices
	@$(BIN)/python tests/support/mutation.py --sample $(SAMPLE)

test-sweep: $(STAMP) ## Run the tests that compile many kernels, as CI does
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m 'sweep and not slow'

CHECKPOINTS := .venv-checkpoints
test-checkpoints: $(STAMP) ## Read and write checkpoints beside the libraries that define them
	@test -d $(CHECKPOINTS) || $(PYTHON) -m venv $(CHECKPOINTS)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(CHECKPOINTS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	@$(CHECKPOINTS)/bin/python -m pip install --disable-pip-version-check -q --no-deps \
	  -r tests/support/checkpoint-makers.txt
	@PYTHONPATH=. $(CHECKPOINTS)/bin/python -m pytest -m checkpoints tests/bridge/test_checkpoint_makers.py

test-slow: $(STAMP) ## Run the long sweeps
	@$(BIN)/python -m pytest -m slow

test-all: test test-sweep test-slow ## All of them

lint: $(STAMP) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## Reformat the Python sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(STAMP) ## Build the documentation into docs/_build/html
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: $(STAMP) ## Measure kernels and the model beside torch in one process
	@$(BIN)/python analysis/bench.py --model

figures: $(STAMP) ## Draw the figures of all studies from kept numbers; FRESH=--fresh measures anew
	@$(BIN)/python analysis/figures.py $(FRESH)

golden: $(STAMP) ## Check the published vectors and regenerate the large sets bit for bit
	@$(BIN)/fpsim golden

lock: $(STAMP) ## Write the installed versions to constraints.txt
	@{ sed -n 1p constraints.txt; $(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//' | sort -f; } > constraints.tmp
	@mv constraints.tmp constraints.txt

clean: ## Remove what was built, not .venv
	@rm -rf $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
