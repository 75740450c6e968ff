// QEMU's `virt`, 32-bit RISC-V.
//
// Addresses and interrupt numbers: QEMU, hw/riscv/virt.c (virt_memmap) and include/hw/riscv/virt.h. Registers: CLINT and PLIC, "RISC-V
// Platform-Level Interrupt Controller Specification" 1.0.0 and the SiFive FU540-C000 manual, chapters 9 and 10; 16550A, TI PC16550D data
// sheet SNLS378C, section 8; PCI 3.0, section 6.2 (configuration space); RTC, Android "goldfish virtual hardware"; power, SiFive test
// finisher as QEMU has it (hw/misc/sifive_test.c).
//
// Interrupts become pending, which ends `wfi`, and are never taken: no handler, no races.
#if defined(__riscv)

#include "arguments.h"
#include "board.h"
#include "serial.h"

#define REG8(address) (*(volatile uint8_t *)(address))
#define REG32(address) (*(volatile uint32_t *)(address))

#define TEST (0x00100000)
#define TEST_FAIL (0x3333)  // exit status in the upper half
#define TEST_PASS (0x5555)
#define TEST_RESET (0x7777)

#define RTC_LOW (0x00101000) // reading it latches the upper half
#define RTC_HIGH (0x00101004)

#define CLINT_MTIMECMP_LOW (0x02004000)
#define CLINT_MTIMECMP_HIGH (0x02004004)
#define MTIME_PER_US (10)

#define PLIC_PRIORITY(irq) (0x0c000000 + 4 * (irq))
#define PLIC_ENABLE(irq) (0x0c002000 + 4 * ((irq) / 32)) // context 0: machine mode of the only hart
#define PLIC_THRESHOLD (0x0c200000)
#define PLIC_CLAIM (0x0c200004)
#define IRQ_UART (10)
#define IRQ_PCI_FIRST (32)
#define IRQ_PCI_LAST (35)

#define PCI_CONFIG(device) (0x30000000 + ((device) << 15)) // bus 0, function 0
#define PCI_COMMAND (0x04)
#define PCI_COMMAND_IO (1)
#define PCI_BAR0 (0x10)
#define PCI_SERIAL (0x00021b36) // Red Hat's `pci-serial`: QEMU, docs/specs/pci-serial
#define PCI_DEVICES (32)
#define PCI_IO_WINDOW (0x03000000)
#define PCI_IO_OF(device) (0x1000 + 0x100 * (device))

#define UART_CONSOLE (0x10000000)
#define UART_RBR_THR (0)
#define UART_IER (1)
#define UART_FCR (2)
#define UART_LCR (3)
#define UART_LSR (5)
#define UART_DLL (0)
#define UART_DLM (1)
#define IER_RECEIVED (0x01)
#define FCR_ENABLE_LEVEL_14 (0xc1)
#define LCR_8N1 (0x03)
#define LCR_DLAB (0x80)
#define LSR_DATA_READY (0x01)
#define LSR_THR_EMPTY (0x20)

#define MSTATUS_MIE_BIT "8"
#define MIE_MTIE (1 << 7)
#define MIE_MEIE (1 << 11)

// With the word `skip=1` the board steps over what it would sleep: nothing can happen meanwhile where the host answers all that is asked.
// Trap: QEMU 7.2 under `-icount sleep=off` moves its clock on from another thread once it sees the hart halted, which may be before the hart's
// last instructions were counted: now and then a sleep then ends up to a microsecond late, and two runs part.
static bool is_skipping;
static uint64_t skipped_us;

static uintptr_t uarts[BENCH_UARTS_MAX];
static unsigned uart_count;

// Trap: with receive level 1 QEMU hands one octet per turn of its main loop to the guest, 13 kB/s; with 14, as many as fit, 48 kB/s. What is
// below the level arrives after the FIFO's time-out of four characters, which the divisor sets: 1 makes it the shortest there is.
static void add_uart(uintptr_t base) {
    if (uart_count == BENCH_UARTS_MAX) {
        return;
    }
    REG8(base + UART_LCR) = LCR_DLAB | LCR_8N1;
    REG8(base + UART_DLL) = 1;
    REG8(base + UART_DLM) = 0;
    REG8(base + UART_LCR) = LCR_8N1;
    REG8(base + UART_FCR) = FCR_ENABLE_LEVEL_14;
    REG8(base + UART_IER) = IER_RECEIVED;
    uarts[uart_count++] = base;
}

