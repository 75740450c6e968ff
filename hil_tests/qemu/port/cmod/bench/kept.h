// RAM that survives a guest reset and not a power loss, as an ESP32's RTC memory does. The linker script says where it lies.
#ifndef BENCH_KEPT_H
#define BENCH_KEPT_H

#include <stdint.h>

#define KEPT_MEMORY_BYTES (2048) // as much as ESP32's machine.RTC().memory()

enum { RESET_POWER_ON = 1, RESET_HARD = 2, RESET_WATCHDOG = 3, RESET_DEEP_SLEEP = 4, RESET_SOFT = 5 }; // the ESP32 port's numbers

struct kept {
    uint32_t magic;
    uint32_t cause;       // of the last reset
    uint32_t boots;       // since power came on, this one included
    uint32_t memory_size; // octets of `memory` in use
    uint8_t memory[KEPT_MEMORY_BYTES];
};
extern struct kept bench_kept;

void kept_init(void);                   // once per power-up or guest reset
_Noreturn void kept_reset(uint32_t cause); // guest reset that remembers why

#endif
