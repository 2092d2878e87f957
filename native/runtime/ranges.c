/* Which ranges of addresses were inherited, and their tables. All of this runs while the process is parked: by calls
 * of the tool, before the commit. Afterwards ranges only disappear (blocks.c). */
#include "runtime.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

EXPORT struct instar_runtime_state instar_runtime_state = {
    .magic = INSTAR_RUNTIME_MAGIC,
    .version = INSTAR_RUNTIME_VERSION,
    .size = sizeof(struct instar_runtime_state),
    .channel = -1,
    .gate = {.pidfd = -1, .stat = -1},
};

static const uint64_t PAGE = UINT64_C(1) << INSTAR_PAGE_SHIFT;

static struct instar_range *ranges(void)
{
    return (struct instar_range *)instar_runtime_state.ranges;
}

static struct instar_span *spans(void)
{
    return (struct instar_span *)instar_runtime_state.spans;
}

bool runtime_map_pages(uint64_t start, uint64_t size, uint32_t protection, int *error)
{
    void *wanted = (void *)start;
    void *got = mmap(wanted, size, (int)protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == MAP_FAILED) {
        *error = errno;
        return false;
    }
    if (got != wanted) { /* kernels before 4.17 take the flag for a hint */
        munmap(got, size);
        *error = EEXIST;
        return false;
    }
    return true;
}

void *runtime_map_anywhere(uint64_t size, int *error)
{
    void *got = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED) {
        *error = errno;
        return NULL;
    }
    return got;
}

