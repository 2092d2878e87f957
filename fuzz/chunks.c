/* libFuzzer's entry to the walk over glibc's heap: the input is a segment, and what the arena says of it. */
#include "glibc_heap.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BASE UINT64_C(0x555500000000)
enum { CHOICES = 8, TOP_HEADER = 16, SMALLEST = 32, LINKS = 64 };

static void require(int holds)
{
    if (!holds)
        abort();
}

/* Blocks lie inside and in order; where the walk says that it ended is inside, too. */
static void walk(const uint8_t *copy, size_t size, const uint8_t *choices)
{
    size_t capacity = choices[1] & 1 ? size / SMALLEST + 1 : choices[1] % 16;
    instar_heap_block *out = malloc((capacity + 1) * sizeof *out);
    instar_heap_walk state = {.data = copy, .start = BASE, .end = BASE + size};
    state.foreign_arena = choices[0] & 1;
    state.cursor = BASE + (choices[0] & 2 ? choices[2] : 0);
    state.top = choices[0] & 4 ? BASE + size - TOP_HEADER : 0;
    uint64_t count = instar_heap_segment(&state, out, capacity), last = BASE;
    require(count <= capacity);
    for (uint64_t i = 0; i < count; i++) {
        require(out[i].address >= last && out[i].size <= size);
        last = out[i].address + out[i].size;
    }
    require(last <= BASE + size && (state.state == 0 || state.state == 3 || state.cursor <= BASE + size));
    free(out);
}

static void chain(const uint8_t *copy, size_t size, const uint8_t *choices)
{
    size_t half = size / 2 & ~(size_t)15;
    instar_heap_span spans[] = {{BASE, BASE + half, copy},
                                {BASE + size, BASE + size + size - half, copy + half}};
    uint64_t out[LINKS], head = BASE + 16 * (uint64_t)choices[3];
    int64_t count = instar_heap_chain(spans, 2, head, choices[4] % 32, choices[0] >> 7, out, LINKS);
    require(count >= -2 && count <= LINKS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    require(instar_heap_layout(0) == sizeof(instar_heap_block) &&
            instar_heap_layout(1) == sizeof(instar_heap_walk) &&
            instar_heap_layout(2) == sizeof(instar_heap_span));
    if (size < CHOICES + SMALLEST)
        return 0;
    size_t length = (size - CHOICES) & ~(size_t)15;
    uint8_t *copy = malloc(length); /* exactly as long: what is read behind it is seen */
    memcpy(copy, data + CHOICES, length);
    walk(copy, length, data);
    chain(copy, length, data);
    free(copy);
    return 0;
}
