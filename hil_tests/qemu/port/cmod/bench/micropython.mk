BENCH_CMOD := $(USERMOD_DIR)
SRC_USERMOD_C += $(addprefix $(BENCH_CMOD)/, arguments.c boot.c clock.c console.c exchange.c flash.c heap.c kept.c machine_rtc.c modbench.c \
	semihosting.c serial.c watchdog.c board_virt.c board_an385.c)
CFLAGS_USERMOD += -I$(BENCH_CMOD)
