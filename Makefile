# Sets up what it needs by itself: a virtual environment, and the system's packages where that is
# permitted. `make run` and `make test` are all that a new user has to know.

PYTHON ?= python3
VENV ?= .venv
WINDOW ?= 2
SECONDS ?= 600
SAMPLE ?= 0
SEEDS ?= 0
WATCH ?= inotify
ARGS ?=

BIN = $(VENV)/bin
PYTHONS = 3.10 3.11 3.12 3.13

# $(call need,PROGRAM PACKAGE): have a program, installed where that is permitted. Needs a shell.
need = $(call install_unless,command -v $(word 1,$(1)),$(word 1,$(1)),$(word 2,$(1)))

# $(call install_unless,CONDITION,WHAT,PACKAGE)
define install_unless
	@PATH="$$PATH:/usr/sbin:/sbin"; $(1) >/dev/null 2>&1 || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing the package $(3)"; \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy install $(3); } >/dev/null; \
	else \
		echo "$(2) is missing: install the package $(3) and run make again." >&2; exit 1; \
	fi
endef

# Debian has what makes an environment in a package of its own. One that is not whole, after an
# attempt without that package or an upgrade of Python, is made again.
VENV_MODULES = $(PYTHON) -c 'import ensurepip, venv'
BROKEN := $(shell $(BIN)/python -c 'import pip' >/dev/null 2>&1 || echo broken)

.PHONY: run test unit test-all test-fanotify churn honest-wait chaos soak fuzz mutation bench lint format \
	deb rpm system-test clean broken

run: $(VENV)/.run
	$(call need,rsync rsync)
	@directory=$$(mktemp -d) && mkdir "$$directory/src" && \
	echo "Change something below $$directory/src and look into $$directory/dst; Ctrl-C stops." && \
	exec $(BIN)/pylsyncd -d -i -w $(WINDOW) --state-dir "$$directory/state" "$$directory/src/./" "$$directory/dst/"

# On a tmpfs where there is one: the tests make and compare some 100,000 files. What depends on the
# file system runs on a disk as well.
TEMPORARY = $(if $(wildcard /dev/shm/.),/dev/shm,/tmp)

# Most of them wait most of the time, so that there are more than a small machine has processors;
# those that take minutes are first. One that compares times runs alone.
ALONE = tests/isolation/test_isolation.py
SIDE_BY_SIDE = tests/churn tests/chaos tests/unit tests/scenarios tests/daemon tests/guard \
	tests/hostile tests/isolation tests/soak tests/fuzz tests/mutation

BY_BOTH_METHODS = tests/churn tests/chaos tests/scenarios tests/guard tests/daemon tests/hostile

test: $(VENV)/.test
	$(call need,rsync rsync)
	$(call need,sshd openssh-server)
	PYTEST_DEBUG_TEMPROOT=$(TEMPORARY) $(BIN)/python -m pytest -n 6 --dist worksteal $(SIDE_BY_SIDE) $(ALONE:%=--ignore %) $(ARGS)
	PYTEST_DEBUG_TEMPROOT=$(TEMPORARY) $(BIN)/python -m pytest $(ALONE) $(ARGS)

unit: $(VENV)/.test
	$(call need,rsync rsync)
	PYTEST_DEBUG_TEMPROOT=$(TEMPORARY) $(BIN)/python -m pytest -n 6 --dist worksteal tests/unit $(ARGS)

# The unit tests, on each of the supported Pythons that this machine has.
test-all:
	@for version in $(PYTHONS); do \
		python=$$(pyenv prefix $$version 2>/dev/null || echo /usr)/bin/python$$version; \
		test -x $$python || { echo "Python $$version is not on this machine: left out."; continue; }; \
		echo "Python $$version"; \
		$(MAKE) --no-print-directory unit PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

# Those that run by both methods of watching, by fanotify; `make test` runs a part of them.
test-fanotify: $(VENV)/.test
	$(call need,rsync rsync)
	$(call need,sshd openssh-server)
	PYLSYNCD_LONG_TESTS=1 PYTEST_DEBUG_TEMPROOT=$(TEMPORARY) $(BIN)/python -m pytest -n 6 \
		--dist worksteal -k fanotify $(BY_BOTH_METHODS) $(ARGS)

churn: $(VENV)/.test
	$(call need,rsync rsync)
	$(call need,sshd openssh-server)
	TMPDIR=$(TEMPORARY) PYTHONPATH=tests $(BIN)/python -m churn.churn --watch $(WATCH) \
		$(if $(filter-out 0,$(SEEDS)),--seeds $(SEEDS) --round $(SECONDS),--seconds $(SECONDS)) $(ARGS)

