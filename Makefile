# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-out

.PHONY: demo test check bench docs format clean

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
	$(BIN)/rdt-data lint $(OUT)/aloha.zarr --ci
	$(BIN)/rdt-data stats $(OUT)/aloha.zarr $(OUT)/rlds.zarr --out $(OUT)/stats.json
	$(BIN)/rdt-data demo-t5 $(OUT)/t5
	$(BIN)/rdt-data embed-lang $(OUT)/aloha.zarr $(OUT)/rlds.zarr --model $(OUT)/t5
	$(BIN)/rdt-data report $(OUT)/aloha.zarr $(OUT)/rlds.zarr -o $(OUT)/report.html
	@echo "look at $(OUT)/report.html, $(OUT)/aloha.png and $(OUT)/rlds.png"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest

bench: $(READY)
	$(BIN)/python benchmarks/convert.py

docs: $(READY)
	$(BIN)/python docs/generate.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OUT) bench-out build *.egg-info
