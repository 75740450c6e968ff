// machine.RTC().memory([data]) as on an ESP32: up to 2,048 octets that survive every reset and no power loss.
// Known gap: no datetime(); the wall clock is QEMU's.
#include <string.h>

#include "py/runtime.h"

#include "kept.h"
#include "machine_rtc.h"

static const mp_obj_base_t rtc = { &bench_rtc_type };

static mp_obj_t rtc_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    mp_arg_check_num(n_args, n_kw, 0, 0, false);
    return MP_OBJ_FROM_PTR(&rtc);
}

static mp_obj_t rtc_memory(size_t n_args, const mp_obj_t *args) {
    if (n_args == 1) {
        return mp_obj_new_bytes(bench_kept.memory, bench_kept.memory_size);
    }
    mp_buffer_info_t data;
    mp_get_buffer_raise(args[1], &data, MP_BUFFER_READ);
    if (data.len > KEPT_MEMORY_BYTES) {
        mp_raise_ValueError(MP_ERROR_TEXT("buffer too long"));
    }
    memcpy(bench_kept.memory, data.buf, data.len);
    bench_kept.memory_size = data.len;
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(rtc_memory_obj, 1, 2, rtc_memory);

static const mp_rom_map_elem_t rtc_locals_table[] = {
    { MP_ROM_QSTR(MP_QSTR_memory), MP_ROM_PTR(&rtc_memory_obj) },
};
static MP_DEFINE_CONST_DICT(rtc_locals, rtc_locals_table);

MP_DEFINE_CONST_OBJ_TYPE(bench_rtc_type, MP_QSTR_RTC, MP_TYPE_FLAG_NONE, make_new, rtc_make_new, locals_dict, &rtc_locals);
