# Entry points of the project; `make help` lists them.
# Nothing is written outside $(BUILD) except the packages that `setup` installs, and temporary files in
# debian/ by `package`.

BUILD ?= build
BUILD_TYPE ?= RelWithDebInfo
JOBS ?= $(shell nproc)
# Tests to run, as a ctest regular expression (default: all).
TESTS ?=
# Attacks to run, by name (default: all).
ATTACKS ?=
abs_build := $(abspath $(BUILD))

# Where this distribution's linkers and pkg-config look, e.g. lib/x86_64-linux-gnu.
libdir := $(patsubst %/,%,lib/$(shell gcc -print-multiarch 2>/dev/null))

cmake_args = -G Ninja -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) \
	-DVGPU_QEMU=$(abs_build)/qemu/qemu-system-x86_64 \
	-DVGPU_QEMU_DATA=$(abs_build)/qemu/data \
	-DVGPU_GUEST_DIR=$(abs_build)/guest \
	-DCMAKE_INSTALL_LIBDIR=$(libdir)

.PHONY: help
help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: setup  ## set up what it needs, then let a VM compute 100 + 200 through its vgpu device
	@$(MAKE) --no-print-directory -j2 qemu demo-programs
	@BUILD=$(BUILD) guest/build
	@BUILD=$(BUILD) scripts/demo

.PHONY: test
test: vm setup-test  ## set everything up, then run all tests
	@BUILD=$(BUILD) scripts/fetch-promtool
	@BUILD=$(BUILD) scripts/fetch-nfs-server >/dev/null || echo "test: goes on without NFS"
	@guest/build --bench $(BUILD)
	@PATH="$(abs_build)/promtool:$$PATH" scripts/run-tests $(BUILD)/release $(if $(TESTS),-R '$(TESTS)')

.PHONY: soak
soak: vm  ## seven VMs on one mediator for MINUTES=10, with everything that can happen to them (ATTACK_COST=1: what the VMs lose beside an attacker)
	@$(BUILD)/release/tests/vm/vgpu-soak $(if $(ATTACK_COST),--attack-cost,--minutes $(or $(MINUTES),10))

.PHONY: bench
bench: vm setup-bench  ## set everything up, then measure beside the machine's own floors (QUICK=1)
	@BUILD=$(BUILD) scripts/fetch-nfs-server >/dev/null || echo "bench: goes on without NFS"
	@guest/build --bench $(BUILD)
	@BUILD=$(BUILD) scripts/bench $(if $(QUICK),--quick)

.PHONY: attack
attack: release  ## measure a VM beside attackers of the mediator (ATTACKS="punch linger": these alone; ATTACK_ARGS=--busy-off)
	@$(BUILD)/release/tests/attack/vgpu-attack $(ATTACKS:%=--attack %) $(ATTACK_ARGS)

.PHONY: fuzz
fuzz: setup-fuzz  ## build the fuzzers and run each for a while (SECONDS=60, FUZZERS=regex)
	@scripts/fuzz --build $(BUILD) --seconds $(or $(SECONDS),60) --fuzzers '$(FUZZERS)'

.PHONY: device-matrix
device-matrix: setup-matrix  ## compile the device against QEMU 5.2, 7.2 and 10.x
	@BUILD=$(BUILD) scripts/device-matrix

.PHONY: docs
docs: setup-docs  ## build the documentation site into build/docs, and check its links
	@BUILD=$(BUILD) scripts/build-docs

.PHONY: setup setup-test setup-check setup-matrix setup-bench setup-fuzz setup-docs setup-package
setup:  ## install what building and testing needs (apt; says what and why first)
	@scripts/setup build
setup-test:
	@scripts/setup test
setup-check:
	@scripts/setup build check
setup-matrix:
	@scripts/setup build matrix
setup-bench:
	@scripts/setup build bench
setup-fuzz:
	@scripts/setup build fuzz
setup-docs:
	@scripts/setup docs
setup-package:
	@scripts/setup build package

.PHONY: vm
vm: setup
	@$(MAKE) --no-print-directory -j2 qemu release
	@$(MAKE) --no-print-directory guest

.PHONY: qemu
qemu: setup  ## QEMU with the device in it (QEMU_SRC=DIR: from that tree)
	@BUILD=$(BUILD) scripts/build-qemu

.PHONY: guest
guest: setup release  ## the test guest: kernel and initramfs
	@BUILD=$(BUILD) guest/build --test

# The programs and libraries of the packages, for debian/rules: installs nothing on this system.
.PHONY: package-parts
package-parts:
	@TARGETS="vgpu-mediator vgpuctl vgpu vgpu_client vgpu_client_shared" \
		scripts/cmake-build $(BUILD)/release $(JOBS) $(cmake_args)
	@BUILD=$(BUILD) scripts/build-qemu

.PHONY: package
package: setup-package  ## Debian packages in build/packages, checked with lintian
	@BUILD=$(BUILD) scripts/build-packages

.PHONY: test-packages
test-packages: package  ## as root: install, upgrade, remove and use the packages in a fresh Debian 12 root
	@BUILD=$(BUILD) scripts/test-packages

# Only what the demo runs, without tests and benchmarks.
.PHONY: demo-programs
demo-programs: setup
	@TARGETS="vgpu-mediator vgpu_static" scripts/cmake-build $(BUILD)/release $(JOBS) $(cmake_args)

.PHONY: release asan tsan
release: setup  ## mediator, library, programs
	@scripts/cmake-build $(BUILD)/release $(JOBS) $(cmake_args)
asan: setup  ## the same with AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/cmake-build $(BUILD)/asan $(JOBS) $(cmake_args) -DVGPU_SANITIZE=address,undefined
tsan: setup  ## the same with ThreadSanitizer
	@scripts/cmake-build $(BUILD)/tsan $(JOBS) $(cmake_args) -DVGPU_SANITIZE=thread

.PHONY: check
check: setup-check release  ## formatting, shell scripts, layering, device style, manual, clang-tidy of changes
	@scripts/check-format
	@scripts/check-shell
	@scripts/check-words
	@scripts/check-layering
	@BUILD=$(BUILD) scripts/check-device
	@scripts/check-man format
	@scripts/check-man content $(BUILD)/release
	@scripts/check-tidy $(BUILD)/release

.PHONY: check-all
check-all: check  ## the same, with clang-tidy over all files, and record them as clean
	@scripts/check-tidy --all $(BUILD)/release
	@scripts/check-tidy --record $(BUILD)/release

.PHONY: format
format: setup-check  ## format the sources in place
	@scripts/format

.PHONY: gpu-bundle
gpu-bundle: vm  ## a folder to run on a GPU machine that has no network (scripts/gpu-check there)
	@BUILD=$(BUILD) scripts/gpu-bundle

.PHONY: clean
clean:  ## remove the build folder
	rm -rf $(BUILD)
	! command -v dh_clean >/dev/null || dh_clean
