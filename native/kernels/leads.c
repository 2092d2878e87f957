/* Whether a word of the past and one of the future lead to the same: never by translating, but by asking what the
 * past's word leads to and whether the future's lies in the counterpart of that (docs/internals/validation.md). */
#include "validation.h"

#define PAGE 4096

/* The first of the places that start at an offset of a future element. */
static uint64_t first_start(const instar_compare *compare, const instar_mapping *mapping, uint64_t at)
{
    const instar_inner *inners = compare->inners + mapping->first_inner;
    uint64_t low = 0, high = mapping->inner_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (inners[middle].old_offset < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Do offsets of a past element and of its future counterpart mean the same? A pointer to a type that starts there
 * decides; for others any of the things that start there will do. */
static int is_same_member(const instar_compare *compare, const instar_mapping *mapping, uint64_t past,
                          uint64_t future, int32_t pointee)
{
    const instar_inner *inners = compare->inners + mapping->first_inner;
    int32_t meant = pointee >= 0 ? compare->pointees[pointee] : -1;
    int same = 0, typed = 0, same_typed = 0; /* an array may end where the next member starts */
    for (uint64_t i = first_start(compare, mapping, future);
         i < mapping->inner_count && inners[i].old_offset == future; i++) {
        int matches = past == inners[i].new_offset, is_meant = meant >= 0 && inners[i].type == meant;
        typed |= is_meant;
        same_typed |= is_meant && matches;
        same |= matches;
    }
    if (typed || same)
        return typed ? same_typed : same;
    if (mapping->old_element && mapping->new_element && future >= mapping->old_tail) {
        uint64_t index = (future - mapping->old_tail) / mapping->old_element;
        return past == mapping->new_tail + index * mapping->new_element +
                           (future - mapping->old_tail) % mapping->old_element;
    }
    return future <= mapping->old_size &&
           compare->offset_maps[mapping->first_offset + future] == (int64_t)past;
}

/* The same for an object of `count` elements. */
static int is_same_place(const instar_compare *compare, int32_t row, uint64_t count, uint64_t size,
                         uint64_t past, uint64_t future, int32_t pointee)
{
    if (row < 0)
        return past == future;
    const instar_mapping *mapping = &compare->mappings[row];
    uint64_t base = 0;
    if (count > 1 && mapping->old_size) {
        uint64_t element = future / mapping->old_size;
        if (element >= count)
            return past == count * mapping->new_size || past == size;
        future -= element * mapping->old_size;
        base = element * mapping->new_size;
    }
    return past >= base && is_same_member(compare, mapping, past - base, future, pointee);
}

static int leads_to_object(const instar_compare *compare, int64_t row, uint64_t past, uint64_t future,
                           int32_t pointee)
{
    const instar_object *object = &compare->state->objects[row];
    const instar_counterpart *counterpart = &compare->counterparts[row];
    uint64_t place = instar_future_place(compare, row), offset = future - place;
    if (future < place || offset > instar_future_size(compare, row) + 8)
        return 0;
    return is_same_place(compare, counterpart->mapping, object->count, object->size, past - object->address,
                         offset, pointee);
}

static int leads_to_fixed(const instar_compare *compare, const instar_fixed *fixed, uint64_t past,
                          uint64_t future, int32_t pointee)
{
    return future >= fixed->new_start &&
           is_same_place(compare, compare->fixed_mappings[fixed - compare->fixed], fixed->count,
                         fixed->end - fixed->start, past - fixed->start, future - fixed->new_start, pointee);
}

/* Do a word of the past and one of the future lead to the same thing? `literal`: the past's leads to nothing that the
 * future has, so that only the same word will do. Every reading of the past's word counts: the end of one variable is
 * often the start of the next. */
int instar_compare_leads_same(const instar_compare *compare, uint64_t past, uint64_t future, int32_t pointee,
                              int *literal)
{
    const uint64_t unknown = FIXED_UNPAIRED | FIXED_UNRESOLVED;
    *literal = 1;
    if (past < PAGE || past >= (uint64_t)-PAGE)
        return past == future;
    int64_t row = instar_state_find(compare->state, past);
    if (instar_compare_is_placed(compare, row)) {
        *literal = 0;
        if (leads_to_object(compare, row, past, future, pointee))
            return 1;
    }
    int64_t before = instar_state_find(compare->state, past - 1);
    /* blocks are found in steps of 16 bytes: what lies right behind one may be the start of a freed one */
    if (before != row && instar_compare_is_placed(compare, before) &&
        past - compare->state->objects[before].address <= compare->state->objects[before].size) {
        *literal = 0;
        if (leads_to_object(compare, before, past, future, pointee))
            return 1;
    }
    const instar_fixed *fixed = instar_compare_fixed(compare, past);
    for (int i = 0; fixed && i < 2 && fixed - i >= compare->fixed; i++) {
        const instar_fixed *one = fixed - i;
        if (past > one->end || (past == one->end && one->kind != FIXED_STATIC) || one->flags & unknown ||
            (one->flags & FIXED_DANGLING && !one->new_start))
            continue;
        *literal = 0;
        if (leads_to_fixed(compare, one, past, future, pointee))
            return 1;
    }
    return *literal && past == future;
}
