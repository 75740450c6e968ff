// Lines to the host's models and back, through the FIFOs `request` and `answer` of the folder exchange=PATH.
//
// Under `-icount sleep=off` the host resets the board (resets=1): it is told `@<us since 2000> end <cause>`, ends QEMU and starts it anew
// with cause=N. Trap: QEMU's own reset stops the processor for an instant, which counts as idle, and virtual time then jumps to the next
// timer; to the end of time, if the machine is busy just then.
#ifndef BENCH_EXCHANGE_H
#define BENCH_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "py/obj.h"

// Both raise OSError: ENODEV without exchange=, ENOENT when a FIFO cannot be opened, EIO when the model is gone.
void exchange_say(const char *line, size_t size); // one line, without its line end
mp_obj_t exchange_hear(void);                     // str: the line that comes back. Also EIO when it is longer than 4,096 octets
_Noreturn void exchange_end(uint32_t cause);      // waits for the host to end QEMU

#endif
