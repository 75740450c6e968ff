// RAM that survives a guest reset: see kept.h.
#include <string.h>

#include "board.h"
#include "kept.h"

#define MAGIC (0x54504b42)

void kept_init(void) {
    if (bench_kept.magic != MAGIC) { // power came on: QEMU gives zeroed RAM
        memset(&bench_kept, 0, sizeof(bench_kept));
        bench_kept.magic = MAGIC;
        bench_kept.cause = RESET_POWER_ON;
    }
    bench_kept.boots++;
}

_Noreturn void kept_reset(uint32_t cause) {
    bench_kept.cause = cause;
    board_reset();
}
