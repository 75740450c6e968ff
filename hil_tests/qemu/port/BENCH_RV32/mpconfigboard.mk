# QEMU's `virt` machine, 32-bit RISC-V: the instruction set of ESP32-C3 and C6.
include boards/VIRT_RV32/mpconfigboard.mk
include $(BOARD_DIR)/../overlay.mk
LDSCRIPT = $(OVERLAY)/virt.ld

# Picolibc's library for rv32imac is found under that name only, not under rv32imac_zicsr; ISA spec 2.2 still counts the CSR
# instructions to the base set. Compiler and assembler must agree.
RV32_ARCH = rv32imac
CC = riscv64-unknown-elf-gcc -misa-spec=2.2
AS = riscv64-unknown-elf-as -misa-spec=2.2
