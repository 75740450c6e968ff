# QEMU's `mps2-an385` machine: a Cortex-M3, to catch what holds on RISC-V only.
include boards/MPS2_AN385/mpconfigboard.mk
include $(BOARD_DIR)/../overlay.mk
LDSCRIPT = $(OVERLAY)/mps2.ld
