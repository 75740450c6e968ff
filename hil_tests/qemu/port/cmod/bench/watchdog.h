// The watchdog: a guest reset when it was not fed in time.
#ifndef BENCH_WATCHDOG_H
#define BENCH_WATCHDOG_H

#include <stdint.h>

void watchdog_start(uint32_t timeout_ms); // starts it or gives it another period, 1 ms upward; no program can stop it
void watchdog_stop(void);                 // a deep sleep does
void watchdog_feed(void);
void watchdog_poll(void);                 // bites when it is due
uint64_t watchdog_left_us(void);          // until it bites; UINT64_MAX when it does not run

#endif
