/* What the runtime's own files share. Nothing here is visible outside the library. */
#ifndef RUNTIME_H
#define RUNTIME_H

#include "instar_runtime.h"

#include <stdbool.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- ranges.c: which ranges there are */

bool runtime_map_pages(uint64_t start, uint64_t size, uint32_t protection, int *error);
void *runtime_map_anywhere(uint64_t size, int *error);
void runtime_table_drop(struct instar_range *range);
struct instar_range *runtime_range_at_start(uint64_t start);

/* ---- blocks.c: the life of inherited blocks; lock-free, any thread, keeps errno */

struct runtime_found {
    struct instar_range *range;
    uint64_t index;
    uint64_t offset;
    uint64_t size;
};

/* Is the address inside an inherited range? Almost always no, and then it costs one comparison. */
bool runtime_blocks_contains(const void *pointer);
/* The live block that starts exactly there; false if there is none. */
bool runtime_blocks_find(const void *pointer, struct runtime_found *found);
/* Frees it; false if it was free already. Pages and range without live blocks go back to the system. */
bool runtime_blocks_release(const struct runtime_found *found);
/* Makes the block smaller where it lies and gives whole pages back. */
void runtime_blocks_shrink(const struct runtime_found *found, uint64_t size);

#endif
