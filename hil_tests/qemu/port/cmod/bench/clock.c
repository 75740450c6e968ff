// MicroPython's clocks and waits (py/mphal.h), on the board's.
#include "py/mphal.h"
#include "py/runtime.h"

#include "arguments.h"
#include "board.h"
#include "serial.h"
#include "watchdog.h"

#define EPOCH_UNIX_S (946684800ull) // 2000-01-01, as on an ESP32
#define IDLE_LONGEST_US (1000000)
#define IDLE_UNREAD_US (1000) // a line whose octets nobody reads keeps its interrupt up: wfi would return at once, so sleep in small steps

void bench_poll(void) {
    serial_poll();
    watchdog_poll();
}

// Wait for something to happen, at most this long; negative means as long as it takes.
void bench_idle(int timeout_ms) {
    uint64_t us = timeout_ms < 0 ? IDLE_LONGEST_US : timeout_ms * 1000ull;
    us = MIN(us, watchdog_left_us());
    if (serial_is_waiting()) {
        us = MIN(us, IDLE_UNREAD_US);
    }
    if (us) {
        board_wait_us(us);
    }
    watchdog_poll();
}

// As if the board had been up for up_ms already: ticks wrap after 12.4 days, which nobody waits for.
static uint64_t up_us(void) {
    static uint64_t start_us = UINT64_MAX;
    if (start_us == UINT64_MAX) {
        start_us = arguments_number("up_ms", 0) * 1000ull;
    }
    return start_us + board_us();
}

mp_uint_t mp_hal_ticks_us(void) {
    return (mp_uint_t)up_us();
}

mp_uint_t mp_hal_ticks_ms(void) {
    return (mp_uint_t)(up_us() / 1000);
}

mp_uint_t mp_hal_ticks_cpu(void) {
    return (mp_uint_t)board_us();
}

uint64_t mp_hal_time_ns(void) {
    return board_unix_ns() - EPOCH_UNIX_S * 1000000000ull;
}

void mp_hal_delay_us(mp_uint_t us) {
    uint64_t end_us = board_us() + us;
    while (board_us() < end_us) {
        watchdog_poll();
    }
}

void mp_hal_delay_ms(mp_uint_t ms) {
    uint64_t end_us = board_us() + ms * 1000ull;
    for (;;) {
        mp_event_handle_nowait(); // may raise KeyboardInterrupt
        uint64_t now_us = board_us();
        if (now_us >= end_us) {
            return;
        }
        if (end_us - now_us < 1000) {
            mp_hal_delay_us(end_us - now_us);
        } else {
            bench_idle(MIN((end_us - now_us) / 1000, INT32_MAX));
        }
    }
}
