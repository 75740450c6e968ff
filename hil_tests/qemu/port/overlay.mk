# What both boards add to MicroPython's qemu port. The port includes the board's .mk before py.mk, so all of this can be set from here.
OVERLAY := $(abspath $(BOARD_DIR)/..)
USER_C_MODULES = $(OVERLAY)/cmod
FROZEN_MANIFEST = $(OVERLAY)/manifest.py
MICROPY_VFS_LFS2 = 1

# The array main.c gives to the collector; `arg=heap=BYTES` chooses how much of it is used (heap.c).
MICROPY_HEAP_SIZE = 1048576

# For speed, as the esp32 port has it (CONFIG_COMPILER_OPTIMIZATION_PERF), so that counted instructions mean something there.
override COPT = -O2 -DNDEBUG

CFLAGS += -DMP_CONFIGFILE='"$(OVERLAY)/mpconfigbench.h"' -I$(OVERLAY)/cmod/bench
QSTR_GLOBAL_DEPENDENCIES += $(OVERLAY)/mpconfigbench.h
SRC_C += shared/timeutils/timeutils.c

# Functions of the stock port that the linker replaces, so that no file of MicroPython is patched: console.c and heap.c have ours.
LDFLAGS += -Wl,--wrap=mp_hal_stdio_poll -Wl,--wrap=mp_hal_stdin_rx_chr -Wl,--wrap=gc_init
