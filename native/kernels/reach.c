/* Reachability: what any word of the state might lead to, whatever its type (docs/internals/transfer.md). */
#include "queue.h"

#include <string.h>

static void reach_word(instar_state *state, int64_t row, uint64_t offset, uint64_t value)
{
    value = instar_state_bare(value);
    if (!value)
        return;
    int64_t target = instar_state_find(state, value);
    if (target < 0 || state->objects[target].address != value) {
        int64_t behind = instar_state_before(state, value);
        if (behind >= 0 && !(state->objects[behind].flags & FLAG_REACHED)) {
            instar_state_hold_before(state, value, row, offset);
            instar_state_enqueue(state, behind);
        }
    }
    if (target < 0 || (state->objects[target].flags & FLAG_REACHED))
        return;
    instar_object *found = &state->objects[target];
    if (found->type < 0) {
        found->parent = (int32_t)row;
        found->parent_offset = (uint32_t)offset;
    }
    found->flags |= FLAG_REACHED;
    instar_state_enqueue(state, target);
}

static void reach_words(instar_state *state, int64_t row, const uint8_t *data, uint64_t from, uint64_t to)
{
    uint64_t address = state->objects[row].address;
    for (uint64_t offset = from + (-(address + from) & 7); offset + 8 <= to; offset += 8) {
        uint64_t value;
        memcpy(&value, data + offset, 8);
        reach_word(state, row, offset, value);
    }
}

/* The words of one typed element that tracing has not followed: no slots, and slots of unions. */
static void reach_element(instar_state *state, int64_t row, const uint8_t *data, uint64_t base,
                          uint64_t limit, const instar_type *type, uint64_t first_bit)
{
    uint64_t end = base + type->size < limit ? base + type->size : limit, value;
    for (uint64_t offset = base; offset + 8 <= end; offset += 8) {
        uint64_t bit = first_bit + (offset - base) / 8;
        if (state->bitmaps[bit / 64] >> (bit % 64) & 1)
            continue;
        memcpy(&value, data + offset, 8);
        reach_word(state, row, offset, value);
    }
    for (uint32_t s = 0; s < type->slot_count; s++) {
        const instar_slot *slot = &state->slots[type->first_slot + s];
        for (uint32_t k = 0; slot->kind == SLOT_UNION && k < slot->count; k++) {
            uint64_t offset = base + slot->offset + (uint64_t)k * slot->stride;
            if (offset + 8 > limit)
                break;
            memcpy(&value, data + offset, 8);
            reach_word(state, row, offset, value);
        }
    }
}

static void reach_object(instar_state *state, int64_t row)
{
    instar_object *object = &state->objects[row];
    const instar_region *region = instar_state_region(state, object->address);
    if (!region || !region->data)
        return;
    const uint8_t *data = region->data + (object->address - region->start);
    uint64_t limit =
        object->size < region->end - object->address ? object->size : region->end - object->address;
    const instar_type *type = object->type >= 0 ? &state->types[object->type] : NULL;
    if (!type || !type->slot_count || (object->address | type->size) & 7) {
        reach_words(state, row, data, 0, limit);
        return;
    }
    uint64_t at = 0, first_bit = state->bitmap_first[object->type];
    for (uint32_t element = 0; element < object->count && at < limit; element++, at += type->size)
        reach_element(state, row, data, at, limit, type, first_bit);
    if (at < limit)
        reach_words(state, row, data, at, limit);
}

/* Marks every block that any aligned word of a reached object could point into, tags and integers included:
 * what is left over afterwards is a leak or belongs to a library. */
void instar_state_reach(instar_state *state)
{
    for (uint64_t row = 0; row < state->object_count; row++)
        if ((state->objects[row].flags & (FLAG_REACHED | FLAG_ROOT)) &&
            !(state->objects[row].flags & FLAG_SCANNED))
            instar_state_enqueue(
                state, (int64_t)row); /* called again after more roots: the rest was scanned already */
    for (int64_t row = instar_state_dequeue(state); row >= 0; row = instar_state_dequeue(state)) {
        instar_object *object = &state->objects[row];
        if (object->flags & (FLAG_SCANNED | FLAG_LIBRARY))
            continue;
        object->flags |= FLAG_SCANNED;
        reach_object(state, row);
    }
}