# A thousand times: the writers stop, `pylsyncctl wait` returns 0, and four copies are equal.
honest-wait: $(VENV)/.test
	$(call need,rsync rsync)
	$(call need,sshd openssh-server)
	TMPDIR=$(TEMPORARY) PYTHONPATH=tests $(BIN)/python -m churn.churn --watch $(WATCH) \
		--kinds four --seeds 10 --round 50 --waits 100 $(ARGS)

chaos: $(VENV)/.test
	$(call need,rsync rsync)
	$(call need,sshd openssh-server)
	TMPDIR=$(TEMPORARY) PYTHONPATH=tests $(BIN)/python -m chaos.chaos --watch $(WATCH) \
		--seconds $(SECONDS) $(ARGS)

soak: SECONDS = 1800
soak: $(VENV)/.test
	$(call need,rsync rsync)
	PYTHONPATH=tests $(BIN)/python -m soak.soak --seconds $(SECONDS) $(ARGS)

fuzz: SECONDS = 3600
fuzz: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m fuzz.fuzz --seconds $(SECONDS) $(ARGS)

mutation: $(VENV)/.mutation
	$(call need,rsync rsync)
	TMPDIR=$(TEMPORARY) PYTHONPATH=tests $(BIN)/python -m mutation.mutation --sample $(SAMPLE) $(ARGS)

bench: $(VENV)/.run
	$(call need,rsync rsync)
	$(BIN)/python bench/run.py $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The package on a Debian 12 that boots in a container; its tree is kept for the next time.
MIRROR ?= http://deb.debian.org/debian

system-test: deb $(VENV)/.test
	$(call need,debootstrap debootstrap)
	$(call need,systemd-nspawn systemd-container)
	SYSTEM_TEST_MIRROR=$(MIRROR) SYSTEM_TEST_PACKAGE=$$(echo $(CURDIR)/dist/pylsyncd_*_all.deb) \
		$(BIN)/python -m pytest -v --durations=0 \
		-o faulthandler_timeout=1800 tests/system $(ARGS)

# In a copy, since the build leaves files in debian/ and beside the directory.
DEB_BUILD = build/deb

deb:
	$(call need,dpkg-buildpackage dpkg-dev)
	@dpkg-checkbuilddeps || if [ "$$(id -u)" = 0 ]; then \
		echo "Installing what the build needs" && apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qqy build-dep ./ >/dev/null; \
	else \
		echo "Run as root: apt-get build-dep ./" >&2; exit 1; \
	fi
	rm -rf $(DEB_BUILD) && mkdir -p $(DEB_BUILD)/pylsyncd dist
	tar -c --exclude='./.[!.]*' --exclude=./build --exclude=./dist --exclude='*.egg-info' \
		--exclude=__pycache__ . | tar -x -C $(DEB_BUILD)/pylsyncd
	cd $(DEB_BUILD)/pylsyncd && dpkg-buildpackage -us -uc -b
	cd $(DEB_BUILD) && rm -f ../../dist/pylsyncd_* && mv pylsyncd_*.* ../../dist/
	@echo "Install it as root: apt install ./$$(echo dist/pylsyncd_*_all.deb)"

broken:

# On Debian, what the build needs is not known to rpm: python3-docutils, -pip, -setuptools, -wheel.
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' pylsyncd/__init__.py)
RPM_BUILD = build/rpm

rpm: $(VENV)/.test
	$(call need,rpmbuild rpm)
	rm -rf $(RPM_BUILD) && mkdir -p dist
	$(BIN)/python -m build --sdist --outdir $(RPM_BUILD)/SOURCES
	rpmbuild -bb $(if $(wildcard /etc/debian_version),--nodeps) \
		--define "_topdir $(CURDIR)/$(RPM_BUILD)" --define "version_of_pylsyncd $(VERSION)" \
		contrib/rpm/pylsyncd.spec
	cp $(RPM_BUILD)/RPMS/noarch/pylsyncd-$(VERSION)-*.rpm dist/

$(VENV)/.run: setup.py pyproject.toml $(BROKEN)
	$(if $(BROKEN),$(call install_unless,$(VENV_MODULES),venv,$(notdir $(PYTHON))-venv))
	$(if $(BROKEN),$(PYTHON) -m venv --clear $(VENV))
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/.mutation: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[mutation]'
	@touch $@

$(VENV)/.lint: $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[lint]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
