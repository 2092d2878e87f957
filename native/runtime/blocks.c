/* The life of inherited blocks after the commit. Called from free() and realloc() of any thread: no locks, no
 * allocation, errno untouched (raw system calls), safe across fork because every step is one atomic operation on
 * private memory (a thread that fork cuts off in the middle costs its child at worst a page that is not given back).
 *
 * A thread that frees a block clears its live bit, gives up its pages, and last the range's live count: whoever brings
 * that to zero is the last one to look at the table, and unmaps. The range's span is emptied before its pages are
 * unmapped, so that a later mapping at these addresses is never taken for inherited memory.
 */
#include "runtime.h"
#include "syscalls.h"

#include <sys/mman.h>

/* The range that holds the address, or NULL. */
static inline struct instar_range *find_range(uint64_t address)
{
    const struct instar_runtime_state *state = &instar_runtime_state;
    if (LIKELY(address - __atomic_load_n(&state->low, __ATOMIC_RELAXED) >=
               __atomic_load_n(&state->extent, __ATOMIC_RELAXED)))
        return NULL;
    struct instar_span *span = (struct instar_span *)state->spans;
    uint64_t count = state->range_count;
    while (count > 1) { /* the last span that starts at or before the address; compiles without branches */
        uint64_t half = count / 2;
        span = span[half].start <= address ? span + half : span;
        count -= half;
    }
    if (address - span->start >= __atomic_load_n(&span->end, __ATOMIC_ACQUIRE) - span->start)
        return NULL;
    return (struct instar_range *)state->ranges + (span - (struct instar_span *)state->spans);
}

static inline uint64_t block_offset(const struct instar_range *range, uint64_t index)
{
    if (UNLIKELY(range->wide))
        return ((const struct instar_wide_block *)range->blocks)[index].offset;
    return (uint64_t)((const struct instar_block *)range->blocks)[index].granule << range->granule_shift;
}

static inline uint64_t block_size(const struct instar_range *range, uint64_t index)
{
    if (UNLIKELY(range->wide))
        return ((const struct instar_wide_block *)range->blocks)[index].size;
    return ((const struct instar_block *)range->blocks)[index].size;
}

bool runtime_blocks_contains(const void *pointer)
{
    return find_range((uint64_t)pointer) != NULL;
}

bool runtime_blocks_find(const void *pointer, struct runtime_found *found)
{
    struct instar_range *range = find_range((uint64_t)pointer);
    if (!range || range->state != INSTAR_RANGE_LIVE)
        return false;
    uint64_t offset = (uint64_t)pointer - range->start, page = offset >> INSTAR_PAGE_SHIFT;
    const uint32_t *first = (const uint32_t *)range->first;
    uint64_t low = first[page], high = first[page + 1];
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (block_offset(range, middle) < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == first[page + 1] || block_offset(range, low) != offset)
        return false;
    const uint64_t *bits = (const uint64_t *)range->live_bits;
    if (!(__atomic_load_n(&bits[low / 64], __ATOMIC_RELAXED) >> (low % 64) & 1))
        return false;
    *found = (struct runtime_found){range, low, offset, block_size(range, low)};
    return true;
}

static void discard_pages(const struct instar_range *range, uint64_t page, uint64_t count)
{
    if (count)
        raw_madvise(range->start + (page << INSTAR_PAGE_SHIFT), count << INSTAR_PAGE_SHIFT, MADV_DONTNEED);
}

/* Gives up one block's claim to a page; true if nobody else lives there. */
static inline bool leave_page(const struct instar_range *range, uint64_t page)
{
    uint16_t *counts = (uint16_t *)range->page_counts;
    return __atomic_sub_fetch(&counts[page], 1, __ATOMIC_ACQ_REL) == 0;
}

static void forget_range(struct instar_range *range)
{
    struct instar_runtime_state *state = &instar_runtime_state;
    uint64_t position = (uint64_t)(range - (struct instar_range *)state->ranges);
    struct instar_span *span = (struct instar_span *)state->spans + position;
    struct instar_table *table = (struct instar_table *)range->table;
    range->state = INSTAR_RANGE_GONE;
    __atomic_store_n(&span->end, span->start, __ATOMIC_RELEASE);
    if (raw_munmap(range->start, range->end - range->start) !=
        0) /* too many mappings: give back the pages at least */
        raw_madvise(range->start, range->end - range->start, MADV_DONTNEED);
    range->table = range->blocks = range->live_bits = range->first = range->page_counts = 0;
    if (__atomic_sub_fetch(&table->ranges, 1, __ATOMIC_ACQ_REL) == 0)
        raw_munmap((uint64_t)table, table->size);
    if (__atomic_sub_fetch(&state->live_ranges, 1, __ATOMIC_ACQ_REL) == 0)
        __atomic_store_n(&state->extent, 0, __ATOMIC_RELAXED);
}

bool runtime_blocks_release(const struct runtime_found *found)
{
    struct instar_range *range = found->range;
    uint64_t *word = (uint64_t *)range->live_bits + found->index / 64;
    uint64_t bit = UINT64_C(1) << (found->index % 64);
    if (UNLIKELY(!(__atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit)))
        return false;
    uint64_t head = found->offset >> INSTAR_PAGE_SHIFT;
    uint64_t tail = (found->offset + found->size - 1) >> INSTAR_PAGE_SHIFT;
    /* Pages strictly between the first and the last belong to this block alone. */
    uint64_t from = leave_page(range, head) ? head : head + 1;
    uint64_t to = head + 1;
    if (tail != head)
        to = leave_page(range, tail) ? tail + 1 : tail;
    if (__atomic_load_n(&range->live_count, __ATOMIC_RELAXED) > 1 && from < to)
        discard_pages(range, from, to - from);
    if (__atomic_sub_fetch(&range->live_count, 1, __ATOMIC_ACQ_REL) == 0)
        forget_range(range);
    return true;
}

void runtime_blocks_shrink(const struct runtime_found *found, uint64_t size)
{
    struct instar_range *range = found->range;
    size = size < 16 ? 16 : (size + 15) & ~UINT64_C(15);
    uint64_t head = found->offset >> INSTAR_PAGE_SHIFT;
    uint64_t old_tail = (found->offset + found->size - 1) >> INSTAR_PAGE_SHIFT;
    uint64_t new_tail = (found->offset + size - 1) >> INSTAR_PAGE_SHIFT;
    if (size >= found->size || new_tail == old_tail)
        return; /* no page to be won: the block stays as large as it is */
    if (new_tail != head)
        __atomic_add_fetch((uint16_t *)range->page_counts + new_tail, 1, __ATOMIC_ACQ_REL);
    if (range->wide)
        ((struct instar_wide_block *)range->blocks)[found->index].size = size;
    else
        ((struct instar_block *)range->blocks)[found->index].size = (uint32_t)size;
    uint64_t end = leave_page(range, old_tail) ? old_tail + 1 : old_tail;
    discard_pages(range, new_tail + 1, end - (new_tail + 1));
}
