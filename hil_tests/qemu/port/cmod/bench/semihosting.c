// The host's files and words: see semihosting.h.
#include <string.h>

#include "semihosting.h"

enum {
    SYS_OPEN = 0x01,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_SEEK = 0x0a,
    SYS_TIME = 0x11,
    SYS_GET_CMDLINE = 0x15,
    SYS_EXIT_EXTENDED = 0x20,
};

#define ADP_STOPPED_APPLICATION_EXIT (0x20026)

#if defined(__riscv)

// Three instructions that must be uncompressed and lie in one page: hence the alignment.
static int call(int operation, const void *block) {
    register int a0 __asm("a0") = operation;
    register const void *a1 __asm("a1") = block;
    __asm volatile (
        ".option push\n"
        ".balign 16\n"
        ".option norvc\n"
        "slli zero, zero, 0x1f\n"
        "ebreak\n"
        "srai zero, zero, 7\n"
        ".option pop\n"
        : "+r" (a0) : "r" (a1) : "memory");
    return a0;
}

#else

static int call(int operation, const void *block) {
    register int r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = block;
    __asm volatile ("bkpt 0xab" : "+r" (r0) : "r" (r1) : "memory");
    return r0;
}

#endif

int semihosting_open(const char *path, int mode) {
    const uint32_t block[] = { (uint32_t)path, mode, strlen(path) };
    return call(SYS_OPEN, block);
}

bool semihosting_seek(int file, uint32_t offset) {
    const uint32_t block[] = { file, offset };
    return call(SYS_SEEK, block) == 0;
}

// Both answer how many octets were NOT done.
static size_t transfer(int operation, int file, const void *buffer, size_t size) {
    const uint32_t block[] = { file, (uint32_t)buffer, size };
    size_t left = (size_t)call(operation, block);
    return left <= size ? size - left : 0;
}

size_t semihosting_read(int file, void *buffer, size_t size) {
    return transfer(SYS_READ, file, buffer, size);
}

size_t semihosting_write(int file, const void *buffer, size_t size) {
    return transfer(SYS_WRITE, file, buffer, size);
}

bool semihosting_command_line(char *buffer, size_t size) {
    const uint32_t block[] = { (uint32_t)buffer, size };
    return call(SYS_GET_CMDLINE, block) == 0;
}

uint64_t semihosting_unix_s(void) {
    return (uint32_t)call(SYS_TIME, NULL);
}

void semihosting_exit(int code) {
    const uint32_t block[] = { ADP_STOPPED_APPLICATION_EXIT, code };
    call(SYS_EXIT_EXTENDED, block);
}
