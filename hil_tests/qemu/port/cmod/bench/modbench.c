// Module `bench`: what only an emulated board has. README.md lists its names.
#include <string.h>

#include "py/mperrno.h"
#include "py/runtime.h"

#include "arguments.h"
#include "board.h"
#include "exchange.h"
#include "flash.h"
#include "kept.h"

#define CUT_EXIT_CODE (77)

// args() -> str: the words the host gave, joined by spaces.
static mp_obj_t bench_args(void) {
    const char *line = arguments_line();
    return mp_obj_new_str(line, strlen(line));
}
static MP_DEFINE_CONST_FUN_OBJ_0(bench_args_obj, bench_args);

// boots() -> int: starts since power came on, this one included; soft resets do not count.
static mp_obj_t bench_boots(void) {
    return mp_obj_new_int_from_uint(bench_kept.boots);
}
static MP_DEFINE_CONST_FUN_OBJ_0(bench_boots_obj, bench_boots);

// ops() -> int: flash operations since power-up or guest reset.
static mp_obj_t bench_ops(void) {
    return mp_obj_new_int_from_uint(flash_ops());
}
static MP_DEFINE_CONST_FUN_OBJ_0(bench_ops_obj, bench_ops);

// cut_after(k, mode=HALF, code=77): power fails in the k-th flash operation from now; QEMU ends with exit status `code`. 0 calls it off.
static mp_obj_t bench_cut_after(size_t n_args, const mp_obj_t *args) {
    mp_int_t count = mp_obj_get_int(args[0]);
    mp_int_t mode = n_args > 1 ? mp_obj_get_int(args[1]) : FLASH_CUT_HALF;
    mp_int_t code = n_args > 2 ? mp_obj_get_int(args[2]) : CUT_EXIT_CODE;
    if (count < 0 || mode < FLASH_CUT_HALF || mode > FLASH_CUT_NONE || code < 0 || code > 255) {
        mp_raise_ValueError(NULL);
    }
    flash_cut_after(count, mode, code);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(bench_cut_after_obj, 1, 3, bench_cut_after);

// exit(code): QEMU ends at once with this exit status, 0 to 255. Nothing is flushed: to the firmware it is a power loss.
static mp_obj_t bench_exit(mp_obj_t code_in) {
    mp_int_t code = mp_obj_get_int(code_in);
    if (code < 0 || code > 255) {
        mp_raise_ValueError(NULL);
    }
    board_exit(code);
}
static MP_DEFINE_CONST_FUN_OBJ_1(bench_exit_obj, bench_exit);

// ask(line) -> str: one line to the FIFO `request` of the folder exchange=PATH, one line back from its FIFO `answer`, both without their
// line end. Blocks; the guest stands still meanwhile, under -icount its clock too, so a model in lock-step stays repeatable.
// Raises OSError: ENODEV without exchange=, ENOENT when a FIFO cannot be opened, EIO when the model is gone or answers over 4,096 octets.
static mp_obj_t bench_ask(mp_obj_t line_in) {
    mp_buffer_info_t line;
    mp_get_buffer_raise(line_in, &line, MP_BUFFER_READ);
    exchange_say(line.buf, line.len);
    return exchange_hear();
}
static MP_DEFINE_CONST_FUN_OBJ_1(bench_ask_obj, bench_ask);

#if defined(__riscv)
// How many bits of minstret are the unit of one instruction: QEMU 7.2 counts its virtual nanoseconds there, 2^N an instruction under
// -icount shift=N. Two instructions lie between three reads; without -icount, where the host's ticks are read, their steps differ.
// Raises OSError ENODEV then.
static unsigned instret_shift(void) {
    static int shift = -1;
    if (shift < 0) {
        uint32_t first, second, third;
        __asm volatile ("csrr %0, minstret\ncsrr %1, minstret\ncsrr %2, minstret" : "=&r" (first), "=&r" (second), "=&r" (third));
        uint32_t step = second - first;
        if (step == 0 || step != third - second || (step & (step - 1)) != 0) {
            mp_raise_OSError(MP_ENODEV);
        }
        shift = __builtin_ctz(step);
    }
    return shift;
}

// instret() -> int: instructions retired since power-up or guest reset. Raises OSError ENODEV without -icount shift=N.
// Trap: time that passes in a wait counts as the instructions that would have fitted in, so measure only code that does not wait.
// Ref: RISC-V Privileged Architecture 1.12, section 3.1.10.
static mp_obj_t bench_instret(void) {
    unsigned shift = instret_shift();
    uint32_t high, low, high_after;
    do {
        __asm volatile ("csrr %0, minstreth\ncsrr %1, minstret\ncsrr %2, minstreth" : "=&r" (high), "=&r" (low), "=&r" (high_after));
    } while (high != high_after);
    return mp_obj_new_int_from_ull(((uint64_t)high << 32 | low) >> shift);
}
static MP_DEFINE_CONST_FUN_OBJ_0(bench_instret_obj, bench_instret);
#endif

static const mp_rom_map_elem_t bench_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_bench) },
    { MP_ROM_QSTR(MP_QSTR_Flash), MP_ROM_PTR(&bench_flash_type) },
    { MP_ROM_QSTR(MP_QSTR_HALF), MP_ROM_INT(FLASH_CUT_HALF) },
    { MP_ROM_QSTR(MP_QSTR_NONE), MP_ROM_INT(FLASH_CUT_NONE) },
    { MP_ROM_QSTR(MP_QSTR_WHOLE), MP_ROM_INT(FLASH_CUT_WHOLE) },
    { MP_ROM_QSTR(MP_QSTR_args), MP_ROM_PTR(&bench_args_obj) },
    { MP_ROM_QSTR(MP_QSTR_ask), MP_ROM_PTR(&bench_ask_obj) },
    { MP_ROM_QSTR(MP_QSTR_boots), MP_ROM_PTR(&bench_boots_obj) },
    { MP_ROM_QSTR(MP_QSTR_cut_after), MP_ROM_PTR(&bench_cut_after_obj) },
    { MP_ROM_QSTR(MP_QSTR_exit), MP_ROM_PTR(&bench_exit_obj) },
    #if defined(__riscv)
    { MP_ROM_QSTR(MP_QSTR_instret), MP_ROM_PTR(&bench_instret_obj) },
    #endif
    { MP_ROM_QSTR(MP_QSTR_ops), MP_ROM_PTR(&bench_ops_obj) },
};
static MP_DEFINE_CONST_DICT(bench_globals, bench_globals_table);

const mp_obj_module_t bench_module = { .base = { &mp_type_module }, .globals = (mp_obj_dict_t *)&bench_globals };
MP_REGISTER_MODULE(MP_QSTR_bench, bench_module);
