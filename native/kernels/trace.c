/* Types heap blocks by following typed pointers from roots (docs/internals/transfer.md). */
#include "queue.h"

#include <stdbool.h>
#include <string.h>

/* Usable size exceeds the requested one by at most this much in glibc (a remainder too small to split). */
#define SLACK 31
#define PAGE 4096

static uint64_t slack_of(const instar_object *block)
{
    return block->size >= 128 * 1024 - 64 ? PAGE + SLACK : SLACK;
}

/* How `type` explains the whole block: 1 exactly one element, 2 one element with a cut or flexible tail,
 * 3 several elements, 0 not at all. */
int32_t instar_state_fit(const instar_state *state, const instar_object *block, int32_t type, uint32_t *count)
{
    const instar_type *t = &state->types[type];
    *count = 1;
    if (t->size && t->size <= block->size && block->size - t->size <= slack_of(block) && !t->tail_size)
        return 1;
    if (t->tail_size && t->tail_offset <= block->size)
        return 2;
    if (t->size > block->size)
        return t->truncatable && t->tail_offset <= block->size ? 2 : 0;
    if (!t->size || t->size > UINT32_MAX)
        return 0;
    uint64_t elements = block->size / t->size;
    if (block->size - elements * t->size > slack_of(block) || elements > UINT32_MAX)
        return 0;
    *count = (uint32_t)elements;
    return 3;
}

/* Is `inner` at offset 0 of `outer`, at any depth? */
static bool starts_with(const instar_state *state, int32_t outer, int32_t inner)
{
    for (int32_t t = outer; t >= 0; t = state->types[t].inner)
        if (t == inner)
            return true;
    return false;
}

static int32_t verdict(instar_state *state, int32_t current, int32_t claimed)
{
    for (uint64_t i = 0; i < state->verdict_count; i++)
        if (state->verdicts[3 * i] == current && state->verdicts[3 * i + 1] == claimed)
            return state->verdicts[3 * i + 2];
    for (uint64_t i = 0; i < state->unknown_count; i++)
        if (state->unknown_pairs[2 * i] == current && state->unknown_pairs[2 * i + 1] == claimed)
            return 0;
    if (state->unknown_count < state->unknown_capacity) {
        state->unknown_pairs[2 * state->unknown_count] = current;
        state->unknown_pairs[2 * state->unknown_count + 1] = claimed;
        state->unknown_count++;
    }
    return 0;
}

static void set_type(instar_state *state, int64_t row, int32_t type, uint32_t count, int32_t how,
                     int32_t strength, int64_t parent, uint64_t parent_offset)
{
    instar_object *block = &state->objects[row];
    block->type = type;
    block->count = count;
    block->strength = (uint8_t)strength;
    block->parent = (int32_t)parent;
    block->parent_offset = (uint32_t)parent_offset;
    block->flags &= ~(uint32_t)(FLAG_TRUNCATED | FLAG_TENTATIVE);
    if (how == 2)
        block->flags |= FLAG_TRUNCATED;
    if (state->types[type].library)
        block->flags |= FLAG_LIBRARY;
    state->retyped++;
    instar_state_enqueue(state, row);
}

static void claim_base(instar_state *state, int64_t row, int32_t type, int32_t strength, int64_t parent,
                       uint64_t parent_offset)
{
    instar_object *block = &state->objects[row];
    uint32_t count;
    if (block->type == type)
        return;
    int32_t how = instar_state_fit(state, block, type, &count);
    if (block->type >= 0) {
        if (block->strength > strength || starts_with(state, block->type, type))
            return;
        if (how != 1 && how != 2)
            return; /* a claim that does not fit never beats one that does; T ** and embedded nodes end here */
        int32_t winner = starts_with(state, type, block->type) ? 1 : verdict(state, block->type, type);
        if (winner == 2)
            block->flags |= FLAG_CONFLICT;
        if (winner == 1)
            set_type(state, row, type, count, how, strength, parent, parent_offset);
        return;
    }
    if (how == 1 || how == 2) {
        set_type(state, row, type, count, how, strength, parent, parent_offset);
        return;
    }
    if (block->flags & FLAG_TENTATIVE) {
        if (starts_with(state, block->claim_type, type))
            return;
        if (!starts_with(state, type, block->claim_type) &&
            state->types[block->claim_type].kind != KTYPE_POINTER)
            return; /* the first of two tentative claims stays; resolved later from both sides */
    }
    block->flags |= FLAG_TENTATIVE;
    block->claim_type = type;
    block->claim_offset = 0;
    block->parent = (int32_t)parent;
    block->parent_offset = (uint32_t)parent_offset;
}

