/* Walks copied heap segments of glibc's malloc. Everything read here is somebody else's memory: every size and
 * pointer is checked before it is followed. */
#include "glibc_heap.h"

#include <string.h>

enum {
    PREV_INUSE = 1,
    IS_MMAPPED = 2,
    NON_MAIN_ARENA = 4,
    FLAGS = 7,
    ALIGNMENT = 16,
    HEADER = 16,
    MINIMUM = 32
};

static uint64_t word_at(const instar_heap_walk *walk, uint64_t address)
{
    uint64_t value;
    memcpy(&value, walk->data + (address - walk->start), sizeof value);
    return value;
}

static void fail(instar_heap_walk *walk, uint64_t chunk, uint32_t reason)
{
    walk->state = WALK_FAULT;
    walk->reason = reason;
    walk->fault = chunk;
}

/* Fenceposts: chunks of 16 bytes (up to three in a main segment), in thread arenas closed by a size of 0. */
static void skip_fence(instar_heap_walk *walk, uint64_t chunk)
{
    while (chunk + HEADER <= walk->end && (word_at(walk, chunk + 8) & ~(uint64_t)PREV_INUSE) == HEADER)
        chunk += HEADER;
    if (walk->foreign_arena && chunk + HEADER <= walk->end && word_at(walk, chunk + 8) == PREV_INUSE)
        chunk += HEADER;
    walk->cursor = chunk;
    walk->state = WALK_FENCE;
}

/* One chunk that is no fencepost: 0 when it is wrong, otherwise its size; *live tells whether it is in use. */
static uint64_t judge(instar_heap_walk *walk, uint64_t chunk, uint64_t limit, int *live)
{
    uint64_t head = word_at(walk, chunk + 8), size = head & ~(uint64_t)FLAGS;
    if (size % ALIGNMENT || size < MINIMUM)
        return fail(walk, chunk, REASON_SIZE), 0;
    if (size > limit - chunk)
        return fail(walk, chunk, REASON_BEYOND), 0;
    if ((head & IS_MMAPPED) || (!walk->foreign_arena && (head & NON_MAIN_ARENA)))
        return fail(walk, chunk, REASON_FLAGS), 0;
    uint64_t next = word_at(walk, chunk + size + 8);
    *live = (next & PREV_INUSE) != 0;
    if (!*live && word_at(walk, chunk + size) != size)
        return fail(walk, chunk, REASON_FOOTER), 0;
    if (!*live && walk->previous_free)
        return fail(walk, chunk, REASON_NEIGHBOUR), 0;
    return size;
}

/* Writes the chunks in use (those in thread caches and fast bins included: they look the same) from walk->cursor
 * on; returns how many. */
uint64_t instar_heap_segment(instar_heap_walk *walk, instar_heap_block *out, uint64_t capacity)
{
    uint64_t limit = walk->top ? walk->top : walk->end - HEADER, count = 0, chunk = walk->cursor;
    walk->state = WALK_FULL;
    while (count < capacity) {
        if (walk->top && chunk == walk->top) {
            walk->state = WALK_TOP;
            break;
        }
        if (chunk < walk->start || chunk > limit || chunk % ALIGNMENT) {
            fail(walk, chunk, REASON_BEYOND);
            break;
        }
        if ((word_at(walk, chunk + 8) & ~(uint64_t)PREV_INUSE) == HEADER) {
            skip_fence(walk, chunk);
            return count;
        }
        int live = 0;
        uint64_t size = judge(walk, chunk, limit, &live);
        if (!size)
            break;
        /* A remainder too small to free is made part of the fencepost of a thread arena's heap. */
        if (walk->foreign_arena && size == MINIMUM && word_at(walk, chunk + size + 8) == PREV_INUSE) {
            skip_fence(walk, chunk + size);
            return count;
        }
        if (live)
            out[count++] = (instar_heap_block){chunk + HEADER, size - 8};
        walk->previous_free = !live;
        chunk += size;
    }
    walk->cursor = chunk;
    return count;
}

static const instar_heap_span *span_of(const instar_heap_span *spans, uint64_t count, uint64_t address)
{
    uint64_t low = 0, high = count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (spans[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && spans[low].start <= address && address + 8 <= spans[low].end ? &spans[low] : NULL;
}

/* Follows a list of free blocks from `head` (address of its link word); the link word of a block lies at
 * link_offset from what the links point at. Writes the addresses that the links hold; -1 when a link leads
 * outside the spans or to an odd address, -2 when there are more than `capacity` (a loop). */
int64_t instar_heap_chain(const instar_heap_span *spans, uint64_t span_count, uint64_t head,
                          uint32_t link_offset, uint32_t mangled, uint64_t *out, uint64_t capacity)
{
    uint64_t count = 0;
    for (uint64_t at = head; at;) {
        uint64_t link = at + link_offset, next;
        const instar_heap_span *span = span_of(spans, span_count, link);
        if (!span || at % ALIGNMENT)
            return -1;
        if (count == capacity)
            return -2;
        out[count++] = at;
        memcpy(&next, span->data + (link - span->start), sizeof next);
        at = mangled ? next ^ (link >> 12) : next;
    }
    return (int64_t)count;
}

/* Takes the given rows (ascending, no row twice) out of the column in place; returns how many are left. */
uint64_t instar_heap_remove(instar_heap_block *blocks, uint64_t count, const int64_t *rows,
                            uint64_t row_count)
{
    if (!row_count)
        return count;
    uint64_t to = (uint64_t)rows[0];
    for (uint64_t i = 0; i < row_count; i++) {
        uint64_t from = (uint64_t)rows[i] + 1, end = i + 1 < row_count ? (uint64_t)rows[i + 1] : count;
        memmove(blocks + to, blocks + from, (end - from) * sizeof *blocks);
        to += end - from;
    }
    return to;
}

uint64_t instar_heap_layout(int which)
{
    return which == 0   ? sizeof(instar_heap_block)
           : which == 1 ? sizeof(instar_heap_walk)
                        : sizeof(instar_heap_span);
}
