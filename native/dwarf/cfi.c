/* Call frame information of one ELF image, row by row, for the unwinder of instar.process.unwind.
 *
 * A row is delivered as plain words, so that no libdw structure crosses into Python:
 *     start, end           the link addresses the row holds for
 *     return register      DWARF number of the column with the return address
 *     signal frame         1 when the frame is the kernel's trampoline
 *     rule of the CFA, then rules of registers 0 .. INSTAR_CFI_REGISTERS-1, each as
 *         kind, count, count * (operation, operand, second operand, offset)
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INSTAR_CFI_REGISTERS 17
#define DWARF_RAX 0
#define DWARF_RBX 3

enum rule_kind { RULE_UNDEFINED = 0, RULE_SAME = 1, RULE_EXPRESSION = 2 };

struct instar_cfi {
    Elf *elf;
    int descriptor;
    char *image; /* own copy when the ELF image came from memory */
    Dwarf *dwarf;
    Dwarf_CFI *eh_frame;
    Dwarf_CFI *debug_frame;
    bool tried_debug_frame;
};

struct row_writer {
    uint64_t *words;
    size_t room;
    size_t used;
};

struct instar_cfi *instar_cfi_open_file(const char *path);
struct instar_cfi *instar_cfi_open_image(const void *image, size_t size);
void instar_cfi_close(struct instar_cfi *cfi);
long instar_cfi_read_segments(struct instar_cfi *cfi, uint64_t *words, size_t room);
long instar_cfi_read_row(struct instar_cfi *cfi, uint64_t address, uint64_t *words, size_t room);

static struct instar_cfi *open_elf(Elf *elf, int descriptor, char *image)
{
    struct instar_cfi *cfi = NULL;

    if (elf != NULL && elf_kind(elf) == ELF_K_ELF)
        cfi = calloc(1, sizeof *cfi);
    if (cfi == NULL) {
        elf_end(elf);
        if (descriptor >= 0)
            close(descriptor);
        free(image);
        return NULL;
    }
    cfi->elf = elf;
    cfi->descriptor = descriptor;
    cfi->image = image;
    cfi->eh_frame = dwarf_getcfi_elf(elf);
    return cfi;
}

/* NULL when the file cannot be opened or is no ELF file. */
struct instar_cfi *instar_cfi_open_file(const char *path)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);

    if (descriptor < 0)
        return NULL;
    elf_version(EV_CURRENT);
    return open_elf(elf_begin(descriptor, ELF_C_READ_MMAP, NULL), descriptor, NULL);
}

/* The same for an ELF image laid out as in a file; the bytes are copied. */
struct instar_cfi *instar_cfi_open_image(const void *image, size_t size)
{
    char *copy = malloc(size);

    if (copy == NULL)
        return NULL;
    memcpy(copy, image, size);
    elf_version(EV_CURRENT);
    return open_elf(elf_memory(copy, size), -1, copy);
}

void instar_cfi_close(struct instar_cfi *cfi)
{
    if (cfi == NULL)
        return;
    if (cfi->eh_frame != NULL)
        dwarf_cfi_end(cfi->eh_frame);
    if (cfi->dwarf != NULL)
        dwarf_end(cfi->dwarf);
    elf_end(cfi->elf);
    if (cfi->descriptor >= 0)
        close(cfi->descriptor);
    free(cfi->image);
    free(cfi);
}

/* The loadable segments as (offset, address, file size, memory size, flags) each; returns how many, -1 on error. */
long instar_cfi_read_segments(struct instar_cfi *cfi, uint64_t *words, size_t room)
{
    size_t count, used = 0;

    if (elf_getphdrnum(cfi->elf, &count) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr header;

        if (gelf_getphdr(cfi->elf, (int)i, &header) == NULL)
            return -1;
        if (header.p_type != PT_LOAD)
            continue;
        if (used + 5 > room)
            return -1;
        words[used++] = header.p_offset;
        words[used++] = header.p_vaddr;
        words[used++] = header.p_filesz;
        words[used++] = header.p_memsz;
        words[used++] = header.p_flags;
    }
    return (long)(used / 5);
}

