/* What changed between two copies of the past, and whether a plan that was made of the first is still right. */
#include "transfer.h"

#include <string.h>

#define PAGE 4096

/* Brings a copy up to date. Every page (or part of one at the ends) that differs is noted with its address and
 * size, and its old bytes are kept at saved + PAGE * number; past `capacity` changes are counted only. */
uint64_t instar_state_merge(uint8_t *copy, const uint8_t *fresh, uint64_t address, uint64_t size,
                            instar_change *changes, uint8_t *saved, uint64_t capacity)
{
    uint64_t count = 0;
    for (uint64_t at = 0; at < size;) {
        uint64_t step = PAGE - ((address + at) & (PAGE - 1));
        if (step > size - at)
            step = size - at;
        if (memcmp(copy + at, fresh + at, step)) {
            if (count < capacity) {
                changes[count] = (instar_change){address + at, step};
                memcpy(saved + PAGE * count, copy + at, step);
            }
            memcpy(copy + at, fresh + at, step);
            count++;
        }
        at += step;
    }
    return count;
}

/* A word that leads nowhere, whoever reads it: it types nothing, keeps nothing alive, is carried as it is. */
static int is_inert(const instar_transfer *transfer, uint64_t value)
{
    uint64_t result, bare = instar_state_bare(value);
    if (bare && bare != value)
        return is_inert(transfer, bare);
    if (instar_state_find(transfer->state, value) >= 0 || instar_state_before(transfer->state, value) >= 0)
        return 0;
    uint8_t status = instar_transfer_translate(transfer, value, -1, 1, &result);
    return status == STATUS_NULL || status == STATUS_SMALL || status == STATUS_WILD ||
           (status == STATUS_DANGLING && result == value);
}

static int overlaps(const instar_slot *slot, uint64_t offset)
{
    if (offset + 8 <= slot->offset)
        return 0;
    uint64_t last = slot->count ? slot->count - 1 : 0,
             index = slot->stride ? (offset + 7 - slot->offset) / slot->stride : 0;
    if (index > last)
        index = last;
    for (int back = 0; back < 2 && index + 1 > (uint64_t)back; back++) {
        uint64_t at = slot->offset + (index - (uint64_t)back) * slot->stride;
        if (at < offset + 8 && offset < at + 8)
            return 1;
    }
    return 0;
}

/* Does an object live, and have its type if that is asked for, whoever else points at it? */
static int is_held(const instar_object *object, int typed)
{
    if (object->flags & FLAG_ROOT)
        return 1;
    return (object->flags & FLAG_HELD) &&
           (!typed || (object->type >= 0 && object->strength == STRENGTH_STRONG));
}

/* Do all words of a nameless piece of a data section lead to what is held, or nowhere? */
static int leads_to_held(const instar_transfer *transfer, const instar_object *object)
{
    const instar_region *region = instar_state_region(transfer->state, object->address);
    if (object->kind != OBJECT_UNNAMED || object->type >= 0 || object->size > PAGE || !region ||
        !region->data)
        return 0;
    uint64_t at = -object->address & 7;
    for (; at + 8 <= object->size; at += 8) {
        uint64_t value;
        memcpy(&value, region->data + (object->address - region->start) + at, 8);
        int64_t row = instar_state_find(transfer->state, value);
        const instar_object *target = row < 0 ? object : &transfer->state->objects[row];
        if (target != object && !is_held(target, 0))
            return 0;
    }
    return 1;
}

/* Does whatever a value leads to stay what it is when the value changes? */
static int is_settled(const instar_transfer *transfer, uint64_t value, int typed)
{
    int64_t row = instar_state_find(transfer->state, value);
    if (row < 0)
        return 1;
    const instar_object *target = &transfer->state->objects[row];
    return is_held(target, typed) || (!typed && leads_to_held(transfer, target));
}

/* Words of frames that are planned afresh whatever happens: they keep alive what they lead to, and the typed ones
 * among them type what nothing stronger does. */
static int is_free_on_stack(const instar_transfer *transfer, const instar_object *object, uint64_t old_value,
                            uint64_t new_value)
{
    int typed = object->kind == OBJECT_LOCAL;
    if (object->kind != OBJECT_FRAME && (!typed || object->fate != FATE_REPLACE))
        return 0;
    return is_settled(transfer, old_value, typed) && is_settled(transfer, new_value, typed);
}

/* May a word of this object change from one inert value to another without any consequence but its own? Pointer
 * slots may not; nor may words of blocks whose type was found by looking at what they hold. */
