# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-out

.PHONY: demo test check bench format clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $(READY)

demo: $(READY)
	rm -rf $(OUT)
	$(BIN)/rdt-data demo-data $(OUT)/raw --episodes 60
	$(BIN)/rdt-data convert $(OUT)/raw/demo_aloha $(OUT)/aloha.zarr --workers 2
	$(BIN)/rdt-data convert $(OUT)/raw/rlds $(OUT)/rlds.zarr --split all --workers 2
	$(BIN)/rdt-data inspect $(OUT)/aloha.zarr --png $(OUT)/aloha.png
	$(BIN)/rdt-data inspect $(OUT)/rlds.zarr --png $(OUT)/rlds.png
	$(BIN)/rdt-data verify $(OUT)/aloha.zarr --source $(OUT)/raw/demo_aloha
	$(BIN)/rdt-data verify $(OUT)/rlds.zarr --source $(OUT)/raw/rlds
	@echo "look at $(OUT)/aloha.png and $(OUT)/rlds.png"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest

bench: $(READY)
	$(BIN)/python benchmarks/convert.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OUT) bench-out build *.egg-info
