// What the rest of the overlay needs of a machine. board_virt.c and board_an385.c each give all of it; a new machine is a new file.
#ifndef BENCH_BOARD_H
#define BENCH_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#define BENCH_UARTS_MAX (5) // index 0 is the console's

void board_init(void);            // once after power-up and after each guest reset, before anything else here
uint64_t board_us(void);          // microseconds since power-up or guest reset; call at least every 100 s
uint64_t board_unix_ns(void);     // wall clock, nanoseconds since 1970
void board_wait_us(uint64_t us);  // sleeps until a serial octet arrives or `us` passed, whichever is first; may return early
_Noreturn void board_reset(void); // a real guest reset: RAM stays, start-up code runs again
_Noreturn void board_exit(int code); // ends QEMU at once with this exit status, 0 to 255: to the guest, power is gone

unsigned board_uarts(void);                          // lines present, console included
int board_uart_read(unsigned uart);                  // one octet, or -1 when none waits
bool board_uart_is_ready(unsigned uart);             // whether board_uart_write would not wait
void board_uart_write(unsigned uart, uint8_t octet); // waits until there is room

#endif
