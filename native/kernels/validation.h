/* Transfer back and compare: the future's bytes become a reversed state, which is compared with the past's copy.
 *
 * Nothing here uses the code that transfers forward: mappings are those of the new types to the old ones, moves have
 * an executor of their own, and pointers are compared by what they lead to, never translated. In `mappings`, `moves`
 * and the rest "old" is what is read, the future, and "new" what is made, the reversed state. */
#ifndef INSTAR_VALIDATION_H
#define INSTAR_VALIDATION_H

#include "transfer.h"

enum instar_counterpart_flag {
    COUNTERPART_PLACED = 1,    /* pointers may lead to it: `future` is where */
    COUNTERPART_COMPARED = 2,  /* its contents are compared */
    COUNTERPART_WORDS = 4,     /* some of its words of unknown meaning must have been rewritten */
    COUNTERPART_LISTED = 8,    /* its type has slots that are not aligned, or in unions: no bitmap */
    COUNTERPART_LEFT = 16,     /* a leak: no pointer slot may lead into it */
    COUNTERPART_REGISTER = 32, /* a local that is a register of the future: see its extra */
};

/* One row per object of the past. Where it is in the future, and its size there, follow from the object. */
typedef struct {
    int32_t mapping; /* of one future element to one past element; -1: the same layout */
    uint32_t flags;  /* above the lowest 8 bits: a row of `extras`, from 1; 0 for none */
} instar_counterpart;

/* What only few counterparts have. */
typedef struct {
    const uint8_t *baseline; /* what its start-up left in members that only the new version has; NULL: zero */
    uint64_t baseline_size;
    uint64_t place, register_size;
} instar_extra;

/* Which bits of an element are compared: `keep` of a reversed one, `fresh` of a future one. First bytes in `bits`. */
typedef struct {
    uint64_t keep, fresh;
    uint64_t tail_keep; /* of one element of the tail */
} instar_mask;

enum instar_difference_kind {
    DIFFERENCE_DATA = 0,
    DIFFERENCE_POINTER = 1,
    DIFFERENCE_FRESH = 2,   /* a member of the new version is not what its start-up, or nobody, made of it */
    DIFFERENCE_MISSING = 3, /* the future has no such memory */
    DIFFERENCE_ASSUMED = 4, /* a word of unknown meaning that was to be rewritten */
    DIFFERENCE_BEYOND = 5,  /* data behind the last element that was left behind */
    DIFFERENCE_LEFT = 6,    /* a pointer into a block that was left behind as if nothing led there */
    DIFFERENCE_STALE = 7,   /* a word of a union that is the address of a block, and did not follow it */
};

typedef struct {
    uint64_t past, reversed; /* words */
    uint64_t offset;         /* in the past object; FRESH: in the future one */
    int32_t object, pointee;
    uint32_t kind, spare;
} instar_difference;

/* A pointer slot of the past and the variable or function that it and its counterpart lead to. */
typedef struct {
    int32_t object;
    uint32_t fixed;
    uint64_t offset;
} instar_lead;

#define LEADS_SEEN 4096

enum instar_compare_count {
    COUNT_OBJECTS,
    COUNT_BYTES,
    COUNT_SLOTS,
    COUNT_NULL,     /* of them: null or an integer of the first or last page */
    COUNT_LITERAL,  /* of them: led nowhere in the past, carried as they are */
    COUNT_ASSUMED,  /* words of unknown meaning that lead to the same */
    COUNT_REVERSED, /* objects that went through an inverse mapping */
    COUNT_FRESH,    /* bytes of members that only the new version has */
    COUNT_LAST,
};

