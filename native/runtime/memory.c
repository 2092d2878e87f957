/* Memory on the tool's behalf: scratch for arguments, blocks for what has to move. */
#include "runtime.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Head of a scratch mapping; the gate walks the list with no libc at hand. */
struct scratch {
    uint64_t next;
    uint64_t size;
    uint64_t unused[6]; /* what follows is aligned to a cache line */
};

EXPORT int64_t instar_runtime_scratch(uint64_t size)
{
    uint64_t page = UINT64_C(1) << INSTAR_PAGE_SHIFT;
    uint64_t total;
    if (__builtin_add_overflow(size, sizeof(struct scratch) + page - 1, &total))
        return -ENOMEM;
    total &= ~(page - 1);
    int error = 0;
    struct scratch *scratch = runtime_map_anywhere(total, &error);
    if (!scratch)
        return -error;
    scratch->next = instar_runtime_state.scratch;
    scratch->size = total;
    instar_runtime_state.scratch = (uint64_t)scratch;
    return (int64_t)(scratch + 1);
}

static void *allocate(uint64_t size, uint64_t alignment)
{
    if (alignment <= 2 * sizeof(void *))
        return malloc(size);
    void *memory;
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

EXPORT int64_t instar_runtime_allocate(const uint64_t *sizes, const uint64_t *alignments, uint64_t *addresses,
                                       uint64_t count)
{
    uint64_t done;
    for (done = 0; done < count; done++) {
        addresses[done] = (uint64_t)allocate(sizes[done], alignments ? alignments[done] : 0);
        if (!addresses[done])
            break;
    }
    return (int64_t)done;
}

EXPORT int64_t instar_runtime_release(const uint64_t *addresses, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        free((void *)addresses[i]);
    return 0;
}
