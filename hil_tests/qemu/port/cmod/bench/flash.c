// bench.Flash(path=None, start=0, count=512): a flash chip as MicroPython's extended block device, blocks of 4 KiB.
//
// Without a path it is the machine's own: on `virt` the second pflash bank, which outlives QEMU when a drive backs it; on `mps2-an385` RAM,
// which outlives a reset only. With a path it is a file on the host of at least (start + count) * 4096 octets, on both; what was written is
// the host kernel's, so it outlives SIGKILL.
//
// Behind the file system lies the ROMFS partition, 192 KiB: 64 more than the ESP32 port's partitions-4MiB-romfs.csv gives, which do not hold
// a node with a radio. Like that port's Partition it is a block device to whoever deploys and a buffer to VfsRom, which executes bytecode
// where it lies. On `virt` that is the bank itself. The other machine has no flash in its memory: there it is RAM, outside the collector's
// heap, filled from the file `flash=` names at each start; what is written goes to both.
//
// An operation is what a NOR chip does in one go: program one page of 256 octets, which can only clear bits, or erase one block to ones.
// The power cut (`bench.cut_after`) ends QEMU in one of them. HALF: its first half is done, the rest is as before. WHOLE: it is done, the
// next is not. NONE: it is not done, all before it is.
// Known gaps: no wear, no bit rot, no cells that read differently each time after a cut erase.
//
// Ref: CFI, Intel "Common Flash Memory Interface" (JEDEC JESD68.01), table 1; commands, Intel StrataFlash P30 data sheet 320003, table 22;
// QEMU, hw/block/pflash_cfi01.c and hw/riscv/virt.c: two 16-bit chips side by side, 256 KiB sectors.
// Traps: the bank is there without a drive too, as RAM. A drive must have exactly 32 MiB (a sparse file). With it QEMU 7.2 no longer loads
// -kernel and says nothing: give the image as -bios.
#include <string.h>

#include "py/mperrno.h"
#include "py/runtime.h"
#include "extmod/vfs.h"

#include "arguments.h"
#include "board.h"
#include "flash.h"
#include "semihosting.h"

#define BLOCK_BYTES (4096)
#define PAGE_BYTES (256)
#define BLOCKS_DEFAULT (512)
#define ROM_START_BLOCK (BLOCKS_DEFAULT)
#define ROM_BLOCKS (48)

typedef struct {
    mp_obj_base_t base;
    int file; // of the host; -1: the machine's own flash
    uint32_t start_block;
    uint32_t block_count;
} flash_t;

static flash_t rom = { { &bench_flash_type }, -1, ROM_START_BLOCK, ROM_BLOCKS };

static uint32_t ops;
static uint32_t cut_at; // the operation in which power fails; 0: none
static int cut_mode;
static int cut_code;

// ---- the machine's own flash, addressed from its start ----

#if defined(__riscv)

#define BANK (0x22000000)
#define ROM_MEMORY ((const uint8_t *)BANK + ROM_START_BLOCK * BLOCK_BYTES)
#define BANK_BYTES (32 * 1024 * 1024)
#define WRITE_BUFFER_BYTES (2048)
#define COMMAND(value) (*(volatile uint32_t *)BANK = (value))
#define CFI_QUERY (0x98)
#define CFI_Q (BANK + 4 * 0x10)
#define BUFFERED_WRITE (0xe8)
#define CONFIRM (0xd0)
#define READ_ARRAY (0xff)

static bool own_is_present(void) {
    COMMAND(CFI_QUERY);
    uint32_t answer = *(volatile uint32_t *)CFI_Q & 0xff;
    COMMAND(READ_ARRAY);
    return answer == 'Q';
}

static void own_read(uint32_t offset, uint8_t *buffer, uint32_t size) {
    memcpy(buffer, (const void *)(BANK + offset), size);
}

static void rom_fill(void) {
}

