/* Columns shared by the state and transfer kernels; src/instar/state/columns.py mirrors every struct and a
 * test compares the layouts. All addresses are run-time addresses of the past unless a name says new. */
#ifndef INSTAR_STATE_H
#define INSTAR_STATE_H

#include <stddef.h>
#include <stdint.h>

enum instar_object_kind {
    OBJECT_HEAP = 0,
    OBJECT_STATIC = 1,
    OBJECT_TLS = 2,
    OBJECT_LOCAL = 3,
    OBJECT_UNNAMED = 4, /* bytes of a data section that no variable covers: compound literals, padding */
    OBJECT_FRAME = 5,   /* a whole stack frame, or the words between described locals */
};

enum instar_strength { STRENGTH_NONE = 0, STRENGTH_WEAK = 1, STRENGTH_INFERRED = 2, STRENGTH_STRONG = 3 };

enum instar_object_flag {
    FLAG_REACHED = 1,    /* some word of the state may point into it */
    FLAG_BYTES = 2,      /* claimed by a pointer to a character type */
    FLAG_VOID = 4,       /* claimed by a void pointer or a pointer to an incomplete type */
    FLAG_TENTATIVE = 8,  /* claim_type at claim_offset 0 does not fit as exactly one element */
    FLAG_INTERIOR = 16,  /* claim_type was claimed at claim_offset > 0 */
    FLAG_CONFLICT = 32,  /* two claims that no rule reconciles */
    FLAG_TRUNCATED = 64, /* shorter than its type: the last member is cut, or is a flexible array */
    FLAG_POOL = 128,     /* several disjoint types claimed inside */
    FLAG_QUEUED = 256,
    FLAG_SCANNED = 512,
    FLAG_ROOT = 1024,
    FLAG_LIBRARY = 2048, /* owned by a library (FILE): never traced, never copied */
    FLAG_UNION = 4096,   /* claimed by a member of a union */
    FLAG_HELD = 8192,    /* a pointer of a strongly typed object leads to it */
};

enum instar_fate { FATE_STAY = 0, FATE_MOVE = 1, FATE_REPLACE = 2, FATE_DROP = 3 };

typedef struct {
    uint64_t address, size;
    uint64_t new_address;
    union {
        uint64_t out; /* offset of its new bytes in the output buffer (FATE_MOVE) */
        struct {      /* what was claimed of a block without a type, before anything moves */
            int32_t claim_type;
            uint32_t claim_offset;
        };
    };
    uint64_t out_size;
    int32_t parent; /* object whose slot made the claim, -1 for a root */
    uint32_t parent_offset;
    int32_t type; /* -1: opaque */
    uint32_t count;
    int32_t mapping;
    uint8_t kind, fate;
    uint16_t flags : 14, strength : 2;
} instar_object;

typedef struct {
    uint64_t start, end;
    uint8_t *data;
    const uint64_t *begins; /* a bit per 16 bytes: an object begins there; NULL: not known, search */
    const uint32_t *ranks;  /* per word of `begins` how many begin before it */
    int64_t single;         /* the one object of the region, -1 otherwise */
    int64_t first, last;    /* rows of `objects`, sorted by address */
    uint64_t granular;      /* a heap: what lies in an object's last 16 bytes counts as inside */
} instar_region;

enum instar_type_kind {
    KTYPE_NONE = 0,
    KTYPE_BYTES = 1,
    KTYPE_SCALAR = 2,
    KTYPE_POINTER = 3,
    KTYPE_AGGREGATE = 4
};

typedef struct {
    uint64_t size;
    uint64_t tail_offset; /* offset of the last member if it may be cut or grow, else size */
    uint32_t first_slot, slot_count;
    uint32_t tail_slot, tail_slot_count; /* slots of one element of a flexible array member */
    uint32_t tail_size;                  /* its element size, 0: none */
    int32_t inner;                       /* type at offset 0: first member or element, -1 for scalars */
    uint8_t kind, truncatable, library, spare;
    uint32_t spare2;
} instar_type;

