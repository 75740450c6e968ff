// Flash as a block device, with a power cut in the middle of any operation.
#ifndef BENCH_FLASH_H
#define BENCH_FLASH_H

#include <stdint.h>

#include "py/obj.h"

enum { FLASH_CUT_HALF = 0, FLASH_CUT_WHOLE = 1, FLASH_CUT_NONE = 2 };

extern const mp_obj_type_t bench_flash_type;
uint32_t flash_ops(void); // programs and erases since power-up or guest reset, over all devices
void flash_cut_after(uint32_t count, int mode, int code); // end QEMU in the count-th operation from now; 0: never

#endif
