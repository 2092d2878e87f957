/* Translation of pointers from the past to the future, and conversion of objects whose layout changes. */
#ifndef INSTAR_TRANSFER_H
#define INSTAR_TRANSFER_H

#include "state.h"

enum instar_fixed_kind {
    FIXED_STATIC = 0,
    FIXED_FUNCTION = 1,
    FIXED_STRING = 2,
    FIXED_LIBRARY = 3,
    FIXED_STACK = 4,
    FIXED_ARGUMENT = 5, /* strings of argv, environment, auxiliary vector */
    FIXED_CODE = 6,     /* text without a function, PLT */
    FIXED_CONSTANT = 7, /* read-only data that is not yet resolved */
};
enum instar_fixed_flag {
    FIXED_EXACT = 1,      /* only its start may be pointed at */
    FIXED_UNPAIRED = 2,   /* has no counterpart */
    FIXED_UNRESOLVED = 4, /* ask the caller (strings) */
    FIXED_DANGLING = 8,   /* exists in the past, dead by definition: stack below the frames */
};

/* A thing that has another address in the future whatever happens: sorted by start, never overlapping. */
typedef struct {
    uint64_t start, end;
    uint64_t new_start;
    int32_t type; /* of one element, -1 unknown */
    uint32_t count;
    int32_t mapping; /* -1: offsets carry over */
    uint8_t kind, flags, spare[2];
} instar_fixed;

enum instar_operation {
    OP_COPY = 0,
    OP_INTEGER = 1,
    OP_FLOAT = 2,
    OP_INT_FLOAT = 3,
    OP_POINTER = 4,
    OP_BITS = 5,
    OP_ENUM = 6,
    OP_EVIDENCE = 7,
};
enum instar_move_flag {
    MOVE_OLD_SIGNED = 1,
    MOVE_NEW_SIGNED = 2,
    MOVE_CHECK_ZERO_TAIL = 4, /* on a COPY of new_size 0: the old bytes must be zero */
    MOVE_NEW_BOOLEAN = 8,
    MOVE_FROM_FLOAT = 16,
    MOVE_HANDLED = 32, /* a handler answers for it: no fault */
};

/* Same layout as instar.pairing.moves.MOVE; `extra` and `path` are rebased to the columns below. */
typedef struct {
    uint64_t old_offset, new_offset;
    uint32_t old_size, new_size; /* bytes of one element */
    uint32_t count;
    uint32_t old_stride, new_stride;
    int32_t extra;
    uint32_t path;
    uint8_t op, flags;
    uint16_t spare;
} instar_move;

typedef struct { /* shifts count from the least significant bit of the first byte of the move's window */
    uint8_t old_shift, old_bits, new_shift, new_bits;
    int32_t enum_table; /* -1: none */
} instar_bits;

typedef struct {
    uint32_t first_value, value_count; /* rows of the enum value table, sorted by old value */
} instar_enum;

typedef struct {
    uint64_t old_size, new_size; /* of one element */
    uint64_t old_tail, new_tail; /* where a cut or flexible last member starts */
    uint32_t old_element, new_element;
    uint32_t first_move, move_count;
    uint32_t first_tail_move, tail_move_count;
    uint64_t first_offset;             /* into offset_maps, old_size + 1 entries */
    uint32_t first_inner, inner_count; /* into inners */
} instar_mapping;

/* Sub-objects of a mapping: a pointer of type `type *` to old_offset leads to new_offset. Sorted by old_offset. */
typedef struct {
    uint64_t old_offset, new_offset;
    int32_t type;
    uint32_t spare;
} instar_inner;

enum instar_status {
    STATUS_NULL = 0,
    STATUS_SMALL = 1,    /* an integer in a pointer: first or last page */
    STATUS_STAY = 2,     /* leads to a block that keeps its address */
    STATUS_MOVED = 3,    /* rewritten */
    STATUS_LIBRARY = 4,  /* rewritten by (library, offset) */
    STATUS_DANGLING = 5, /* into the heap, into no live block */
    STATUS_WILD = 6,     /* into nothing */
    STATUS_UNPAIRED = 7, /* target has no counterpart */
    STATUS_INSIDE = 8,   /* at an odd place of something that moves */
    STATUS_DROPPED = 9,  /* into a member that the new version does not have */
    STATUS_UNRESOLVED = 10,
    STATUS_AMBIGUOUS = 11, /* end of one variable and start of the next, which part ways */
    STATUS_COUNT = 12,
};
enum instar_word_source { WORD_POINTER = 0, WORD_UNEXPLAINED = 1, WORD_UNION = 2, WORD_FUNCTION = 3 };

typedef struct {
    uint64_t value, new_value;
    int32_t object;
    uint32_t offset;
    int32_t pointee;
    uint8_t status, source;
    uint16_t spare;
} instar_word;

enum instar_fault_kind {
    FAULT_RANGE = 1, /* value does not fit */
    FAULT_ENUM = 2,  /* no enumerator of that value */
    FAULT_TAIL = 3,  /* a cut drops non-zero data */
    FAULT_FLOAT = 4, /* precision is lost */
};

typedef struct {
    int64_t value;
    int32_t object;
    uint32_t element;
    uint32_t move; /* global row */
    uint32_t kind;
    uint64_t offset; /* in the old element */
} instar_fault;

typedef struct {
    instar_state *state;
    const instar_fixed *fixed;
    uint64_t fixed_count;
    const instar_mapping *mappings;
    const instar_move *moves;
    const instar_bits *bits;
    const instar_enum *enums;
    const int64_t *enum_values; /* pairs (old, new) */
    const int64_t *offset_maps;
    const instar_inner *inners;
    const uint64_t *bitmaps;      /* per type: which aligned words are pointer slots */
    const uint64_t *bitmap_first; /* per type: first bit */
    const uint64_t *known;        /* ranges (start, end) that are mapped and explained, sorted */
    uint64_t known_count;
    uint8_t *output;
    instar_word *words;
    uint64_t word_count, word_capacity; /* count goes on past capacity: call again with more room */
    instar_word *findings;
    uint64_t finding_count, finding_capacity;
    instar_fault *faults;
    uint64_t fault_count, fault_capacity;
    uint64_t statuses[STATUS_COUNT];             /* of typed pointer slots */
    uint64_t unexplained_statuses[STATUS_COUNT]; /* of all other words */
} instar_transfer;

uint8_t instar_transfer_translate(const instar_transfer *transfer, uint64_t value, int32_t pointee, int exact,
                                  uint64_t *result);
/* Translates a word, counts it and notes what is to be done or reported; returns its new value. `keep`: note a
 * rewrite in `words`. */
uint64_t instar_transfer_judge(instar_transfer *transfer, int64_t row, uint64_t offset, uint64_t value,
                               int32_t pointee, uint8_t source, int keep);
void instar_transfer_translate_all(const instar_transfer *transfer, const uint64_t *values, uint64_t count,
                                   int exact, uint8_t *statuses, uint64_t *results);
void instar_transfer_scan(instar_transfer *transfer);
void instar_transfer_convert(instar_transfer *transfer);
void instar_transfer_convert_rows(instar_transfer *transfer, const int64_t *rows, uint64_t count);
int64_t instar_transfer_changed_rows(const instar_transfer *transfer, const instar_change *changes,
                                     const uint8_t *saved, uint64_t count, int64_t *rows, uint64_t capacity);

#endif
