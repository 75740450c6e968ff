// The console on line 0, interrupt-free: these two replace the stock port's, which spins and cannot be polled.
#include "py/mphal.h"
#include "py/runtime.h"
#include "py/stream.h"

#include "serial.h"

uintptr_t __wrap_mp_hal_stdio_poll(uintptr_t flags) {
    bench_poll();
    return (serial_available(0) ? flags & MP_STREAM_POLL_RD : 0) | (flags & MP_STREAM_POLL_WR);
}

int __wrap_mp_hal_stdin_rx_chr(void) {
    for (;;) {
        bench_poll();
        int octet = serial_get(0);
        if (octet >= 0) {
            return octet;
        }
        mp_event_wait_indefinite();
    }
}
