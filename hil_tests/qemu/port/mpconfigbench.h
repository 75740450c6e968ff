// MicroPython's configuration: the stock qemu port's, and on top of it what a board has. Chosen with -DMP_CONFIGFILE.
#include "mpconfigport.h"

#undef MICROPY_PY_SELECT
#undef MICROPY_PY_TIME
#undef MICROPY_PY_ASYNCIO
#undef MICROPY_PY_SYS_STDIO_BUFFER
#undef MICROPY_PY_MACHINE_INCLUDEFILE
#undef MICROPY_VFS_ROM
#undef MICROPY_VFS_ROM_IOCTL

// Time, select, asyncio; the epoch is 2000, as on an ESP32.
#define MICROPY_PY_SELECT (1)
#define MICROPY_PY_ASYNCIO (1)
#define MICROPY_PY_TIME (1)
#define MICROPY_PY_TIME_GMTIME_LOCALTIME_MKTIME (1)
#define MICROPY_PY_TIME_TIME_TIME_NS (1)
#define MICROPY_PY_TIME_INCLUDEFILE "modtime.inc"

// The console: `mpremote mount` needs sys.stdin.buffer, raw paste mode a window, Ctrl-C the scheduler.
#define MICROPY_PY_SYS_STDIO_BUFFER (1)
#define MICROPY_REPL_STDIN_BUFFER_MAX (1024)
#define MICROPY_ENABLE_SCHEDULER (1)
#define MICROPY_KBD_EXCEPTION (1)
#define MICROPY_ENABLE_EXTERNAL_IMPORT (1)

#define MICROPY_PY_OS_UNAME (1)
#define MICROPY_PY_OS_URANDOM (1)
#define MICROPY_PY_OS_INCLUDEFILE "modos.inc"

#define MICROPY_PY_MACHINE_INCLUDEFILE "modmachine.inc"
#define MICROPY_PY_MACHINE_BARE_METAL_FUNCS (1)
#define MICROPY_PY_MACHINE_MEMX (1)
#define MICROPY_PY_MACHINE_SIGNAL (1)
#define MICROPY_PY_MACHINE_UART (1)
#define MICROPY_PY_MACHINE_UART_INCLUDEFILE "machine_uart.inc"
#define MICROPY_PY_MACHINE_WDT (1)
#define MICROPY_PY_MACHINE_WDT_INCLUDEFILE "machine_wdt.inc"

// Bytecode in place, from the partition in flash.c.
#define MICROPY_VFS_ROM (1)
#define MICROPY_VFS_ROM_IOCTL (1)

// Runs at the end of mp_init(), so after power-up and after each soft reset: the boot order without a main.c of our own.
void bench_boot(void);
#define MICROPY_PORT_INIT_FUNC bench_boot()

// Idle waits in wfi; while bytecode runs, every 256th jump empties the serial ports and looks at the watchdog.
void bench_poll(void);
void bench_idle(int timeout_ms);
#define MICROPY_INTERNAL_EVENT_HOOK bench_poll()
#define MICROPY_INTERNAL_WFE(TIMEOUT_MS) bench_idle(TIMEOUT_MS)
#define BENCH_VM_JUMPS (256)
#define MICROPY_VM_HOOK_INIT static unsigned bench_vm_jumps_left = BENCH_VM_JUMPS;
#define MICROPY_VM_HOOK_LOOP if (--bench_vm_jumps_left == 0) { bench_vm_jumps_left = BENCH_VM_JUMPS; bench_poll(); }
#define MICROPY_VM_HOOK_RETURN MICROPY_VM_HOOK_LOOP
