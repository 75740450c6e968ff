# Two commands do all the set-up: `make demo` and `make test`. Neither needs root. `make deps` (root) adds what Debian packages bring.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?=
ONCE ?=
# Most of the tests' time is waiting for real programs, so more of them than cores run at a time.
WORKERS ?= 3
PYTEST_ARGS ?=
TARGETS ?=

.PHONY: setup oracles qemu-firmware demo test planted check hil bench soak deps lock format clean

$(VENV)/.installed: pyproject.toml .ci/requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

build/oracles/.installed: .ci/oracles.lock
	$(PYTHON) -m venv build/oracles
	build/oracles/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/oracles.lock
	touch $@

setup: $(VENV)/.installed ## everything a developer needs, in .venv

oracles: build/oracles/.installed ## independent COSE and CDDL judges, in an environment of their own

qemu-firmware: ## MicroPython for QEMU, RISC-V and Cortex-M, in build/qemu (after `make deps`; MICROPYTHON_SRC=DIR builds a checkout)
	$(PYTHON) hil_tests/qemu/build.py

demo: setup ## one street on this machine: real firmware, gateway, broker, authority (ONCE=1: prove it and end)
	$(BIN)/lamppost demo $(if $(ONCE),--once) $(if $(SEED),--seed $(SEED))

test: setup oracles ## every test that needs no root, in under ten minutes on two cores
	$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

planted: setup oracles ## plant known bugs in a copy and expect the tests to catch each
	$(BIN)/python hil_tests/planted.py

check: setup ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy protocol/lamppost_protocol gateway/lamppost_gateway tools/lamppost_tools
	$(BIN)/python tools/check_firmware_types.py

hil: setup ## the hardware tests on every target this machine can run, as a matrix (TARGETS="unix serial:/dev/ttyUSB0": those)
	$(BIN)/python hil_tests/matrix.py $(TARGETS)

bench: setup ## ratios beside their limit scripts, in one run
	$(BIN)/python hil_tests/benchmarks/run.py

soak: setup oracles ## the long proofs
	$(BIN)/python -m pytest -m soak --timeout 7200 $(PYTEST_ARGS)
	$(BIN)/python -m pytest hil_tests/test_target_cuts.py hil_tests/test_rv32_lock_step.py --target qemu-rv32 -m soak -s $(PYTEST_ARGS)

deps: ## Debian packages for the lanes that need them (root)
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv mosquitto \
		build-essential qemu-system-misc qemu-system-arm gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf \
		gcc-arm-none-eabi libnewlib-arm-none-eabi

lock: ## write the lock files anew: every file of every release, for every platform, by hash
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra demo --extra technician --extra test pyproject.toml -o .ci/requirements.lock
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links .ci/oracles.in -o .ci/oracles.lock

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build $(VENV)
