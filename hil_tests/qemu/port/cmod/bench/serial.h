// Received octets of every line, kept until somebody reads them.
#ifndef BENCH_SERIAL_H
#define BENCH_SERIAL_H

#include <stdbool.h>
#include <stddef.h>

void serial_init(void);
void serial_poll(void);             // moves what the UARTs received into the rings; Ctrl-C on the console interrupts Python
bool serial_is_full(void);          // whether some ring has no room
bool serial_is_waiting(void);       // whether some ring holds something unread
size_t serial_available(unsigned uart);
int serial_get(unsigned uart);      // one octet, or -1
void serial_unget(char octet);      // as if it had come from the console

#endif
