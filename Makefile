# Every target sets up its prerequisites: a virtual environment with pinned packages, the native
# build, the installed package. Once these exist, the target starts immediately.

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
DOCS := .venv-docs
WHEELS := .venv-wheels
OLDEST := .venv-oldest
NEWEST := .venv-newest
BIN := $(VENV)/bin
ifeq ($(origin CXX),default)
CXX := c++
endif
export CXX
# without stored bytecode, each process that a test starts would compile every file again
unexport PYTHONDONTWRITEBYTECODE

NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh') setup.py build_cuda.py
DOCS_SOURCE := README.md CHANGELOG.md CONTRIBUTING.md LICENSE benchmarks data docs examples
# what the environment asks of CUDA, if it asks anything; another request builds the core again
CUDA_REQUEST := $(strip $(SENSORSEQ_CUDA) $(SENSORSEQ_CUDA_ARCHS))
CXX_FILES := $(shell find csrc scripts tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
# one process for each core, up to eight, with one thread each; a test that hangs is ended after the
# stacks of its threads are printed, and the other tests continue
PARALLEL := --numprocesses=auto --maxprocesses=8 --dist=worksteal --timeout=1800 --timeout-method=thread
PYTEST := $(BIN)/python -m pytest $(PARALLEL)
FAST := -m "not (slow or peers or native or trains or long or browser or benchmarks or other_isa)"
INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-all test-oldest test-newest test-arm test-rounding fuzz harden test-peers native-test cuda lint format bench docs notebooks runtime wheels build clean
.DEFAULT_GOAL := help

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' $(MAKEFILE_LIST) | awk '{ n = $$2; $$1 = $$2 = ""; printf "  make %-14s%s\n", n, $$0 }'

demo: build ## from the CSV files of simulated robots to a model, its test on unseen robots, and a page
	@$(BIN)/python examples/demo.py --output demo_output

test: build ## the tests, with one test of each expensive kind; about five minutes on two cores
	@$(PYTEST) $(FAST) $(PYTEST_ARGS)

test-all: build ## the slow tests too: other versions of torch, other processors, complete data sets
	@SENSORSEQ_NO_CACHE=1 $(PYTEST) --hypothesis-profile=ci -m "not peers" $(PYTEST_ARGS)

test-oldest: build $(OLDEST)/.built ## the tests of `make test`, with the oldest packages that pyproject.toml allows
	@$(call test-copy,$(OLDEST)) -W default::DeprecationWarning

test-newest: build $(NEWEST)/.built ## the same, with the newest packages (torch stays); PYTHON=python3.13 in the first call
	@$(NEWEST)/bin/python $(INSTALL) --upgrade --only-binary=:all: --requirement $(NEWEST)/requirements.txt
	@$(call test-copy,$(NEWEST)) -W "default:Guards may run slower:RuntimeWarning"

# the root file system for ARM comes from Debian's packages and PyPI, and stays in build/arm; the tests
# build the wheel
test-arm: build $(WHEELS)/.built ## the runtime and the kernels for aarch64, built here and run in qemu
	@$(PYTEST) -m slow -k "arm and not baseline" tests/runtime/test_arm.py tests/native/test_native.py \
	  $(PYTEST_ARGS)

test-rounding: build ## every test that trains, with other roundings; takes hours, in runs of 60 minutes (MINUTES=60)
	@$(BIN)/python tests/rounding/run_rounding.py --minutes $(or $(MINUTES),60)

fuzz: build ## the tests with random inputs, 1000 new inputs each
	@$(PYTEST) -m hypothesis --hypothesis-profile=fuzz $(PYTEST_ARGS)

# atheris has wheels only for some versions of Python; without it, files are changed at random
harden: build ## damaged files, kills, full disks and sanitizers; writes a table within 60 minutes
	@$(BIN)/python $(INSTALL) atheris==3.0.0 2> /dev/null || echo "no atheris: changes are drawn at random"
	@$(BIN)/python benchmarks/harden/run.py

native-test: build ## the native core alone, under sanitizers
	@SENSORSEQ_NO_CACHE=1 $(BIN)/python -m pytest tests/native -s $(PYTEST_ARGS)

cuda: ## compile CUDA for all GPUs without warnings or spills, and compare its resources with a table
	@SENSORSEQ_CUDA=1 $(MAKE) --no-print-directory build
	@SENSORSEQ_CUDA=1 SENSORSEQ_WERROR=1 $(BIN)/python build_cuda.py
	@SENSORSEQ_NO_CACHE=1 $(BIN)/python -m pytest tests/cuda $(PYTEST_ARGS)

test-peers: $(PEERS)/.built ## tests against skorch, Keras, aeon and sktime, in their own environment
	@KERAS_BACKEND=torch $(PEERS)/bin/python -m pytest tests/peers -m peers -o filterwarnings=default $(PYTEST_ARGS)

lint: build ## style, types and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

format: build ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(CXX_FILES)

bench: $(PEERS)/.built ## the benchmarks, as ratios with their spread
	@$(PEERS)/bin/python benchmarks/bench_cpu.py
	@KERAS_BACKEND=torch $(PEERS)/bin/python benchmarks/bench_fit.py
	@$(PEERS)/bin/python benchmarks/bench_preprocessing.py
	@$(PEERS)/bin/python benchmarks/bench_prepare.py
	@$(PEERS)/bin/python benchmarks/bench_features.py
	@$(PEERS)/bin/python benchmarks/bench_estimator.py
	@$(PEERS)/bin/python benchmarks/bench_recording.py
	@$(PEERS)/bin/python benchmarks/readme_table.py

# mkdocs reads a folder of symbolic links, in which links between pages work as in the checkout
docs: $(DOCS)/.built ## build the documentation site into build/site, offline and without warnings
	@rm -rf build/docs_source build/site && mkdir -p build/docs_source
	@ln -s $(addprefix $(CURDIR)/,$(DOCS_SOURCE)) build/docs_source
	@ln -s $(CURDIR)/docs/nav.yml build/docs_source/.nav.yml
	@if [ -d build/notebooks ]; then ln -s $(CURDIR)/build/notebooks build/docs_source/notebooks; fi
	@PYTHONPATH=$(CURDIR) NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build \
	  > build/docs.log 2>&1 || { cat build/docs.log; exit 1; }
	@echo "build/site/index.html is the front page; its search needs a server:"
	@echo "  $(PYTHON) -m http.server --directory build/site"

notebooks: $(VENV)/.notebooks ## execute the tutorials as notebooks, into build/notebooks; `make docs` takes them
	@$(BIN)/python scripts/make_notebooks.py

runtime: build ## build the wheel sensorseq-runtime for this kind of Linux, into dist/
	@SENSORSEQ_BUILD=runtime $(BIN)/python -W ignore setup.py -q bdist_wheel --bdist-dir build/runtime/wheel \
	  > build/runtime.log 2>&1 || { cat build/runtime.log; exit 1; }
	@ls dist/sensorseq_runtime-*.whl

wheels: $(WHEELS)/.built ## sdist and wheels that need no compiler, one of them checked (CUDA=1: with CUDA)
	@PATH="$(abspath $(BIN)):$$PATH" $(WHEELS)/bin/python scripts/build_wheels.py --torch-python $(abspath $(BIN))/python \
	  $(if $(filter 1,$(CUDA)),--cuda) $(if $(PYTHONS),--pythons $(PYTHONS))

build: $(VENV)/.built

clean: ## remove environments and all build outputs
	rm -rf $(VENV) $(PEERS) $(DOCS) $(WHEELS) $(OLDEST) $(NEWEST) build dist demo_output sensorseq/_*.so *.egg-info

$(VENV)/.packages: requirements/core.txt
	@$(call check-tools)
	@echo "making $(VENV) and installing pinned packages (a few minutes, once)"
	@$(call make-environment,$(VENV))
	@$(BIN)/python $(INSTALL) --requirement requirements/core.txt
	@touch $@

ifneq ($(CUDA_REQUEST),)
ifneq ($(CUDA_REQUEST),$(shell cat build/cuda-request 2> /dev/null))
$(VENV)/.built: other-cuda
endif
endif
.PHONY: other-cuda

$(VENV)/.built: $(VENV)/.packages $(NATIVE) pyproject.toml
	@$(call check-tools)
	@$(BIN)/python build_cuda.py --plan
	@echo "building the native core (under a minute; with CUDA for all GPUs, some minutes)"
	@rm -f $@
	@$(call install-package,$(VENV))
	@touch $@

$(VENV)/.notebooks: requirements/notebooks.txt $(VENV)/.built
	@$(BIN)/python $(INSTALL) --requirement requirements/notebooks.txt
	@touch $@

$(PEERS)/.built: requirements/peers.txt $(VENV)/.built
	@echo "making $(PEERS) and installing the peer libraries (a few minutes, once)"
	@$(call make-environment,$(PEERS))
	@$(PEERS)/bin/python $(INSTALL) --requirement requirements/peers.txt
	@$(call install-package,$(PEERS))
	@touch $@

$(DOCS)/.built: requirements/docs.txt
	@echo "making $(DOCS) and installing what builds the site (a minute, once)"
	@$(call make-environment,$(DOCS))
	@$(DOCS)/bin/python $(INSTALL) --requirement requirements/docs.txt
	@touch $@

$(WHEELS)/.built: requirements/wheels.txt $(VENV)/.packages
	@echo "making $(WHEELS) and installing what builds wheels (a minute, once)"
	@$(call make-environment,$(WHEELS))
	@$(WHEELS)/bin/python $(INSTALL) --requirement requirements/wheels.txt
	@touch $@

$(OLDEST)/.built $(NEWEST)/.built: .venv-%/.built: scripts/neighbors.py pyproject.toml requirements/core.txt $(VENV)/.packages
	@echo "making .venv-$* and installing the $* packages (a few minutes, once)"
	@$(call make-environment,.venv-$*)
	@$(BIN)/python scripts/neighbors.py $* > .venv-$*/requirements.txt
	@.venv-$*/bin/python $(INSTALL) --only-binary=:all: --requirement .venv-$*/requirements.txt
	@touch $@

# The numpy of another environment needs a library of its own, so the tests run in a copy of the
# checkout, and the library beside the sources stays as it is. Only _signal is compiled again.
define test-copy
	rm -rf $(1)/checkout $(1)/index && git clone --quiet --shared --no-checkout . $(1)/checkout && \
	export GIT_INDEX_FILE=$(CURDIR)/$(1)/index && git add --all && \
	git checkout-index --all --prefix=$(1)/checkout/ && unset GIT_INDEX_FILE && \
	cd $(1)/checkout && git add --all && \
	export SENSORSEQ_OPS=$(CURDIR)/sensorseq/_ops.abi3.so && \
	$(call install-package,$(CURDIR)/$(1)) && unset SENSORSEQ_OPS && \
	../bin/python -m pip freeze --exclude-editable > ../versions.txt && \
	../bin/python -m pytest $(PARALLEL) $(FAST) $(PYTEST_ARGS)
endef

# the old library is removed first, because a glob could find it instead of the new one
define install-package
	rm -f sensorseq/_*.so build/cuda-request && mkdir -p build && \
	PATH="$(abspath $(1))/bin:$$PATH" $(1)/bin/python $(INSTALL) --no-build-isolation --no-deps --editable . \
	  > build/install.log 2>&1 || { tail -n 40 build/install.log; exit 1; }; \
	echo "$(CUDA_REQUEST)" > build/cuda-request
endef

define make-environment
	$(PYTHON) -m venv --clear $(1) || { \
	  echo "Python's venv module does not work here: on Debian, apt-get install python3-venv" >&2; exit 1; }
endef

define check-tools
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  echo "sensorseq needs Python 3.11 or later as '$(PYTHON)': install it, or name it with make PYTHON=python3.12" >&2; exit 1; }; \
	command -v $(CXX) > /dev/null || { \
	  echo "sensorseq needs a C++17 compiler: on Debian, apt-get install g++ (or name one with make CXX=clang++)" >&2; exit 1; }
endef