// QEMU's bank does not AND with what was there and needs no erase: pages and ones are made by the caller. Offset and size divide by 4.
static void own_write(uint32_t offset, const uint8_t *buffer, uint32_t size) {
    while (size) {
        uint32_t part = MIN(size, WRITE_BUFFER_BYTES - offset % WRITE_BUFFER_BYTES);
        volatile uint32_t *target = (volatile uint32_t *)(BANK + offset);
        *target = BUFFERED_WRITE;
        *target = part / 4 - 1;
        for (uint32_t i = 0; i < part / 4; i++) {
            uint32_t word;
            memcpy(&word, buffer + 4 * i, 4);
            target[i] = word;
        }
        *target = CONFIRM;
        offset += part;
        buffer += part;
        size -= part;
    }
    COMMAND(READ_ARRAY);
}

#else

#define BANK_BYTES (8 * 1024 * 1024)

extern uint8_t bench_flash_ram[]; // mps2.ld
#define ROM_MEMORY (bench_flash_ram + ROM_START_BLOCK * BLOCK_BYTES)

static bool own_is_present(void) {
    return true;
}

static void own_read(uint32_t offset, uint8_t *buffer, uint32_t size) {
    memcpy(buffer, bench_flash_ram + offset, size);
}

static void own_write(uint32_t offset, const uint8_t *buffer, uint32_t size) {
    memcpy(bench_flash_ram + offset, buffer, size);
}

static void rom_fill(void) {
    size_t size;
    const char *found = arguments_find("flash", &size);
    if (found == NULL) {
        return; // what was written to the RAM before a reset
    }
    char path[ARGUMENTS_MOST_BYTES];
    memcpy(path, found, size);
    path[size] = '\0';
    rom.file = semihosting_open(path, SEMIHOSTING_READ_WRITE);
    memset(ROM_MEMORY, 0xff, ROM_BLOCKS * BLOCK_BYTES); // the file may end before
    if (rom.file >= 0 && semihosting_seek(rom.file, ROM_START_BLOCK * BLOCK_BYTES)) {
        semihosting_read(rom.file, ROM_MEMORY, ROM_BLOCKS * BLOCK_BYTES);
    }
}

#endif

// ---- either kind; these return 0 or an error number ----

static int raw_read(const flash_t *self, uint32_t offset, uint8_t *buffer, uint32_t size) {
    if (self->file < 0) {
        own_read(offset, buffer, size);
        return 0;
    }
    return semihosting_seek(self->file, offset) && semihosting_read(self->file, buffer, size) == size ? 0 : MP_EIO;
}

static int raw_write(const flash_t *self, uint32_t offset, const uint8_t *buffer, uint32_t size) {
    if (self->file < 0) {
        own_write(offset, buffer, size);
        return 0;
    }
    if (self == &rom) {
        own_write(offset, buffer, size); // the copy that bytecode runs from
    }
    return semihosting_seek(self->file, offset) && semihosting_write(self->file, buffer, size) == size ? 0 : MP_EIO;
}

static int operate(const flash_t *self, uint32_t offset, const uint8_t *buffer, uint32_t size) {
    bool is_cut = ++ops == cut_at;
    if (is_cut && cut_mode == FLASH_CUT_HALF) {
        size = size / 2 & ~3u;
    }
    int error = 0;
    if (!is_cut || cut_mode != FLASH_CUT_NONE) {
        error = raw_write(self, offset, buffer, size);
    }
    if (is_cut) {
        board_exit(cut_code);
    }
    return error;
}

static int program(const flash_t *self, uint32_t offset, const uint8_t *buffer, uint32_t size) {
    uint8_t page[PAGE_BYTES];
    while (size) {
        uint32_t page_start = offset & ~(PAGE_BYTES - 1);
        uint32_t within = offset - page_start;
        uint32_t part = MIN(size, PAGE_BYTES - within);
        int error = raw_read(self, page_start, page, PAGE_BYTES);
        if (error) {
            return error;
        }
        for (uint32_t i = 0; i < part; i++) {
            page[within + i] &= buffer[i];
        }
        error = operate(self, page_start, page, PAGE_BYTES);
        if (error) {
            return error;
        }
        offset += part;
        buffer += part;
        size -= part;
    }
    return 0;
}

