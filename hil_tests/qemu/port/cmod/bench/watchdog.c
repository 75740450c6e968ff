// The watchdog: see watchdog.h. It survives a soft reset and looks at the clock whenever bytecode jumps, sleeps or waits for a line, so it
// bites `while True: pass`.
// Known gap: it cannot bite inside C code that never comes back, for interrupts are not taken.
#include "board.h"
#include "kept.h"
#include "watchdog.h"

static uint64_t period_us;
static uint64_t due_us;

void watchdog_start(uint32_t timeout_ms) {
    period_us = timeout_ms * 1000ull;
    watchdog_feed();
}

void watchdog_feed(void) {
    due_us = board_us() + period_us;
}

void watchdog_stop(void) {
    period_us = 0;
}

void watchdog_poll(void) {
    if (period_us && board_us() >= due_us) {
        kept_reset(RESET_WATCHDOG);
    }
}

uint64_t watchdog_left_us(void) {
    if (!period_us) {
        return UINT64_MAX;
    }
    uint64_t now_us = board_us();
    return due_us > now_us ? due_us - now_us : 0;
}
