// The host's files and words, through QEMU's semihosting.
// Ref: Arm "Semihosting for AArch32 and AArch64" 2.0, section 4 (operations); "RISC-V Semihosting" 0.4, section 2 (the call).
//
// QEMU must run with -semihosting-config enable=on,target=native; without it every call is a crash. The firmware under test may then open
// any file the user may: run it in a scratch folder. While a call waits, the guest and (under -icount) its clock stand still.
#ifndef BENCH_SEMIHOSTING_H
#define BENCH_SEMIHOSTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEMIHOSTING_READ = 1, SEMIHOSTING_READ_WRITE = 3, SEMIHOSTING_WRITE = 5 }; // fopen's "rb", "r+b", "wb"

int semihosting_open(const char *path, int mode);                // a handle, or -1
bool semihosting_seek(int file, uint32_t offset);                // whether it worked
size_t semihosting_read(int file, void *buffer, size_t size);    // octets read; fewer than asked: end of file or error
size_t semihosting_write(int file, const void *buffer, size_t size); // octets written
bool semihosting_command_line(char *buffer, size_t size);        // whether there is one that fits
uint64_t semihosting_unix_s(void);                               // the host's clock
void semihosting_exit(int code);                                 // ends QEMU with this exit status

#endif
