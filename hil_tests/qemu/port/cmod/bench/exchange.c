// Lines to the host's models and back: see exchange.h.
#include <string.h>

#include "py/mperrno.h"
#include "py/runtime.h"

#include "arguments.h"
#include "board.h"
#include "exchange.h"
#include "semihosting.h"

#define ANSWER_MOST_BYTES (4096)
#define EPOCH_UNIX_US (946684800000000ull) // 2000-01-01

static int open_exchange(const char *name, int mode) {
    size_t size;
    const char *folder = arguments_find("exchange", &size);
    if (folder == NULL) {
        mp_raise_OSError(MP_ENODEV);
    }
    char path[ARGUMENTS_MOST_BYTES + 16];
    memcpy(path, folder, size);
    strcpy(path + size, name);
    int file = semihosting_open(path, mode);
    if (file < 0) {
        mp_raise_OSError(MP_ENOENT);
    }
    return file;
}

void exchange_say(const char *line, size_t size) {
    static int request = -1;
    if (request < 0) {
        request = open_exchange("/request", SEMIHOSTING_WRITE);
    }
    if (semihosting_write(request, line, size) != size || semihosting_write(request, "\n", 1) != 1) {
        mp_raise_OSError(MP_EIO);
    }
}

mp_obj_t exchange_hear(void) {
    static int answer = -1;
    if (answer < 0) {
        answer = open_exchange("/answer", SEMIHOSTING_READ);
    }
    vstr_t text;
    vstr_init(&text, 64);
    for (;;) {
        char octet;
        if (semihosting_read(answer, &octet, 1) != 1 || vstr_len(&text) > ANSWER_MOST_BYTES) {
            mp_raise_OSError(MP_EIO);
        }
        if (octet == '\n') {
            return mp_obj_new_str_from_vstr(&text);
        }
        vstr_add_byte(&text, octet);
    }
}

_Noreturn void exchange_end(uint32_t cause) {
    vstr_t text;
    mp_print_t print;
    vstr_init_print(&text, 64, &print);
    mp_print_str(&print, "@");
    mp_obj_print_helper(&print, mp_obj_new_int_from_ull(board_unix_ns() / 1000 - EPOCH_UNIX_US), PRINT_STR);
    mp_printf(&print, " end %u", (unsigned)cause);
    exchange_say(text.buf, text.len);
    for (;;) {
        exchange_hear();
    }
}
