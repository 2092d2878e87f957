/* The walk over copied heap segments of glibc's malloc: for its kernel and for who tries it.
 * src/instar/heap/walk.py mirrors the structs. */
#ifndef INSTAR_GLIBC_HEAP_H
#define INSTAR_GLIBC_HEAP_H

#include <stdint.h>

enum instar_walk_state {
    WALK_FULL = 0,  /* the output is full */
    WALK_TOP = 1,   /* arrived at the top chunk */
    WALK_FENCE = 2, /* arrived at the fenceposts that close an abandoned segment */
    WALK_FAULT = 3,
};

enum instar_walk_reason {
    REASON_NONE = 0,
    REASON_SIZE = 1,      /* not a multiple of 16, or too small */
    REASON_BEYOND = 2,    /* reaches past the segment or its top chunk */
    REASON_FLAGS = 3,     /* a mapped chunk, or one of another arena, inside a segment */
    REASON_FOOTER = 4,    /* a free chunk whose size at its end differs */
    REASON_NEIGHBOUR = 5, /* two free chunks side by side */
};

typedef struct {
    uint64_t address, size; /* what malloc returned, what malloc_usable_size would say */
} instar_heap_block;

typedef struct {
    const uint8_t *data; /* copy of start..end */
    uint64_t start, end;
    uint64_t cursor; /* chunk to look at next; after WALK_FENCE the first byte after the fenceposts */
    uint64_t top;    /* address of the top chunk, 0 when the segment must end with fenceposts */
    uint64_t fault;  /* chunk that is wrong */
    uint32_t state, reason;
    uint8_t foreign_arena, previous_free, spare[6];
} instar_heap_walk;

typedef struct {
    uint64_t start, end;
    const uint8_t *data;
} instar_heap_span;

uint64_t instar_heap_segment(instar_heap_walk *walk, instar_heap_block *out, uint64_t capacity);
int64_t instar_heap_chain(const instar_heap_span *spans, uint64_t span_count, uint64_t head,
                          uint32_t link_offset, uint32_t mangled, uint64_t *out, uint64_t capacity);
uint64_t instar_heap_layout(int which);
uint64_t instar_heap_remove(instar_heap_block *blocks, uint64_t count, const int64_t *rows,
                            uint64_t row_count);

#endif