static int erase(const flash_t *self, uint32_t offset) {
    static uint8_t ones[BLOCK_BYTES];
    memset(ones, 0xff, BLOCK_BYTES);
    return operate(self, offset, ones, BLOCK_BYTES);
}

uint32_t flash_ops(void) {
    return ops;
}

void flash_cut_after(uint32_t count, int mode, int code) {
    cut_at = count ? ops + count : 0;
    cut_mode = mode;
    cut_code = code;
}

// ---- the block device ----

static mp_obj_t flash_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *all_args) {
    enum { ARG_path, ARG_start, ARG_count };
    static const mp_arg_t allowed[] = {
        { MP_QSTR_path, MP_ARG_OBJ, {.u_rom_obj = MP_ROM_NONE} },
        { MP_QSTR_start, MP_ARG_INT, {.u_int = 0} },
        { MP_QSTR_count, MP_ARG_INT, {.u_int = BLOCKS_DEFAULT} },
    };
    mp_arg_val_t args[MP_ARRAY_SIZE(allowed)];
    mp_arg_parse_all_kw_array(n_args, n_kw, all_args, MP_ARRAY_SIZE(allowed), allowed, args);
    mp_int_t start = args[ARG_start].u_int;
    mp_int_t count = args[ARG_count].u_int;
    const mp_int_t most = (args[ARG_path].u_obj == mp_const_none ? BANK_BYTES : INT32_MAX) / BLOCK_BYTES;
    if (start < 0 || count < 1 || start > most || count > most - start) {
        mp_raise_ValueError(MP_ERROR_TEXT("blocks outside the flash"));
    }
    flash_t *self = mp_obj_malloc(flash_t, type);
    self->file = -1;
    self->start_block = start;
    self->block_count = count;
    if (args[ARG_path].u_obj != mp_const_none) {
        self->file = semihosting_open(mp_obj_str_get_str(args[ARG_path].u_obj), SEMIHOSTING_READ_WRITE);
        if (self->file < 0) {
            mp_raise_OSError(MP_ENOENT);
        }
    } else if (!own_is_present()) {
        mp_raise_OSError(MP_ENODEV);
    }
    return MP_OBJ_FROM_PTR(self);
}

// Where octet `within` of `block` lies, after checking that `size` octets from there are inside. Raises ValueError.
static uint32_t place(const flash_t *self, mp_obj_t block_in, mp_int_t within, size_t size) {
    mp_uint_t block = mp_obj_get_int(block_in);
    mp_uint_t count = self->block_count;
    if (block >= count || within < 0 || within > BLOCK_BYTES || size > (count - block) * BLOCK_BYTES - within) {
        mp_raise_ValueError(MP_ERROR_TEXT("blocks outside the flash"));
    }
    return (self->start_block + block) * BLOCK_BYTES + within;
}

static mp_obj_t result(int error) {
    if (error) {
        mp_raise_OSError(error);
    }
    return MP_OBJ_NEW_SMALL_INT(0);
}

