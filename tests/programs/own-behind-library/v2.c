#include "scenario.h"

#include <link.h>
#include <sys/mman.h>

struct entry {
    struct entry *next;
    const char *name;
    long value;
};

enum { PAGE = 4096, PAGES = 2, ENTRIES = 100 };

STATE struct entry *entries;
STATE int (*number)(const char *);
STATE long added[20];
STATE char *end;

static int find_end(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    if (!strstr(info->dlpi_name, "libc.so"))
        return 0;
    uintptr_t *found = data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && info->dlpi_addr + header->p_vaddr + header->p_memsz > *found)
            *found = info->dlpi_addr + header->p_vaddr + header->p_memsz;
    }
    return 1;
}

/* Right behind the zero-filled tail of libc's data, where the kernel makes one mapping of both. */
static void *map_behind_libc(void)
{
    uintptr_t last = 0;
    dl_iterate_phdr(find_end, &last);
    void *wanted = (void *)((last + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *found = mmap(wanted, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (found != wanted)
        abort();
    return found;
}

void fill(void)
{
    entries = map_behind_libc();
    for (int i = 0; i < ENTRIES; i++) {
        entries[i].next = &entries[(i + 1) % ENTRIES];
        entries[i].name = i % 2 ? "odd" : "even";
        entries[i].value = i * 1000;
    }
    number = atoi;
    end = (char *)&entries[ENTRIES];
}

const char *check(void)
{
    EXPECT(entries && end == (char *)&entries[ENTRIES]);
    for (int i = 0; i < ENTRIES; i++) {
        EXPECT(entries[i].next == &entries[(i + 1) % ENTRIES] && entries[i].value == i * 1000);
        EXPECT(strcmp(entries[i].name, i % 2 ? "odd" : "even") == 0);
    }
    EXPECT(number == atoi && number("42") == 42);
    return NULL;
}