enum instar_slot_kind { SLOT_POINTER = 0, SLOT_VOID = 1, SLOT_FUNCTION = 2, SLOT_UNION = 3 };

typedef struct {
    uint64_t offset;
    uint32_t count, stride;
    int32_t pointee; /* -1: void or incomplete */
    uint8_t kind;
    uint8_t mask; /* bits of a tag in the low end of the pointer */
    uint8_t spare[2];
} instar_slot;

typedef struct {
    instar_object *objects;
    uint64_t object_count;
    instar_region *regions; /* sorted by start */
    uint64_t region_count;
    const instar_type *types;
    uint64_t type_count;
    const instar_slot *slots;
    int32_t *queue; /* scratch, object_count entries */
    uint64_t queue_head, queue_tail, queued;
    const int32_t *verdicts; /* triples (current, claimed, winner: 0 keep, 1 take, 2 conflict) */
    uint64_t verdict_count;
    int32_t *unknown_pairs; /* out: pairs (current, claimed) that no verdict covers */
    uint64_t unknown_count, unknown_capacity;
    uint64_t retyped;
    const uint64_t *bitmaps;      /* per type: which aligned words are pointer slots */
    const uint64_t *bitmap_first; /* per type: first bit */
    int32_t *claims; /* out: pairs (object, type) of claims inside untyped blocks, some repeated */
    uint64_t claim_count, claim_capacity; /* the count goes on past the capacity */
} instar_state;

/* The address in a word, without what programs put into bits that addresses do not use: a tag in the top byte, a
 * NaN's sign and exponent. 0 where it can be no pointer. */
static inline uint64_t instar_state_bare(uint64_t value)
{
    if (value < 4096)
        return 0;
    if (!(value >> 47))
        return value;
    int tagged = !(value >> 47 & 0x1ff) || (value >> 51 & 0xfff) == 0xfff;
    uint64_t bare = value & (((uint64_t)1 << 47) - 1);
    return tagged && bare >= 4096 ? bare : 0;
}

/* Bytes of the past that differ between two copies. */
typedef struct {
    uint64_t address, size;
} instar_change;

/* A struct or union that a typed pointer says lies at an address, and the object that holds it. */
typedef struct {
    uint64_t address;
    int32_t type, row;
} instar_inside;

/* Where a pointer value leads in the past; -1 when in no object. */
int64_t instar_state_find(const instar_state *state, uint64_t address);
/* The block that begins at most 16 bytes behind an address (pointers before a block); -1 when there is none. */
int64_t instar_state_before(const instar_state *state, uint64_t address);
const instar_region *instar_state_region(const instar_state *state, uint64_t address);

int instar_state_rank(const instar_object *objects, int64_t first, int64_t last, uint64_t start,
                      uint64_t *begins, uint32_t *ranks, uint64_t words);
void instar_state_make_blocks(instar_object *objects, const uint8_t *blocks, uint64_t stride, uint64_t count);
uint64_t instar_state_merge(uint8_t *copy, const uint8_t *fresh, uint64_t address, uint64_t size,
                            instar_change *changes, uint8_t *saved, uint64_t capacity);
uint64_t instar_state_inside(const instar_state *state, const uint64_t *ranges, uint64_t range_count,
                             instar_inside *found, uint64_t capacity);
void instar_state_trace(instar_state *state, int32_t strength);
void instar_state_reach(instar_state *state);
void instar_state_trace_unions(instar_state *state);
void instar_state_infer(instar_state *state, const int64_t *rows, uint64_t count, int32_t type);
void instar_state_plausible(const instar_state *state, const int64_t *rows, uint64_t row_count, int32_t type,
                            const uint64_t *known, uint64_t known_count, uint8_t *results);
int32_t instar_state_fit(const instar_state *state, const instar_object *block, int32_t type,
                         uint32_t *count);

#endif
