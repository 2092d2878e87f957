/* Opening files: their debug sections, expanded when they are compressed. */
#include "walker.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef ELFCOMPRESS_ZSTD
#define ELFCOMPRESS_ZSTD 2
#endif

struct elf_image {
    int file;
    Elf *elf;
};

static const char *const SECTION_NAMES[SECTION_COUNT] = {
    "info",   "types",    "abbrev", "str",      "line_str", "str_offsets", "addr",
    "ranges", "rnglists", "loc",    "loclists", "line",     "cu_index",    "tu_index",
};

struct slice slice_part(struct slice whole, uint64_t offset, uint64_t size)
{
    if (offset > whole.size || size > whole.size - offset)
        return (struct slice){0};
    return (struct slice){whole.data + offset, size};
}

/* libelf 0.188 knows zlib only; libzstd is on every machine but need not be there to build. */
static struct slice expand_zstd(struct walk *walk, const char *path, const uint8_t *data, size_t size,
                                uint64_t expanded)
{
    typedef size_t decompress_function(void *, size_t, const void *, size_t);
    static void *library;
    if (!library)
        library = dlopen("libzstd.so.1", RTLD_NOW);
    void *symbol = library ? dlsym(library, "ZSTD_decompress") : NULL;
    if (!symbol)
        walk_fail(walk, WALK_NO_ZSTD, "%s", path);
    /* zstd's best ratio is far below this; a damaged header must not ask for all of memory. */
    if (expanded > UINT32_MAX || expanded / 4096 > size + 1)
        walk_fail(walk, WALK_DAMAGED, "%s: a compressed section claims %llu bytes", path,
                  (unsigned long long)expanded);
    decompress_function *decompress;
    memcpy(&decompress, &symbol, sizeof decompress);
    uint8_t *target = walk_allocate(walk, expanded);
    if (decompress(target, expanded, data, size) != expanded)
        walk_fail(walk, WALK_DAMAGED, "%s: a zstd section does not expand", path);
    return (struct slice){target, expanded};
}

static struct slice section_data(struct walk *walk, const char *path, Elf_Scn *section, bool is_old_style)
{
    GElf_Shdr header;
    if (!gelf_getshdr(section, &header) || header.sh_type == SHT_NOBITS)
        return (struct slice){0};
    if (header.sh_flags & SHF_COMPRESSED) {
        Elf_Data *raw = elf_rawdata(section, NULL);
        Elf64_Chdr compression;
        if (!raw || !raw->d_buf || raw->d_size < sizeof compression)
            walk_fail(walk, WALK_DAMAGED, "%s: a compressed section is cut off", path);
        memcpy(&compression, raw->d_buf, sizeof compression);
        if (compression.ch_type == ELFCOMPRESS_ZSTD)
            return expand_zstd(walk, path, (uint8_t *)raw->d_buf + sizeof compression,
                               raw->d_size - sizeof compression, compression.ch_size);
        if (compression.ch_size > UINT32_MAX || compression.ch_size / 4096 > raw->d_size ||
            elf_compress(section, 0, 0) < 0)
            walk_fail(walk, WALK_DAMAGED, "%s: a zlib section does not expand", path);
    } else if (is_old_style && elf_compress_gnu(section, 0, 0) < 0) {
        walk_fail(walk, WALK_DAMAGED, "%s: a .zdebug section does not expand", path);
    }
    Elf_Data *data = elf_rawdata(section, NULL);
    if (!data || (data->d_size && !data->d_buf))
        walk_fail(walk, WALK_DAMAGED, "%s: a debug section is outside the file", path);
    return (struct slice){data->d_buf, data->d_size};
}

static void section_take(struct walk *walk, const char *path, struct sections *sections, Elf_Scn *section,
                         const char *name)
{
    bool is_old_style = !strncmp(name, ".zdebug_", 8);
    if (!is_old_style && strncmp(name, ".debug_", 7))
        return;
    name += is_old_style ? 8 : 7;
    size_t length = strlen(name);
    if (length > 4 && !strcmp(name + length - 4, ".dwo"))
        length -= 4;
    for (unsigned i = 0; i < SECTION_COUNT; i++)
        if (strlen(SECTION_NAMES[i]) == length && !strncmp(SECTION_NAMES[i], name, length))
            sections->at[i] = section_data(walk, path, section, is_old_style);
}

static void loads_take(struct walk *walk, Elf *elf)
{
    size_t count;
    GElf_Phdr header;
    if (elf_getphdrnum(elf, &count))
        return;
    for (size_t i = 0; i < count; i++)
        if (gelf_getphdr(elf, (int)i, &header)) {
            struct range_row range = {header.p_vaddr, header.p_vaddr + header.p_memsz};
            if (header.p_type == PT_LOAD)
                *(struct range_row *)vector_push(walk, &walk->loads, 1) = range;
            else if (header.p_type == PT_TLS)
                walk->tls = range;
        }
}

/* Opened without waiting: the names of .dwo files are whatever a program says, that of a pipe or a terminal, too. */
static int open_file(const struct walk *walk, const char *path)
{
    for (unsigned i = 0; i < walk->given_count; i++)
        if (!strcmp(walk->given[i].path, path))
            return fcntl(walk->given[i].file, F_DUPFD_CLOEXEC, 3);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (file < 0 || (!fstat(file, &status) && S_ISREG(status.st_mode)))
        return file;
    close(file);
    errno = EINVAL;
    return -1;
}

bool sections_try_open(struct walk *walk, const char *path, struct sections **out)
{
    elf_version(EV_CURRENT);
    walk->images.width = sizeof(struct elf_image);
    struct elf_image *image = vector_push(walk, &walk->images, 1);
    image->file = open_file(walk, path);
    if (image->file < 0)
        return false;
    image->elf = elf_begin(image->file, ELF_C_READ_MMAP_PRIVATE, NULL);
    size_t names;
    if (!image->elf || elf_kind(image->elf) != ELF_K_ELF || elf_getshdrstrndx(image->elf, &names))
        walk_fail(walk, WALK_UNREADABLE, "%s: %s", path, elf_errmsg(-1));
    struct sections *sections = walk_allocate(walk, sizeof *sections);
    GElf_Shdr header;
    for (Elf_Scn *section = NULL; (section = elf_nextscn(image->elf, section));) {
        const char *name =
            gelf_getshdr(section, &header) ? elf_strptr(image->elf, names, header.sh_name) : NULL;
        if (name)
            section_take(walk, path, sections, section, name);
    }
    *out = sections;
    return true;
}

struct sections *sections_open(struct walk *walk, const char *path, bool is_program)
{
    struct sections *sections;
    if (!sections_try_open(walk, path, &sections))
        walk_fail(walk, WALK_UNREADABLE, "%s: %s", path, strerror(errno));
    if (is_program)
        loads_take(walk, ((struct elf_image *)walk->images.data)[walk->images.count - 1].elf);
    return sections;
}

void sections_close(struct walk *walk)
{
    struct elf_image *images = (struct elf_image *)walk->images.data;
    for (size_t i = 0; i < walk->images.count; i++) {
        elf_end(images[i].elf);
        if (images[i].file >= 0)
            close(images[i].file);
    }
    free(images);
    walk->images = (struct vector){0};
}
