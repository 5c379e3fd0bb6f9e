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
	$(BIN)/rdt-data demo-data $(OUT)/raw --episodes 60 --workers 2
	$(BIN)/rdt-data convert $(OUT)/raw/demo_aloha $(OUT)/aloha.zarr --workers 2
	$(BIN)/rdt-data convert $(OUT)/raw/rlds $(OUT)/rlds.zarr --split all --workers 2
	$(BIN)/rdt-data inspect $(OUT)/aloha.zarr --png $(OUT)/aloha.png
	$(BIN)/rdt-data inspect $(OUT)/rlds.zarr --png $(OUT)/rlds.png
	$(BIN)/rdt-data verify $(OUT)/aloha.zarr --source $(OUT)/raw/demo_aloha
	$(BIN)/rdt-data verify $(OUT)/rlds.zarr --source $(OUT)/raw/rlds
	$(BIN)/rdt-data lint $(OUT)/aloha.zarr --ci
	$(BIN)/rdt-data demo-data $(OUT)/more --episodes 1000 --seed 1 --formats aloha --workers 2
	$(BIN)/rdt-data convert $(OUT)/more/demo_aloha $(OUT)/train.zarr --action recorded --workers 2
	$(BIN)/rdt-data stats $(OUT)/aloha.zarr $(OUT)/rlds.zarr $(OUT)/train.zarr --out $(OUT)/stats.json --workers 2
	$(BIN)/rdt-data demo-t5 $(OUT)/t5
	$(BIN)/rdt-data embed-lang $(OUT)/aloha.zarr $(OUT)/rlds.zarr $(OUT)/train.zarr --model $(OUT)/t5
	$(BIN)/rdt-data report $(OUT)/aloha.zarr $(OUT)/rlds.zarr -o $(OUT)/report.html
	$(BIN)/rdt train --config demo --data $(OUT)/train.zarr --out $(OUT)/run
	$(BIN)/rdt sample --checkpoint $(OUT)/run/checkpoints/last --data $(OUT)/train.zarr --episodes 3 -o $(OUT)/sample
	$(BIN)/rdt eval --checkpoint $(OUT)/run/checkpoints/last --env demo --episodes 100 --data $(OUT)/train.zarr \
		--untrained --swapped --blank --video $(OUT)/eval.mp4 -o $(OUT)/eval.json
	$(BIN)/rdt report $(OUT)/run --eval $(OUT)/eval.json --sample $(OUT)/sample --video $(OUT)/eval.mp4 -o $(OUT)/run.html
	@echo "look at $(OUT)/report.html (the data) and $(OUT)/run.html (the policy)"

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