static Dwarf_CFI *debug_frame_of(struct instar_cfi *cfi)
{
    if (!cfi->tried_debug_frame) {
        cfi->tried_debug_frame = true;
        cfi->dwarf = dwarf_begin_elf(cfi->elf, DWARF_C_READ, NULL);
        if (cfi->dwarf != NULL)
            cfi->debug_frame = dwarf_getcfi(cfi->dwarf);
    }
    return cfi->debug_frame;
}

static void put(struct row_writer *writer, uint64_t word)
{
    if (writer->used < writer->room)
        writer->words[writer->used] = word;
    writer->used++;
}

static void put_rule(struct row_writer *writer, enum rule_kind kind, const Dwarf_Op *ops, size_t count)
{
    put(writer, kind);
    put(writer, count);
    for (size_t i = 0; i < count; i++) {
        put(writer, ops[i].atom);
        put(writer, ops[i].number);
        put(writer, ops[i].number2);
        put(writer, ops[i].offset);
    }
}

/* libdw's defaults for x86-64 name register 0 (rax) as kept by called functions where they mean 3 (rbx)
 * (elfutils, backends/x86_64_cfi.c). Neither is ever written down by compilers as undefined or same. */
static enum rule_kind unwritten_rule(int number, bool same)
{
    if (number == DWARF_RAX)
        return RULE_UNDEFINED;
    if (number == DWARF_RBX)
        return RULE_SAME;
    return same ? RULE_SAME : RULE_UNDEFINED;
}

static int put_register(struct row_writer *writer, Dwarf_Frame *frame, int number)
{
    Dwarf_Op memory[3];
    Dwarf_Op *ops = NULL;
    size_t count = 0;

    if (dwarf_frame_register(frame, number, memory, &ops, &count) != 0)
        return -1;
    if (count > 0)
        put_rule(writer, RULE_EXPRESSION, ops, count);
    else
        put_rule(writer, unwritten_rule(number, ops == NULL), NULL, 0);
    return 0;
}

static int put_row(struct row_writer *writer, Dwarf_Frame *frame)
{
    Dwarf_Addr start = 0, end = 0;
    bool signal = false;
    Dwarf_Op *ops = NULL;
    size_t count = 0;
    int return_register = dwarf_frame_info(frame, &start, &end, &signal);

    if (return_register < 0 || dwarf_frame_cfa(frame, &ops, &count) != 0)
        return -1;
    put(writer, start);
    put(writer, end);
    put(writer, (uint64_t)return_register);
    put(writer, signal);
    put_rule(writer, count > 0 ? RULE_EXPRESSION : RULE_UNDEFINED, ops, count);
    for (int number = 0; number < INSTAR_CFI_REGISTERS; number++)
        if (put_register(writer, frame, number) != 0)
            return -1;
    return 0;
}

/* The row for a link address; returns the words it takes (more than room: nothing was lost but too small a buffer),
 * 0 when no frame information covers the address, -1 when it is malformed. */
long instar_cfi_read_row(struct instar_cfi *cfi, uint64_t address, uint64_t *words, size_t room)
{
    struct row_writer writer = {words, room, 0};
    Dwarf_Frame *frame = NULL;
    int status;

    if (cfi->eh_frame == NULL || dwarf_cfi_addrframe(cfi->eh_frame, address, &frame) != 0) {
        Dwarf_CFI *debug_frame = debug_frame_of(cfi);

        if (debug_frame == NULL || dwarf_cfi_addrframe(debug_frame, address, &frame) != 0)
            return 0;
    }
    status = put_row(&writer, frame);
    free(frame);
    return status == 0 ? (long)writer.used : -1;
}
