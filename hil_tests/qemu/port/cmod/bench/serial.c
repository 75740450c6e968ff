// Received octets: see serial.h. A full ring loses nothing: the octets stay in the UART, QEMU stops reading from the host, and the sender
// feels it. A real UART would overrun; a test that wants overruns puts them on the line itself.
#include "py/ringbuf.h"
#include "py/runtime.h"
#include "shared/runtime/interrupt_char.h"

#include "board.h"
#include "serial.h"

#define RING_BYTES (2048)

static uint8_t storage[BENCH_UARTS_MAX][RING_BYTES];
static ringbuf_t rings[BENCH_UARTS_MAX];

void serial_init(void) {
    for (unsigned i = 0; i < BENCH_UARTS_MAX; i++) {
        rings[i].buf = storage[i];
        rings[i].size = RING_BYTES;
    }
}

void serial_poll(void) {
    for (unsigned i = 0; i < board_uarts(); i++) {
        while (ringbuf_free(&rings[i])) {
            int octet = board_uart_read(i);
            if (octet < 0) {
                break;
            }
            if (i == 0 && octet == mp_interrupt_char) {
                rings[i].iget = rings[i].iput; // what was typed before it is forgotten
                mp_sched_keyboard_interrupt();
            } else {
                ringbuf_put(&rings[i], octet);
            }
        }
    }
}

bool serial_is_full(void) {
    for (unsigned i = 0; i < board_uarts(); i++) {
        if (!ringbuf_free(&rings[i])) {
            return true;
        }
    }
    return false;
}

bool serial_is_waiting(void) {
    for (unsigned i = 0; i < board_uarts(); i++) {
        if (ringbuf_avail(&rings[i])) {
            return true;
        }
    }
    return false;
}

size_t serial_available(unsigned uart) {
    return ringbuf_avail(&rings[uart]);
}

int serial_get(unsigned uart) {
    return ringbuf_get(&rings[uart]);
}

void serial_unget(char octet) {
    ringbuf_put(&rings[0], octet);
}