/* Notes every type that is claimed inside a block that has none. */
static void note_claim(instar_state *state, int64_t row, int32_t type)
{
    uint64_t last = state->claim_count;
    for (uint64_t back = 1; back <= 4 && back <= last && last <= state->claim_capacity; back++)
        if (state->claims[2 * (last - back)] == row && state->claims[2 * (last - back) + 1] == type)
            return;
    if (state->claim_count < state->claim_capacity) {
        state->claims[2 * state->claim_count] = (int32_t)row;
        state->claims[2 * state->claim_count + 1] = type;
    }
    state->claim_count++;
}

static void claim(instar_state *state, uint64_t value, int32_t type, int32_t strength, int64_t parent,
                  uint64_t parent_offset)
{
    int64_t row = instar_state_find(state, value);
    if (row < 0 || state->objects[row].address != value)
        instar_state_hold_before(state, value, parent, parent_offset);
    if (row < 0)
        return;
    instar_object *block = &state->objects[row];
    if (strength == STRENGTH_STRONG)
        block->flags |= FLAG_HELD;
    if (!(block->flags & FLAG_REACHED)) {
        block->flags |= FLAG_REACHED;
        if (block->type < 0) {
            block->parent = (int32_t)parent;
            block->parent_offset = (uint32_t)parent_offset;
        }
    }
    if (block->kind != OBJECT_HEAP && block->kind != OBJECT_UNNAMED)
        return;
    uint64_t offset = value - block->address;
    uint8_t kind = type < 0 ? KTYPE_NONE : state->types[type].kind;
    if (kind == KTYPE_NONE) {
        block->flags |= FLAG_VOID;
    } else if (kind == KTYPE_BYTES) {
        block->flags |= FLAG_BYTES;
    } else if (offset == 0) {
        claim_base(state, row, type, strength, parent, parent_offset);
    } else if (block->type < 0) {
        note_claim(state, row, type);
        if (block->flags & FLAG_TENTATIVE)
            return;
        uint64_t size = state->types[type].size; /* elements of one array lie a multiple of it apart */
        uint64_t apart =
            offset > block->claim_offset ? offset - block->claim_offset : block->claim_offset - offset;
        if ((block->flags & FLAG_INTERIOR) && (block->claim_type != type || (size ? apart % size : apart)))
            block->flags |= FLAG_POOL;
        block->flags |= FLAG_INTERIOR;
        block->claim_type = type;
        block->claim_offset = (uint32_t)offset;
        block->parent = (int32_t)parent;
        block->parent_offset = (uint32_t)parent_offset;
    }
}

static void trace_slots(instar_state *state, int64_t row, const uint8_t *data, uint64_t base, uint64_t limit,
                        const instar_slot *slots, uint32_t slot_count, int32_t strength)
{
    for (uint32_t s = 0; s < slot_count; s++) {
        const instar_slot *slot = &slots[s];
        if (slot->kind == SLOT_UNION || slot->kind == SLOT_FUNCTION)
            continue;
        for (uint32_t k = 0; k < slot->count; k++) {
            uint64_t offset = base + slot->offset + (uint64_t)k * slot->stride;
            if (offset + 8 > limit)
                break;
            uint64_t value;
            memcpy(&value, data + offset, 8);
            value &= ~(uint64_t)slot->mask;
            if (value >= PAGE)
                claim(state, value, slot->pointee, strength, row, offset);
        }
    }
}

static void trace_object(instar_state *state, int64_t row, int32_t strength)
{
    instar_object *object = &state->objects[row];
    if (object->type < 0 || (object->flags & FLAG_LIBRARY))
        return;
    const instar_region *region = instar_state_region(state, object->address);
    if (!region || !region->data)
        return;
    const uint8_t *data = region->data + (object->address - region->start);
    const instar_type *type = &state->types[object->type];
    uint64_t limit =
        object->size < region->end - object->address ? object->size : region->end - object->address;
    if (object->strength < strength)
        strength = object->strength;
    if (type->slot_count)
        for (uint32_t element = 0; element < object->count; element++)
            trace_slots(state, row, data, element * type->size, limit, state->slots + type->first_slot,
                        type->slot_count, strength);
    if (object->count == 1 && type->tail_slot_count && type->tail_size) /* of several none can grow */
        for (uint64_t at = type->tail_offset; at + type->tail_size <= limit; at += type->tail_size)
            trace_slots(state, row, data, at, limit, state->slots + type->tail_slot, type->tail_slot_count,
                        strength);
}

/* Follows every object that is queued or, at first, every typed root; runs to the fixpoint. */
void instar_state_trace(instar_state *state, int32_t strength)
{
    for (uint64_t row = 0; row < state->object_count; row++)
        if ((state->objects[row].flags & FLAG_ROOT) && state->objects[row].strength == strength)
            instar_state_enqueue(state, (int64_t)row);
    for (int64_t row = instar_state_dequeue(state); row >= 0; row = instar_state_dequeue(state))
        trace_object(state, row, strength);
}

