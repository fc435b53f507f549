# Each target is the only command needed on a machine with Python 3.11+, a C++ compiler and make.
# A virtual environment that is active is used as it is; otherwise .venv is made. A torch that is there is kept.

ifdef VIRTUAL_ENV
VENV := $(VIRTUAL_ENV)
else
VENV := .venv
endif
PYTHON ?= python3
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.lmaps_fast
# What the tests are pinned to; a user's own torch from 2.6 on is not replaced.
TORCH := torch==2.13.0
PINS := "numpy<2.4" $(if $(filter x86_64,$(shell uname -m)),triton==3.6.0)
SOURCES := $(wildcard csrc/* csrc/*/*) CMakeLists.txt setup.py pyproject.toml

# The oldest torch that is supported, and the tests of the core that run on it too.
OLDEST := torch==2.6.0
CORE := $(addprefix tests/test_,local_map.py structures.py batch.py inputs.py fused.py native.py lmaps.py)

.PHONY: demo test oldest lint bench race kernels clean

$(RUN):
	$(PYTHON) -m venv --system-site-packages $(VENV)

$(STAMP): $(RUN) $(SOURCES)
	$(RUN) -c "import torch" 2>/dev/null || $(RUN) -m pip install -q $(TORCH)
	$(RUN) -m pip install -q -e ".[test]" $(PINS)
	touch $@

demo: $(STAMP)
	mkdir -p demo
	$(RUN) -m lmaps_fast degrade examples/astronaut.png -o demo/missing.png --task inpainting_random
	$(RUN) -m lmaps_fast restore demo/missing.png -o demo/restored.png --task inpainting_random \
		--metrics examples/astronaut.png --plot
	$(RUN) -m lmaps_fast degrade examples/astronaut.png -o demo/blurred.png --task gaussian_deblurring
	$(RUN) -m lmaps_fast restore demo/blurred.png -o demo/deblurred.png --task gaussian_deblurring \
		--metrics examples/astronaut.png --plot

test: $(STAMP)
	$(RUN) -m pytest

# Beside the other torch: the extension is linked to neither.
oldest: $(STAMP)
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -q $(OLDEST) "numpy<2.4" pytest pillow opencv-python-headless safetensors tqdm
	PYTHONPATH=. .venv-oldest/bin/python -m pytest -p no:cacheprovider $(CORE)

bench: $(STAMP) race
	$(RUN) -m pytest bench -p no:cacheprovider

# RACE: other options, for example "--photographs 2 --tasks denoising"; IMAGES: a folder of photographs of one size.
IMAGES ?= examples
RACE ?= --solvers lmaps daps sitcom ddrm --no-peers --tasks inpainting_random --longest 20
race: $(STAMP)
	$(RUN) -m pip install -q matplotlib scikit-image
	$(RUN) -m lmaps_fast bench race --images $(IMAGES) -o build/race $(RACE)

kernels: $(STAMP)
	mkdir -p build
	$(RUN) bench/kernels.py --json build/kernels.json

lint: $(STAMP)
	$(RUN) -m pip install -q -e ".[test,lint]"
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/clang-format --dry-run --Werror csrc/*.cpp csrc/*.h csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu

clean:
	rm -rf build dist demo *.egg-info lmaps_fast/_C*.so