static mp_obj_t flash_readblocks(size_t n_args, const mp_obj_t *args) {
    const flash_t *self = MP_OBJ_TO_PTR(args[0]);
    mp_buffer_info_t buffer;
    mp_get_buffer_raise(args[2], &buffer, MP_BUFFER_WRITE);
    uint32_t offset = place(self, args[1], n_args == 4 ? mp_obj_get_int(args[3]) : 0, buffer.len);
    return result(raw_read(self, offset, buffer.buf, buffer.len));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(flash_readblocks_obj, 3, 4, flash_readblocks);

static mp_obj_t flash_writeblocks(size_t n_args, const mp_obj_t *args) {
    const flash_t *self = MP_OBJ_TO_PTR(args[0]);
    mp_buffer_info_t buffer;
    mp_get_buffer_raise(args[2], &buffer, MP_BUFFER_READ);
    uint32_t offset = place(self, args[1], n_args == 4 ? mp_obj_get_int(args[3]) : 0, buffer.len);
    int error = 0;
    if (n_args == 3) { // the simple interface: whole blocks, erased first
        for (uint32_t done = 0; done < buffer.len && !error; done += BLOCK_BYTES) {
            error = erase(self, offset + done);
        }
    }
    return result(error ? error : program(self, offset, buffer.buf, buffer.len));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(flash_writeblocks_obj, 3, 4, flash_writeblocks);

static mp_obj_t flash_ioctl(mp_obj_t self_in, mp_obj_t request, mp_obj_t argument) {
    const flash_t *self = MP_OBJ_TO_PTR(self_in);
    switch (mp_obj_get_int(request)) {
        case MP_BLOCKDEV_IOCTL_BLOCK_COUNT:
            return MP_OBJ_NEW_SMALL_INT(self->block_count);
        case MP_BLOCKDEV_IOCTL_BLOCK_SIZE:
            return MP_OBJ_NEW_SMALL_INT(BLOCK_BYTES);
        case MP_BLOCKDEV_IOCTL_BLOCK_ERASE:
            return result(erase(self, place(self, argument, 0, BLOCK_BYTES)));
        default: // init, deinit and sync have nothing to do: nothing is cached
            return MP_OBJ_NEW_SMALL_INT(0);
    }
}
static MP_DEFINE_CONST_FUN_OBJ_3(flash_ioctl_obj, flash_ioctl);

static const mp_rom_map_elem_t flash_locals_table[] = {
    { MP_ROM_QSTR(MP_QSTR_readblocks), MP_ROM_PTR(&flash_readblocks_obj) },
    { MP_ROM_QSTR(MP_QSTR_writeblocks), MP_ROM_PTR(&flash_writeblocks_obj) },
    { MP_ROM_QSTR(MP_QSTR_ioctl), MP_ROM_PTR(&flash_ioctl_obj) },
};
static MP_DEFINE_CONST_DICT(flash_locals, flash_locals_table);

static mp_int_t flash_get_buffer(mp_obj_t self_in, mp_buffer_info_t *buffer, mp_uint_t flags) {
    if (MP_OBJ_TO_PTR(self_in) != &rom || flags != MP_BUFFER_READ) {
        return 1;
    }
    buffer->buf = (void *)ROM_MEMORY;
    buffer->len = ROM_BLOCKS * BLOCK_BYTES;
    buffer->typecode = 'B';
    return 0;
}

MP_DEFINE_CONST_OBJ_TYPE(bench_flash_type, MP_QSTR_Flash, MP_TYPE_FLAG_NONE, make_new, flash_make_new, buffer, flash_get_buffer,
    locals_dict, &flash_locals);

// vfs.rom_ioctl(operation, segment, ...): there is one segment, the object above. As on the ESP32, all else is done through that object.
mp_obj_t mp_vfs_rom_ioctl(size_t n_args, const mp_obj_t *args) {
    static bool is_filled; // cleared by a guest reset
    if (!is_filled) {
        is_filled = true;
        rom_fill();
    }
    switch (mp_obj_get_int(args[0])) {
        case MP_VFS_ROM_IOCTL_GET_NUMBER_OF_SEGMENTS:
            return MP_OBJ_NEW_SMALL_INT(1);
        case MP_VFS_ROM_IOCTL_GET_SEGMENT:
            if (n_args == 2 && mp_obj_get_int(args[1]) == 0) {
                return MP_OBJ_FROM_PTR(&rom);
            }
            // fall through
        default:
            return MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
    }
}