/* Null, a small integer, an address in an object or in `known` (sorted ranges). */
static bool is_explained(const instar_state *state, uint64_t value, const uint64_t *known,
                         uint64_t known_count)
{
    if (value < PAGE || value >= (uint64_t)-PAGE || instar_state_find(state, value) >= 0)
        return true;
    for (uint64_t r = 0; r < known_count; r++)
        if (known[2 * r] <= value && value < known[2 * r + 1])
            return true;
    return false;
}

static bool is_plausible(const instar_state *state, const instar_object *block, int32_t type,
                         const uint64_t *known, uint64_t known_count)
{
    const instar_type *t = &state->types[type];
    const instar_region *region = instar_state_region(state, block->address);
    uint32_t count;
    if (!region || !instar_state_fit(state, block, type, &count))
        return false;
    const uint8_t *data = region->data + (block->address - region->start);
    for (uint32_t s = 0; s < t->slot_count; s++) {
        const instar_slot *slot = &state->slots[t->first_slot + s];
        for (uint32_t k = 0; slot->kind != SLOT_UNION && k < slot->count; k++) {
            uint64_t offset = slot->offset + (uint64_t)k * slot->stride, value;
            if (offset + 8 > block->size)
                break;
            memcpy(&value, data + offset, 8);
            if (!is_explained(state, value, known, known_count))
                return false;
        }
    }
    return true;
}

/* Could each of `rows` be `count` elements of `type`? Every pointer slot must be explained. */
void instar_state_plausible(const instar_state *state, const int64_t *rows, uint64_t row_count, int32_t type,
                            const uint64_t *known, uint64_t known_count, uint8_t *results)
{
    for (uint64_t i = 0; i < row_count; i++)
        results[i] = is_plausible(state, &state->objects[rows[i]], type, known, known_count);
}

/* A word of a union: does it lead to a block without a type that this member's pointee explains? */
static void claim_by_union(instar_state *state, uint64_t value, int32_t type, uint64_t row, uint64_t offset)
{
    int64_t target = value < PAGE ? -1 : instar_state_find(state, value);
    if (target < 0)
        return;
    instar_object *block = &state->objects[target];
    uint32_t count;
    if (block->kind != OBJECT_HEAP || block->type >= 0 || block->address != value ||
        instar_state_fit(state, block, type, &count) != 1)
        return;
    if ((block->flags & FLAG_UNION) && block->claim_type != type)
        block->flags |= FLAG_CONFLICT;
    block->flags |= FLAG_UNION | FLAG_REACHED;
    block->claim_type = type;
    block->parent = (int32_t)row;
    block->parent_offset = (uint32_t)offset;
}

static void trace_unions_of(instar_state *state, uint64_t row)
{
    const instar_object *object = &state->objects[row];
    const instar_type *type = &state->types[object->type];
    const instar_region *region = instar_state_region(state, object->address);
    if (!region || !region->data)
        return;
    const uint8_t *data = region->data + (object->address - region->start);
    for (uint32_t element = 0; element < object->count; element++)
        for (uint32_t s = 0; s < type->slot_count; s++) {
            const instar_slot *slot = &state->slots[type->first_slot + s];
            if (slot->kind != SLOT_UNION || slot->pointee < 0 ||
                state->types[slot->pointee].kind <= KTYPE_BYTES)
                continue;
            for (uint32_t k = 0; k < slot->count; k++) {
                uint64_t offset = element * type->size + slot->offset + (uint64_t)k * slot->stride, value;
                if (offset + 8 > object->size)
                    break;
                memcpy(&value, data + offset, 8);
                claim_by_union(state, value, slot->pointee, row, offset);
            }
        }
}

/* Unions with pointers: the word is the base of an untyped block that exactly one member's pointee explains. */
void instar_state_trace_unions(instar_state *state)
{
    for (uint64_t row = 0; row < state->object_count; row++) {
        const instar_object *object = &state->objects[row];
        if (object->type >= 0 && (object->flags & (FLAG_REACHED | FLAG_ROOT)) &&
            !(object->flags & FLAG_LIBRARY))
            trace_unions_of(state, row);
    }
    for (uint64_t row = 0; row < state->object_count; row++) {
        instar_object *block = &state->objects[row];
        if ((block->flags & (FLAG_UNION | FLAG_CONFLICT)) == FLAG_UNION && block->type < 0)
            set_type(state, (int64_t)row, block->claim_type, 1, 1, STRENGTH_INFERRED, block->parent,
                     block->parent_offset);
    }
}

/* Gives `rows` a type that was inferred elsewhere and queues them for the next trace. */
void instar_state_infer(instar_state *state, const int64_t *rows, uint64_t count, int32_t type)
{
    for (uint64_t i = 0; i < count; i++) {
        const instar_object *block = &state->objects[rows[i]];
        uint32_t elements;
        int32_t how = instar_state_fit(state, block, type, &elements);
        if (how && block->type < 0)
            set_type(state, rows[i], type, elements, how, STRENGTH_INFERRED, block->parent,
                     block->parent_offset);
    }
}
