// QEMU's `mps2-an385`, Cortex-M3 at 25 MHz.
//
// Addresses and interrupt numbers: Arm Application Note 385, sections 3 and 4.1; QEMU, hw/arm/mps2.c. Registers: CMSDK APB UART and timer, Arm
// DDI 0479D, tables 4-3 and 4-6; NVIC and AIRCR, ARMv7-M Architecture Reference Manual DDI 0403E, sections B3.4 and B3.2.6.
//
// Interrupts become pending, which ends `wfi`, and are never taken (PRIMASK is set): no handler, no races.
#if defined(__arm__)

#include "board.h"
#include "semihosting.h"
#include "serial.h"

#define REG32(address) (*(volatile uint32_t *)(address))

#define UART_DATA (0x00)
#define UART_STATE (0x04)
#define UART_CTRL (0x08)
#define UART_INTSTATUS (0x0c)
#define UART_BAUDDIV (0x10)
#define STATE_TX_FULL (1 << 0)
#define STATE_RX_FULL (1 << 1)
#define CTRL_TX (1 << 0)
#define CTRL_RX (1 << 1)
#define CTRL_RX_INTERRUPT (1 << 3)
#define INTSTATUS_RX (1 << 1)
#define BAUDDIV_LEAST (16)

#define TIMER0 (0x40000000) // counts down for ever: the clock
#define TIMER1 (0x40001000) // wakes from wfi
#define TIMER_CTRL (0x00)
#define TIMER_VALUE (0x04)
#define TIMER_RELOAD (0x08)
#define TIMER_INTCLEAR (0x0c)
#define TIMER_ENABLE (1 << 0)
#define TIMER_INTERRUPT (1 << 3)
#define TICKS_PER_US (25)
#define WAIT_LONGEST_US (100000000) // the 32-bit clock goes round in 171 s and must be read before

#define NVIC_ISER0 (0xe000e100)
#define NVIC_ICPR0 (0xe000e280)
#define AIRCR (0xe000ed0c)
#define AIRCR_RESET (0x05fa0004)
#define IRQ_TIMER1 (9)

static const struct {
    uint32_t base;
    uint8_t rx_irq;
} uarts[BENCH_UARTS_MAX] = {
    { 0x40004000, 0 }, { 0x40005000, 2 }, { 0x40006000, 4 }, { 0x40007000, 18 }, { 0x40009000, 20 },
};

static uint64_t ticks;
static uint32_t last_value;

void board_init(void) {
    __asm volatile ("cpsid i");
    uint32_t enabled = 1 << IRQ_TIMER1;
    for (unsigned i = 0; i < BENCH_UARTS_MAX; i++) {
        REG32(uarts[i].base + UART_BAUDDIV) = BAUDDIV_LEAST;
        REG32(uarts[i].base + UART_CTRL) = CTRL_TX | CTRL_RX | CTRL_RX_INTERRUPT;
        enabled |= 1u << uarts[i].rx_irq;
    }
    REG32(TIMER0 + TIMER_RELOAD) = UINT32_MAX;
    REG32(TIMER0 + TIMER_VALUE) = UINT32_MAX;
    REG32(TIMER0 + TIMER_CTRL) = TIMER_ENABLE;
    last_value = UINT32_MAX;
    REG32(NVIC_ISER0) = enabled;
}

uint64_t board_us(void) {
    uint32_t value = REG32(TIMER0 + TIMER_VALUE);
    ticks += (uint32_t)(last_value - value);
    last_value = value;
    return ticks / TICKS_PER_US;
}

// Trap: the machine has no clock that knows the date. The host's is asked once per reset, to the second, and takes no notice of QEMU's -rtc:
// runs that must repeat to the last bit belong on `virt`.
uint64_t board_unix_ns(void) {
    static uint64_t start_ns;
    if (start_ns == 0) {
        start_ns = semihosting_unix_s() * 1000000000ull - board_us() * 1000ull;
    }
    return start_ns + board_us() * 1000ull;
}

void board_wait_us(uint64_t us) {
    if (us > WAIT_LONGEST_US) {
        us = WAIT_LONGEST_US;
    }
    REG32(TIMER1 + TIMER_CTRL) = 0;
    REG32(TIMER1 + TIMER_INTCLEAR) = 1;
    REG32(TIMER1 + TIMER_RELOAD) = 0;
    REG32(TIMER1 + TIMER_VALUE) = us * TICKS_PER_US;
    REG32(TIMER1 + TIMER_CTRL) = TIMER_ENABLE | TIMER_INTERRUPT;
    __asm volatile ("wfi");
    REG32(TIMER1 + TIMER_CTRL) = 0;
    REG32(TIMER1 + TIMER_INTCLEAR) = 1;
    board_us();
    serial_poll();
    for (unsigned i = 0; i < BENCH_UARTS_MAX; i++) {
        REG32(uarts[i].base + UART_INTSTATUS) = INTSTATUS_RX;
    }
    REG32(NVIC_ICPR0) = UINT32_MAX;
}

_Noreturn void board_reset(void) {
    REG32(AIRCR) = AIRCR_RESET;
    for (;;) {
    }
}

_Noreturn void board_exit(int code) {
    semihosting_exit(code);
    for (;;) {
    }
}

unsigned board_uarts(void) {
    return BENCH_UARTS_MAX;
}

int board_uart_read(unsigned uart) {
    return REG32(uarts[uart].base + UART_STATE) & STATE_RX_FULL ? (int)(REG32(uarts[uart].base + UART_DATA) & 0xff) : -1;
}

bool board_uart_is_ready(unsigned uart) {
    return !(REG32(uarts[uart].base + UART_STATE) & STATE_TX_FULL);
}

void board_uart_write(unsigned uart, uint8_t octet) {
    while (!board_uart_is_ready(uart)) {
    }
    REG32(uarts[uart].base + UART_DATA) = octet;
}

#endif
