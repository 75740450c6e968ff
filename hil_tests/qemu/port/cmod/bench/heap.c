// How much memory Python has: main.c gives the collector all it has (MICROPY_HEAP_SIZE), here it is cut to what the host asked for.
#include "py/gc.h"
#include "arguments.h"

// An ESP32 leaves MicroPython some 110 kB; of 112 KiB the collector takes 2.3 % for its own tables.
#define HEAP_DEFAULT_BYTES (112 * 1024)
#define HEAP_LEAST_BYTES (16 * 1024)

void __real_gc_init(void *start, void *end);

void __wrap_gc_init(void *start, void *end) {
    size_t limit = (char *)end - (char *)start;
    size_t bytes = arguments_number("heap", HEAP_DEFAULT_BYTES) & ~(size_t)15;
    if (bytes < HEAP_LEAST_BYTES) {
        bytes = HEAP_LEAST_BYTES;
    }
    __real_gc_init(start, (char *)start + (bytes < limit ? bytes : limit));
}