typedef struct {
    const instar_state *state;
    const instar_fixed *fixed;
    uint64_t fixed_count;
    const int32_t *fixed_mappings; /* per fixed row, the inverse mapping of one element, or -1 */
    const instar_counterpart *counterparts;
    const instar_extra *extras;
    const instar_mapping *mappings;
    const instar_move *moves;
    const instar_bits *bits;
    const instar_enum *enums;
    const int64_t *enum_values;
    const int64_t *offset_maps;
    const instar_inner *inners;
    const instar_mask *masks; /* per mapping */
    const uint8_t *mask_bits;
    const int32_t *pointees;  /* per type of the past its counterpart in the new version, or -1 */
    const instar_word *words; /* words that must have been rewritten, by object */
    uint64_t word_count;
    uint8_t *scratch; /* room for the largest object that is reversed */
    uint64_t scratch_size;
    instar_difference *differences;
    uint64_t difference_count, difference_capacity; /* the count goes on past the capacity */
    uint64_t image_start, image_end; /* of the past's program: variables and functions lie there */
    uint64_t *leads_seen;            /* LEADS_SEEN entries; NULL: leads are not collected */
    instar_lead *leads;              /* about one per (type, member, target) */
    uint64_t lead_count, lead_capacity;
    uint64_t counts[COUNT_LAST];
} instar_compare;

/* Blocks that the future's runtime is told of, by address: address and size of each. At least one. */
typedef struct {
    const uint64_t *blocks;
    uint64_t count;
} instar_told;

static inline const instar_extra *instar_extra_of(const instar_compare *compare,
                                                  const instar_counterpart *counterpart)
{
    static const instar_extra none = {NULL, 0, 0, 0};
    return counterpart->flags >> 8 ? &compare->extras[(counterpart->flags >> 8) - 1] : &none;
}

static inline uint64_t instar_future_place(const instar_compare *compare, int64_t row)
{
    const instar_object *object = &compare->state->objects[row];
    const instar_counterpart *counterpart = &compare->counterparts[row];
    if (counterpart->flags & COUNTERPART_REGISTER)
        return instar_extra_of(compare, counterpart)->place;
    return object->kind == OBJECT_HEAP && object->fate == FATE_STAY ? object->address : object->new_address;
}

/* Bytes of an object in the future. */
static inline uint64_t instar_future_size(const instar_compare *compare, int64_t row)
{
    const instar_object *object = &compare->state->objects[row];
    const instar_counterpart *counterpart = &compare->counterparts[row];
    if (counterpart->flags & COUNTERPART_REGISTER)
        return instar_extra_of(compare, counterpart)->register_size;
    return object->fate == FATE_MOVE ? object->out_size : object->size;
}

/* The last range of fixed places that begins at or before an address; NULL when there is none. */
static inline const instar_fixed *instar_compare_fixed(const instar_compare *compare, uint64_t address)
{
    uint64_t low = 0, high = compare->fixed_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (compare->fixed[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &compare->fixed[low - 1] : NULL;
}

/* Does the past's object have a counterpart in the future? */
static inline int instar_compare_is_placed(const instar_compare *compare, int64_t row)
{
    return row >= 0 && compare->counterparts[row].flags & COUNTERPART_PLACED;
}

/* Makes the past layout of an object from its future bytes in a zeroed buffer; pointers stay the future's words. Where
 * several values of the past became one, the object as it was tells which of them is made again. */
void instar_reverse_object(const instar_compare *compare, const instar_object *object, int32_t mapping,
                           uint64_t future_size, const uint8_t *future, const uint8_t *past,
                           uint8_t *reversed);
int instar_compare_leads_same(const instar_compare *compare, uint64_t past, uint64_t future, int32_t pointee,
                              int *literal);
void instar_compare_rows(instar_compare *compare, const int64_t *rows, uint64_t count, uint64_t start,
                         uint64_t size, const uint8_t *future);
uint64_t instar_compare_told(const instar_compare *compare, const uint8_t *wanted, const instar_told *ranges,
                             uint64_t range_count, int64_t *missing, uint64_t capacity);
void instar_compare_words(const instar_compare *compare, const uint64_t *past, const uint64_t *future,
                          uint64_t count, uint8_t *same);
int64_t instar_compare_patched(const uint8_t *future, const uint8_t *past, uint64_t address, uint64_t size,
                               const uint64_t *patches, uint64_t patch_count);

#endif