static int is_free(const instar_transfer *transfer, const instar_object *object, uint64_t offset)
{
    const uint32_t claims = FLAG_TENTATIVE | FLAG_INTERIOR | FLAG_UNION | FLAG_CONFLICT | FLAG_POOL;
    if (object->type < 0)
        return object->kind != OBJECT_HEAP || !(object->flags & claims);
    if (object->kind == OBJECT_HEAP && object->strength != STRENGTH_STRONG)
        return 0;
    const instar_type *type = &transfer->state->types[object->type];
    if (type->tail_size && type->tail_slot_count && offset + 8 > type->tail_offset)
        return 0;
    if (!type->slot_count)
        return 1;
    if (object->count > 1 && type->size % 8)
        return 0;
    uint64_t within = type->size && object->count > 1 ? offset % type->size : offset;
    for (uint32_t s = 0; s < type->slot_count; s++)
        if (overlaps(&transfer->state->slots[type->first_slot + s], within))
            return 0;
    return 1;
}

typedef struct {
    int64_t *rows;
    uint64_t used, capacity;
} row_list;

enum { CHANGE_FREE = 0, CHANGE_BINDING = -1, CHANGE_TOO_MANY = -2 };

/* One changed word as a part of one object. A word that sticks out of the object is read by nobody as a word. */
static int judge_object(const instar_transfer *transfer, int64_t row, uint64_t address, uint64_t old_value,
                        uint64_t new_value, row_list *list)
{
    const instar_object *object = &transfer->state->objects[row];
    uint64_t end = object->address + object->size;
    if (address >= end || !(object->flags & (FLAG_REACHED | FLAG_ROOT)) || (object->flags & FLAG_LIBRARY))
        return CHANGE_FREE; /* the header of the next chunk; a leak, which nobody looks at */
    if (address >= object->address && address + 8 <= end) {
        if (is_free_on_stack(transfer, object, old_value, new_value))
            return CHANGE_FREE;
        if (!is_free(transfer, object, address - object->address) || !is_inert(transfer, old_value) ||
            !is_inert(transfer, new_value))
            return CHANGE_BINDING;
    } else if (object->type >= 0 && transfer->state->types[object->type].slot_count) {
        return CHANGE_BINDING;
    }
    if (list->used && list->rows[list->used - 1] == row)
        return CHANGE_FREE;
    if (list->used == list->capacity)
        return CHANGE_TOO_MANY;
    list->rows[list->used++] = row;
    return CHANGE_FREE;
}

static int judge_word(const instar_transfer *transfer, uint64_t address, uint64_t old_value,
                      uint64_t new_value, row_list *list)
{
    int64_t before = -1;
    for (int byte = 0; byte < 8; byte++) {
        if (!((old_value ^ new_value) >> (8 * byte) & 0xff))
            continue;
        int64_t row = instar_state_find(transfer->state, address + (uint64_t)byte);
        if (row < 0 || row == before)
            continue;
        int verdict = judge_object(transfer, row, address, old_value, new_value, list);
        if (verdict != CHANGE_FREE)
            return verdict;
        before = row;
    }
    return CHANGE_FREE;
}

/* The objects in which words changed, perhaps repeated. Returns how many; -1 when a change may touch types,
 * reachability, targets or findings, so that a new plan is needed; -2 when `rows` is full. */
int64_t instar_transfer_changed_rows(const instar_transfer *transfer, const instar_change *changes,
                                     const uint8_t *saved, uint64_t count, int64_t *rows, uint64_t capacity)
{
    row_list list = {rows, 0, capacity};
    for (uint64_t c = 0; c < count; c++) {
        const instar_change *change = &changes[c];
        const instar_region *region = instar_state_region(transfer->state, change->address);
        if (!region || !region->data || change->address % 8)
            return CHANGE_BINDING;
        const uint8_t *old_bytes = saved + PAGE * c,
                      *new_bytes = region->data + (change->address - region->start);
        for (uint64_t at = 0; at < change->size; at += 8) {
            uint64_t old_value = 0, new_value = 0, size = change->size - at < 8 ? change->size - at : 8;
            memcpy(&old_value, old_bytes + at, size);
            memcpy(&new_value, new_bytes + at, size);
            if (old_value == new_value)
                continue;
            int verdict = judge_word(transfer, change->address + at, old_value, new_value, &list);
            if (verdict != CHANGE_FREE)
                return verdict;
        }
    }
    return (int64_t)list.used;
}
