# make demo | make lab | make test | make lint
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
NOTEBOOK := watermark-segmentation
# uv installs the same wheels as pip, in a fifth of the time.
INSTALL := $(BIN)/uv pip install --quiet --python .venv

.PHONY: demo lab test lint

.venv/installed: requirements.txt
	@echo "Installing into .venv: 6 GB on Linux, 1.5 GB with UV_TORCH_BACKEND=cpu; a minute or more."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(INSTALL) -r requirements.txt
	touch $@

.venv/all: .venv/installed requirements-extras.txt requirements-scale.txt requirements-dev.txt
	$(INSTALL) $(patsubst %,-r %,$(filter requirements%,$^))
	touch $@

demo: .venv/installed
	mkdir -p demo
	$(BIN)/papermill --progress-bar $(NOTEBOOK).ipynb demo/$(NOTEBOOK).ipynb
	$(BIN)/jupyter nbconvert --to markdown --output-dir demo demo/$(NOTEBOOK).ipynb
	@echo "Executed notebook: demo/$(NOTEBOOK).ipynb"
	@echo "Its figures:       demo/$(NOTEBOOK)_files/"

test: .venv/all lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8

lint: .venv/all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: .venv/installed
	$(BIN)/jupyter lab $(NOTEBOOK).ipynb
