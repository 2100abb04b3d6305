# make demo   segment a phantom with the shipped model; sets up what that needs
# make test   linters, types and every test; sets up what those need
# make setup  all of the set-up and nothing else
# make bench  measure speed and memory, write docs/benchmarks/*.json and a table
#
# All paths are relative, so that the folder's own name may hold spaces. A stamp is written only after its step has
# succeeded: an interrupted set-up is taken up where it stopped.

PYTHON ?= python3
TORCH_SPEC ?= torch==2.13.0
VENV := .venv
BIN := $(if $(filter Windows_NT,$(OS)),$(VENV)/Scripts,$(VENV)/bin)
RUN := $(BIN)/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
PARTS := test-module test-training test-networks test-engine

.DELETE_ON_ERROR:
.PHONY: demo test $(PARTS) setup bench check clean

demo: $(VENV)/.demo-ready
	$(RUN) -m MambaSegmentLib demo --output demo-output

# In parts, two at a time: most tests keep one core busy, and many wait for a process to start. All parts run, whatever
# one of them finds.
test: $(VENV)/.test-ready check
	$(MAKE) --no-print-directory --jobs=2 --keep-going $(PARTS)

test-module: $(VENV)/.test-ready
	$(RUN) -m pytest Testing/module Testing/host

test-training: $(VENV)/.test-ready
	$(RUN) -m pytest Testing/training

test-networks: $(VENV)/.test-ready
	$(RUN) -m pytest Testing/library/kernels Testing/library/models Testing/repository

test-engine: $(VENV)/.test-ready
	$(RUN) -m pytest Testing/library --ignore=Testing/library/kernels --ignore=Testing/library/models

check: $(VENV)/.test-ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

setup: $(VENV)/.test-ready

bench: $(VENV)/.test-ready
	$(RUN) -m Testing.benchmarks

$(VENV)/.python-ready:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "MambaSegment needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch first and alone; later steps are held to the build that is there, so that nothing replaces a CPU build by a CUDA one
$(VENV)/.torch-ready: $(VENV)/.python-ready
	$(PIP) "$(TORCH_SPEC)"
	$(RUN) -m pip freeze | grep -i "^torch==" > $(VENV)/constraints.txt
	touch $@

# doctor compiles the CPU kernels into their cache and shows what was found
$(VENV)/.demo-ready: $(VENV)/.torch-ready pyproject.toml
	$(PIP) --constraint $(VENV)/constraints.txt --editable ".[numba]"
	$(RUN) -m MambaSegmentLib doctor
	touch $@

$(VENV)/.test-ready: $(VENV)/.demo-ready training/pyproject.toml Testing/requirements.txt \
  training/requirements-nnunet.txt training/requirements-nnunet-needs.txt
	$(RUN) Testing/system_libraries.py
	$(PIP) --constraint $(VENV)/constraints.txt --editable training --requirement Testing/requirements.txt \
	  --requirement training/requirements-nnunet-needs.txt
	$(PIP) --no-deps --requirement training/requirements-nnunet.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info training/*.egg-info demo-output