static void enable_irq(unsigned irq) {
    REG32(PLIC_PRIORITY(irq)) = 1;
    REG32(PLIC_ENABLE(irq)) |= 1u << (irq % 32);
}

void board_init(void) {
    is_skipping = arguments_number("skip", 0);
    __asm volatile ("csrci mstatus, " MSTATUS_MIE_BIT);
    add_uart(UART_CONSOLE);
    enable_irq(IRQ_UART);
    for (unsigned device = 1; device < PCI_DEVICES; device++) { // in the order of -device on QEMU's command line
        if (REG32(PCI_CONFIG(device)) == PCI_SERIAL) {
            REG32(PCI_CONFIG(device) + PCI_BAR0) = PCI_IO_OF(device);
            REG32(PCI_CONFIG(device) + PCI_COMMAND) = PCI_COMMAND_IO;
            add_uart(PCI_IO_WINDOW + PCI_IO_OF(device));
        }
    }
    for (unsigned irq = IRQ_PCI_FIRST; irq <= IRQ_PCI_LAST; irq++) {
        enable_irq(irq);
    }
    REG32(PLIC_THRESHOLD) = 0;
    __asm volatile ("csrs mie, %0" : : "r" (MIE_MEIE | MIE_MTIE));
}

// CLINT's mtime, read as a register of the hart: under -icount each access to a device costs QEMU a translation anew.
static uint64_t mtime(void) {
    uint32_t high, low, high_after;
    do {
        __asm volatile ("csrr %0, timeh\ncsrr %1, time\ncsrr %2, timeh" : "=&r" (high), "=&r" (low), "=&r" (high_after));
    } while (high != high_after);
    return ((uint64_t)high << 32) | low;
}

uint64_t board_us(void) {
    return mtime() / MTIME_PER_US + skipped_us;
}

uint64_t board_unix_ns(void) {
    uint32_t low = REG32(RTC_LOW);
    return (((uint64_t)REG32(RTC_HIGH) << 32) | low) + skipped_us * 1000;
}

void board_wait_us(uint64_t us) {
    if (is_skipping) {
        skipped_us += us;
        return;
    }
    uint64_t end = mtime() + us * MTIME_PER_US;
    REG32(CLINT_MTIMECMP_HIGH) = UINT32_MAX; // no early match while the halves are written
    REG32(CLINT_MTIMECMP_LOW) = (uint32_t)end;
    REG32(CLINT_MTIMECMP_HIGH) = end >> 32;
    __asm volatile ("wfi");
    REG32(CLINT_MTIMECMP_HIGH) = UINT32_MAX;
    serial_poll(); // empties the FIFOs first: completing an interrupt whose line is still high makes it pending again
    uint32_t irq;
    while ((irq = REG32(PLIC_CLAIM)) != 0) {
        REG32(PLIC_CLAIM) = irq;
        if (serial_is_full()) {
            break; // a line nobody reads stays high for ever
        }
    }
}

_Noreturn void board_reset(void) {
    REG32(TEST) = TEST_RESET;
    for (;;) {
    }
}

_Noreturn void board_exit(int code) {
    REG32(TEST) = code ? TEST_FAIL | (uint32_t)code << 16 : TEST_PASS;
    for (;;) {
    }
}

unsigned board_uarts(void) {
    return uart_count;
}

int board_uart_read(unsigned uart) {
    return REG8(uarts[uart] + UART_LSR) & LSR_DATA_READY ? REG8(uarts[uart] + UART_RBR_THR) : -1;
}

bool board_uart_is_ready(unsigned uart) {
    return REG8(uarts[uart] + UART_LSR) & LSR_THR_EMPTY;
}

void board_uart_write(unsigned uart, uint8_t octet) {
    while (!board_uart_is_ready(uart)) {
    }
    REG8(uarts[uart] + UART_RBR_THR) = octet;
}

#endif
