/* What lies inside memory that the program shares out itself: typed pointers are followed from all typed objects into
 * its ranges, and on from there, whatever the ranges as a whole were taken for. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096

typedef struct {
    const instar_state *state;
    const uint64_t *ranges; /* (start, end), sorted */
    uint64_t range_count;
    instar_inside *found;
    uint64_t count, capacity;
    uint32_t *table; /* row + 1 of `found`, 0 for none */
    uint64_t mask;
} search;

static int is_inside(const search *s, uint64_t address)
{
    uint64_t low = 0, high = s->range_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (s->ranges[2 * middle + 1] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->range_count && s->ranges[2 * low] <= address;
}

/* Notes that a `type` lies at an address, once; past the capacity nothing but the count goes on. */
static void note(search *s, uint64_t address, int32_t type, int32_t row)
{
    uint64_t at = (address ^ (uint64_t)(uint32_t)type << 32) * UINT64_C(0x9E3779B97F4A7C15) >> 20;
    for (at &= s->mask; s->table[at]; at = (at + 1) & s->mask) {
        const instar_inside *known = &s->found[s->table[at] - 1];
        if (known->address == address && known->type == type)
            return;
    }
    if (s->count < s->capacity) {
        s->found[s->count] = (instar_inside){address, type, row};
        s->table[at] = (uint32_t)s->count + 1;
    }
    s->count++;
}

static void follow(search *s, uint64_t value, int32_t type, int from_inside)
{
    if (type < 0 || value < PAGE || s->state->types[type].kind != KTYPE_AGGREGATE ||
        !s->state->types[type].size)
        return;
    int64_t row = instar_state_find(s->state, value);
    if (row < 0)
        return;
    const instar_object *object = &s->state->objects[row];
    int opaque = from_inside && object->kind == OBJECT_HEAP && object->type < 0;
    uint64_t offset = value - object->address;
    if ((opaque || is_inside(s, value)) && offset < object->size &&
        s->state->types[type].tail_offset <= object->size - offset)
        note(s, value, type, (int32_t)row);
}

static void follow_slots(search *s, const uint8_t *data, uint64_t limit, const instar_type *type,
                         int from_inside)
{
    for (uint32_t i = 0; i < type->slot_count; i++) {
        const instar_slot *slot = &s->state->slots[type->first_slot + i];
        for (uint32_t k = 0; slot->kind == SLOT_POINTER && k < slot->count; k++) {
            uint64_t offset = slot->offset + (uint64_t)k * slot->stride, value;
            if (offset + 8 > limit)
                break;
            memcpy(&value, data + offset, 8);
            follow(s, value, slot->pointee, from_inside);
        }
    }
}

static void follow_object(search *s, const instar_object *object)
{
    const instar_region *region = instar_state_region(s->state, object->address);
    if (object->type < 0 || !(object->flags & (FLAG_REACHED | FLAG_ROOT)) || (object->flags & FLAG_LIBRARY) ||
        !region || !region->data)
        return;
    const instar_type *type = &s->state->types[object->type];
    for (uint64_t i = 0; type->slot_count && i < object->count && i * type->size < object->size; i++)
        follow_slots(s, region->data + (object->address - region->start) + i * type->size,
                     object->size - i * type->size, type, 0);
}

/* Fills `found`; returns how many there are, which may be more than the capacity (call again with more room), or
 * UINT64_MAX without memory. `ranges` are sorted (start, end) pairs of the program's own memory. */
uint64_t instar_state_inside(const instar_state *state, const uint64_t *ranges, uint64_t range_count,
                             instar_inside *found, uint64_t capacity)
{
    search s = {
        .state = state, .ranges = ranges, .range_count = range_count, .found = found, .capacity = capacity};
    s.mask = 1;
    while (s.mask < 2 * capacity)
        s.mask *= 2;
    s.table = calloc(s.mask--, sizeof *s.table);
    if (!s.table)
        return UINT64_MAX;
    for (uint64_t row = 0; row < state->object_count; row++)
        follow_object(&s, &state->objects[row]);
    for (uint64_t i = 0; i < s.count && s.count <= capacity; i++) {
        const instar_object *object = &state->objects[found[i].row];
        const instar_region *region = instar_state_region(state, found[i].address);
        if (region && region->data)
            follow_slots(&s, region->data + (found[i].address - region->start),
                         object->address + object->size - found[i].address, &state->types[found[i].type], 1);
    }
    free(s.table);
    return s.count;
}
