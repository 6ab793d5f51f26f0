# Needs nothing but make and Python 3.11 or newer. Every target sets up .venv first, when it is missing or out of date.
#
#   PYTHON=python3.12        which interpreter to build .venv with
#   PIP_FLAGS="..."          options for pip, such as another package index
#   WORKERS=4                processes for the fast tests (one torch thread each)

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
ALL     := $(VENV)/.installed-all
# what the demo needs, and what the tests need besides
EXTRAS  := audio,papers,report,science,seismic,signals,tensorboard,video
MORE    := cpu,dev,earth,eval,faiss,materials,ray,serve,slurm
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && echo 4 || echo $$n)
PYTHON  ?= python3
COMMA   := ,

ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# glibc then keeps large buffers instead of returning them to the system after every step: up to 20 % faster training
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184

# A virtual environment that was moved with its folder, or that lost its interpreter, is set up anew.
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell $(BIN)/python -c 'print("works")' 2>/dev/null) $(shell cat $(STAMP)),works $(CURDIR))
$(shell rm -f $(STAMP) $(ALL))
endif
endif

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast test-slow check format bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(ALL) ## set up .venv (every other target does this by itself)

define install  # $(1): extras
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; name an interpreter: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: s1pro needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@rm -f $@
	@{ $(BIN)/python -m pip --version && grep -F '$(CURDIR)/$(VENV)/' $(BIN)/pip; } >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); echo "error: $(PYTHON) -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; }
	@echo "setting up $(VENV) (one to three minutes the first time)"
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[$(1)]'
	@echo "$(CURDIR)" > $(STAMP)
endef

$(STAMP): pyproject.toml constraints.txt
	$(call install,$(EXTRAS))

$(ALL): pyproject.toml constraints.txt
	$(call install,$(EXTRAS)$(COMMA)$(MORE))
	@echo "$(CURDIR)" > $(ALL)

demo: $(STAMP) ## train, grow and examine a tiny model on molecules, pictures, videos and signals (about 6 minutes)
	$(KEEP_MEMORY) $(BIN)/s1pro demo --folder runs/demo

test: check test-fast ## checks and the fast tests

test-fast: $(ALL)
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS)

CHROMIUM := $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name) 2>/dev/null)))

test-slow: $(ALL) ## tests that take minutes (the page is tested in Chromium; as root it is installed if it is missing)
ifeq ($(CHROMIUM),)
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { \
	    echo "error: the page is tested in Chromium, which is missing; install it: sudo apt-get install chromium" >&2; exit 1; }
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium
endif
	$(ONE_THREAD) $(BIN)/python -m pytest -q -m slow --timeout 1800 || { code=$$?; [ $$code -eq 5 ] && echo "there are no slow tests"; }

check: $(ALL) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(ALL) ## rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(ALL) ## run every measurement in bench/ that needs no GPU (use a quiet machine)
	@for script in $$(grep -l __main__ bench/*.py | grep -v /gpu_); do echo "== $$script"; $(KEEP_MEMORY) $(BIN)/python $$script || exit 1; done

clean: ## remove what tools leave behind (.venv and runs/ stay)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find s1pro tests bench -type d -name __pycache__ -prune -exec rm -rf {} +
