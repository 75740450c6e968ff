// RAM that survives a guest reset: see kept.h.
#include <string.h>

#include "arguments.h"
#include "board.h"
#include "exchange.h"
#include "kept.h"

#define MAGIC (0x54504b42)

void kept_init(void) {
    if (bench_kept.magic != MAGIC) { // power came on: QEMU gives zeroed RAM
        memset(&bench_kept, 0, sizeof(bench_kept));
        bench_kept.magic = MAGIC;
        bench_kept.cause = arguments_number("cause", RESET_POWER_ON);
    }
    bench_kept.boots++;
}

_Noreturn void kept_reset(uint32_t cause) {
    bench_kept.cause = cause;
    if (arguments_number("resets", 0)) {
        exchange_end(cause);
    }
    board_reset();
}