/* Index of the first range that starts at or after the address. */
static uint64_t find_position(uint64_t start)
{
    uint64_t low = 0, high = instar_runtime_state.range_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (ranges()[middle].start < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct instar_range *runtime_range_at_start(uint64_t start)
{
    uint64_t position = find_position(start);
    if (position == instar_runtime_state.range_count || ranges()[position].start != start)
        return NULL;
    return &ranges()[position];
}

/* The bounds that let free() pass by with one comparison. */
static void refresh_bounds(void)
{
    struct instar_runtime_state *state = &instar_runtime_state;
    state->live_ranges = state->range_count;
    state->low = state->range_count ? ranges()[0].start : 0;
    state->extent = state->range_count ? ranges()[state->range_count - 1].end - state->low : 0;
}

static int grow_capacity(void)
{
    struct instar_runtime_state *state = &instar_runtime_state;
    if (state->range_count < state->range_capacity)
        return 0;
    uint64_t element = sizeof(struct instar_range) + sizeof(struct instar_span);
    uint64_t old_size = state->range_capacity * element;
    uint64_t size = old_size ? old_size * 2 : 4 * PAGE;
    int error = 0;
    char *memory = runtime_map_anywhere(size, &error);
    if (!memory)
        return -error;
    uint64_t capacity = size / element;
    char *new_spans = memory + capacity * sizeof(struct instar_range);
    if (old_size) {
        memcpy(memory, ranges(), state->range_count * sizeof(struct instar_range));
        memcpy(new_spans, spans(), state->range_count * sizeof(struct instar_span));
        munmap(ranges(), old_size);
    }
    state->ranges = (uint64_t)memory;
    state->spans = (uint64_t)new_spans;
    state->range_capacity = capacity;
    return 0;
}

static int enter_range(const struct instar_range_request *request)
{
    struct instar_runtime_state *state = &instar_runtime_state;
    int error = grow_capacity();
    if (error)
        return error;
    uint64_t position = find_position(request->start);
    uint64_t after = state->range_count - position;
    memmove(ranges() + position + 1, ranges() + position, after * sizeof(struct instar_range));
    memmove(spans() + position + 1, spans() + position, after * sizeof(struct instar_span));
    uint64_t end = request->start + request->size;
    ranges()[position] = (struct instar_range){.start = request->start, .end = end};
    spans()[position] = (struct instar_span){request->start, end};
    state->range_count++;
    return 0;
}

static void leave_range(struct instar_range *range)
{
    struct instar_runtime_state *state = &instar_runtime_state;
    uint64_t position = (uint64_t)(range - ranges());
    uint64_t after = state->range_count - position - 1;
    runtime_table_drop(range);
    memmove(ranges() + position, ranges() + position + 1, after * sizeof(struct instar_range));
    memmove(spans() + position, spans() + position + 1, after * sizeof(struct instar_span));
    state->range_count--;
}

/* Grows or cuts the mapping of a range that was entered before (the past's heap went on while it served). */
static int resize_range(struct instar_range *range, const struct instar_range_request *request)
{
    uint64_t end = request->start + request->size;
    int error = 0;
    if (end > range->end && !runtime_map_pages(range->end, end - range->end, request->protection, &error))
        return -error;
    if (end < range->end)
        munmap((void *)end, range->end - end);
    if (end != range->end) {
        runtime_table_drop(range);
        range->end = end;
        spans()[range - ranges()].end = end;
    }
    return 0;
}

static int map_range(const struct instar_range_request *request)
{
    if (!request->size || (request->start | request->size) & (PAGE - 1))
        return -EINVAL;
    bool plain = request->flags & INSTAR_RANGE_PLAIN;
    struct instar_range *range = plain ? NULL : runtime_range_at_start(request->start);
    if (range)
        return resize_range(range, request);
    int error = 0;
    if (!runtime_map_pages(request->start, request->size, request->protection, &error))
        return -error;
    if (plain)
        return 0;
    error = enter_range(request);
    if (error)
        munmap((void *)request->start, request->size);
    return error;
}

static void unmap_range(const struct instar_range_request *request)
{
    struct instar_range *range = runtime_range_at_start(request->start);
    if (range && !(request->flags & INSTAR_RANGE_PLAIN)) {
        munmap((void *)range->start, range->end - range->start);
        leave_range(range);
    } else if (request->flags & INSTAR_RANGE_PLAIN) {
        munmap((void *)request->start, request->size);
    }
}

EXPORT int64_t instar_runtime_map_ranges(struct instar_range_request *requests, uint64_t count)
{
    int error = 0;
    uint64_t done;
    for (done = 0; done < count && !error; done++)
        error = requests[done].result = map_range(&requests[done]);
    if (error) /* the last one tried is the one that failed */
        for (uint64_t i = 0; i + 1 < done; i++)
            unmap_range(&requests[i]);
    refresh_bounds();
    return error;
}

EXPORT int64_t instar_runtime_unmap_ranges(struct instar_range_request *requests, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        unmap_range(&requests[i]);
        requests[i].result = 0;
    }
    refresh_bounds();
    return 0;
}

/* ---- tables ----------------------------------------------------------------------------------------------- */

/* Sizes of the four arrays of a range, each rounded so that the next one is aligned. */
struct extents {
    uint64_t blocks, bits, first, counts;
};

static struct extents measure_table(const struct instar_range *range,
                                    const struct instar_range_request *request)
{
    bool wide = request->flags & INSTAR_RANGE_WIDE;
    uint64_t pages = (range->end - range->start) >> INSTAR_PAGE_SHIFT;
    uint64_t element = wide ? sizeof(struct instar_wide_block) : sizeof(struct instar_block);
    return (struct extents){
        .blocks = request->block_count * element,
        .bits = (request->block_count + 63) / 64 * 8,
        .first = (pages + 2) / 2 * 8,
        .counts = (pages + 3) / 4 * 8,
    };
}

static void place_table(struct instar_range *range, struct instar_table *table, uint64_t address,
                        const struct extents *extents)
{
    runtime_table_drop(range);
    range->table = (uint64_t)table;
    range->blocks = address;
    range->live_bits = range->blocks + extents->blocks;
    range->first = range->live_bits + extents->bits;
    range->page_counts = range->first + extents->first;
    table->ranges++;
}

void runtime_table_drop(struct instar_range *range)
{
    struct instar_table *table = (struct instar_table *)range->table;
    range->table = 0;
    range->state = INSTAR_RANGE_EMPTY;
    if (table && __atomic_sub_fetch(&table->ranges, 1, __ATOMIC_ACQ_REL) == 0)
        munmap(table, table->size);
}

EXPORT int64_t instar_runtime_reserve_blocks(struct instar_range_request *requests, uint64_t count)
{
    uint64_t size = sizeof(struct instar_table);
    for (uint64_t i = 0; i < count; i++) {
        struct instar_range *range = runtime_range_at_start(requests[i].start);
        if (!range || requests[i].block_count >= UINT32_MAX || requests[i].granule_shift > INSTAR_PAGE_SHIFT)
            return requests[i].result = range ? -EINVAL : -ENOENT;
        struct extents extents = measure_table(range, &requests[i]);
        size += extents.blocks + extents.bits + extents.first + extents.counts;
    }
    size = (size + PAGE - 1) & ~(PAGE - 1);
    int error = 0;
    struct instar_table *table = count ? runtime_map_anywhere(size, &error) : NULL;
    if (!table)
        return count ? -error : 0;
    table->size = size;
    uint64_t address = (uint64_t)(table + 1);
    for (uint64_t i = 0; i < count; i++) {
        struct instar_range *range = runtime_range_at_start(requests[i].start);
        struct extents extents = measure_table(range, &requests[i]);
        place_table(range, table, address, &extents);
        range->block_count = requests[i].block_count;
        range->granule_shift = requests[i].granule_shift;
        range->wide = (requests[i].flags & INSTAR_RANGE_WIDE) != 0;
        requests[i].blocks = range->blocks;
        requests[i].result = 0;
        address += extents.blocks + extents.bits + extents.first + extents.counts;
    }
    return 0;
}

/* Builds bits, page index and page counts in one pass over the blocks that the tool wrote. */
static int index_blocks(struct instar_range *range)
{
    const struct instar_block *narrow = (const struct instar_block *)range->blocks;
    const struct instar_wide_block *wide = (const struct instar_wide_block *)range->blocks;
    uint64_t *bits = (uint64_t *)range->live_bits;
    uint32_t *first = (uint32_t *)range->first;
    uint16_t *counts = (uint16_t *)range->page_counts;
    uint64_t extent = range->end - range->start;
    uint64_t pages = extent >> INSTAR_PAGE_SHIFT, page = 0, free_from = 0;
    memset(counts, 0, pages * sizeof *counts);
    memset(bits, 0, (range->block_count + 63) / 64 * 8);
    for (uint64_t i = 0; i < range->block_count; i++) {
        uint64_t offset = range->wide ? wide[i].offset : (uint64_t)narrow[i].granule << range->granule_shift;
        uint64_t size = range->wide ? wide[i].size : narrow[i].size;
        if (offset < free_from || !size || offset >= extent || size > extent - offset)
            return -EINVAL;
        free_from = offset + size;
        uint64_t head = offset >> INSTAR_PAGE_SHIFT, tail = (free_from - 1) >> INSTAR_PAGE_SHIFT;
        while (page <= head)
            first[page++] = (uint32_t)i;
        counts[head]++;
        if (tail != head)
            counts[tail]++;
        bits[i / 64] |= UINT64_C(1) << (i % 64);
    }
    while (page <= pages)
        first[page++] = (uint32_t)range->block_count;
    range->live_count = range->block_count;
    range->state = range->block_count ? INSTAR_RANGE_LIVE : INSTAR_RANGE_EMPTY;
    return 0;
}

EXPORT int64_t instar_runtime_set_blocks(struct instar_range_request *requests, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct instar_range *range = runtime_range_at_start(requests[i].start);
        bool ready = range && range->table && range->block_count == requests[i].block_count;
        int error = ready ? index_blocks(range) : -EINVAL;
        requests[i].result = error;
        if (error)
            return error;
    }
    return 0;
}
