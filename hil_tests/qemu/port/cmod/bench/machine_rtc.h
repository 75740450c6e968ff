// machine.RTC: only memory(), for that is what survives a reset.
#ifndef BENCH_MACHINE_RTC_H
#define BENCH_MACHINE_RTC_H

#include "py/obj.h"

extern const mp_obj_type_t bench_rtc_type;

#endif
