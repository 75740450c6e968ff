// The words after -semihosting-config's `arg=`: how the host sets a device up. The first is the program's name and means nothing.
//   heap=BYTES     how much heap (heap.c)            flash=PATH   a file on the host as flash (_boot.py)
//   exchange=PATH  folder of two FIFOs (exchange.h)  id=HEX       machine.unique_id(), 1 to 8 octets (modmachine.inc)
//   up_ms=MS       what ticks_ms() starts from (clock.c)
//   resets=1       the host resets (exchange.h)      cause=N      what reset_cause() says after power came on (kept.h)
// Trap: QEMU joins the words with spaces, so no value may contain one; a comma in a value must be written twice.
#ifndef BENCH_ARGUMENTS_H
#define BENCH_ARGUMENTS_H

#include <stddef.h>

#define ARGUMENTS_MOST_BYTES (1024) // the end included

const char *arguments_line(void); // all words, joined by spaces; empty when there are none or there are too many
const char *arguments_find(const char *name, size_t *size); // the value of the first `name=value` and its length, or NULL
unsigned long arguments_number(const char *name, unsigned long otherwise); // its decimal value, up to the first octet that is no digit

#endif
