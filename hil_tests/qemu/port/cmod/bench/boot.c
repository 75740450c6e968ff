// What a port's main.c does before the REPL: hardware and ROMFS, then _boot.py, boot.py and, unless a tool asked for the raw REPL, main.py.
#include "py/runtime.h"
#include "py/stackctrl.h"
#include "extmod/vfs.h"
#include "shared/runtime/pyexec.h"

#include "board.h"
#include "kept.h"
#include "serial.h"

#define CTRL_D (4)

// 16 KiB of task stack less the 2 KiB margin the ESP32-C3 port keeps: recursion ends where it would on that chip.
#define STACK_LIMIT_BYTES (14 * 1024)

void bench_boot(void) {
    static bool is_up; // cleared by a guest reset, kept by a soft one
    if (!is_up) {
        is_up = true;
        serial_init();
        board_init();
        kept_init();
        mp_stack_set_limit(STACK_LIMIT_BYTES);
    } else {
        bench_kept.cause = RESET_SOFT;
    }
    mp_vfs_mount_romfs_protected(); // mp_init() does it after this, which is too late for main.py
    pyexec_frozen_module("_boot.py", false);
    int result = pyexec_file_if_exists("boot.py");
    if (!(result & PYEXEC_FORCED_EXIT) && pyexec_mode_kind == PYEXEC_MODE_FRIENDLY_REPL) {
        result = pyexec_file_if_exists("main.py");
    }
    if (result & PYEXEC_FORCED_EXIT) {
        serial_unget(CTRL_D); // sys.exit() in boot.py or main.py is a soft reset; only the REPL that follows can start one
    }
}
