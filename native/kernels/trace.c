/* Types heap blocks by following typed pointers from roots (design: "Typing the heap"). */
#include "state.h"

#include <stdbool.h>
#include <string.h>

/* Usable size exceeds the requested one by at most this much in glibc (a remainder too small to split). */
#define SLACK 31
#define PAGE 4096

const instar_region *instar_state_region(const instar_state *state, uint64_t address)
{
    uint64_t low = 0, high = state->region_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (state->regions[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < state->region_count && state->regions[low].start <= address)
        return &state->regions[low];
    return NULL;
}

static int64_t search_objects(const instar_state *state, const instar_region *region, uint64_t address)
{
    int64_t low = region->first, high = region->last;
    while (low < high) { /* first object that starts after address */
        int64_t middle = (low + high) / 2;
        if (state->objects[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == region->first)
        return -1;
    const instar_object *object = &state->objects[low - 1];
    return address - object->address < object->size ? low - 1 : -1;
}

static uint64_t granule_of(const instar_region *region, uint64_t address)
{
    return (address - region->start) >> 4;
}

/* The last object that begins in or before a granule, if it reaches there. */
static int64_t find_granular(const instar_state *state, const instar_region *region, uint64_t granule)
{
    int64_t row = region->first - 1;
    if (region->begins) {
        uint64_t word = granule >> 6, until = ~(uint64_t)0 >> (63 - (granule & 63));
        row += region->ranks[word] + __builtin_popcountll(region->begins[word] & until);
    } else {
        for (int64_t low = region->first, high = region->last; low < high;) {
            int64_t middle = low + (high - low) / 2;
            if (granule_of(region, state->objects[middle].address) <= granule)
                row = middle, low = middle + 1;
            else
                high = middle;
        }
    }
    if (row < region->first)
        return -1;
    const instar_object *object = &state->objects[row];
    uint64_t last = object->address + (object->size ? object->size - 1 : 0);
    return granule <= granule_of(region, last) ? row : -1;
}

int64_t instar_state_find(const instar_state *state, uint64_t address)
{
    const instar_region *region = instar_state_region(state, address);
    if (!region)
        return -1;
    if (region->granular && region->single < 0)
        return find_granular(state, region, (address - region->start) >> 4);
    if (region->single >= 0) {
        const instar_object *object = &state->objects[region->single];
        return address >= object->address && address - object->address <= object->size ? region->single : -1;
    }
    return search_objects(state, region, address);
}

int64_t instar_state_before(const instar_state *state, uint64_t address)
{
    int64_t row = instar_state_find(state, address + 16);
    return row >= 0 && state->objects[row].address > address ? row : -1;
}

/* Fills `begins` (zero before) and `ranks`; 0: two objects begin in one granule, so that ranks are no rows. */
int instar_state_rank(const instar_object *objects, int64_t first, int64_t last, uint64_t start,
                      uint64_t *begins, uint32_t *ranks, uint64_t words)
{
    for (int64_t row = first; row < last; row++) {
        uint64_t granule = (objects[row].address - start) >> 4, bit = (uint64_t)1 << (granule & 63);
        if (begins[granule >> 6] & bit)
            return 0;
        begins[granule >> 6] |= bit;
    }
    uint32_t before = 0;
    for (uint64_t word = 0; word < words; word++) {
        ranks[word] = before;
        before += (uint32_t)__builtin_popcountll(begins[word]);
    }
    return 1;
}

/* Opaque heap blocks from a column that begins with address and usable size (u64 each). */
void instar_state_make_blocks(instar_object *objects, const uint8_t *blocks, uint64_t stride, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, blocks += stride) {
        instar_object object = {
            .parent = -1, .type = -1, .count = 1, .mapping = -1, .claim_type = -1, .kind = OBJECT_HEAP};
        memcpy(&object.address, blocks, 8);
        memcpy(&object.size, blocks + 8, 8);
        objects[i] = object;
    }
}

static void enqueue(instar_state *state, int64_t row)
{
    instar_object *object = &state->objects[row];
    if (object->flags & FLAG_QUEUED)
        return;
    object->flags |= FLAG_QUEUED;
    state->queue[state->queue_tail] = (int32_t)row;
    state->queue_tail = (state->queue_tail + 1) % state->object_count;
    state->queued++;
}

static int64_t dequeue(instar_state *state)
{
    if (!state->queued)
        return -1;
    int64_t row = state->queue[state->queue_head];
    state->queue_head = (state->queue_head + 1) % state->object_count;
    state->queued--;
    state->objects[row].flags &= ~(uint32_t)FLAG_QUEUED;
    return row;
}

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
    enqueue(state, row);
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

/* A pointer just before a block (`p = block - 1`) keeps it alive. */
static void hold_before(instar_state *state, uint64_t value, int64_t parent, uint64_t parent_offset)
{
    int64_t row = instar_state_before(state, value);
    if (row < 0 || (state->objects[row].flags & FLAG_REACHED))
        return;
    state->objects[row].flags |= FLAG_REACHED;
    if (state->objects[row].type < 0) {
        state->objects[row].parent = (int32_t)parent;
        state->objects[row].parent_offset = (uint32_t)parent_offset;
    }
}

static void claim(instar_state *state, uint64_t value, int32_t type, int32_t strength, int64_t parent,
                  uint64_t parent_offset)
{
    int64_t row = instar_state_find(state, value);
    if (row < 0 || state->objects[row].address != value)
        hold_before(state, value, parent, parent_offset);
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
    if (type->tail_slot_count && type->tail_size)
        for (uint64_t at = type->tail_offset; at + type->tail_size <= limit; at += type->tail_size)
            trace_slots(state, row, data, at, limit, state->slots + type->tail_slot, type->tail_slot_count,
                        strength);
}

/* Follows every object that is queued or, at first, every typed root; runs to the fixpoint. */
void instar_state_trace(instar_state *state, int32_t strength)
{
    for (uint64_t row = 0; row < state->object_count; row++)
        if ((state->objects[row].flags & FLAG_ROOT) && state->objects[row].strength == strength)
            enqueue(state, (int64_t)row);
    for (int64_t row = dequeue(state); row >= 0; row = dequeue(state))
        trace_object(state, row, strength);
}

static void reach_word(instar_state *state, int64_t row, uint64_t offset, uint64_t value)
{
    value = instar_state_bare(value);
    if (!value)
        return;
    int64_t target = instar_state_find(state, value);
    if (target < 0 || state->objects[target].address != value) {
        int64_t behind = instar_state_before(state, value);
        if (behind >= 0 && !(state->objects[behind].flags & FLAG_REACHED)) {
            hold_before(state, value, row, offset);
            enqueue(state, behind);
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
    enqueue(state, target);
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
            enqueue(state, (int64_t)row); /* called again after more roots: the rest was scanned already */
    for (int64_t row = dequeue(state); row >= 0; row = dequeue(state)) {
        instar_object *object = &state->objects[row];
        if (object->flags & (FLAG_SCANNED | FLAG_LIBRARY))
            continue;
        object->flags |= FLAG_SCANNED;
        reach_object(state, row);
    }
}

/* Could each of `rows` be `count` elements of `type`? Every pointer slot must hold null, a small integer, or lead
 * to a live object or into `known` (sorted ranges). */
void instar_state_plausible(const instar_state *state, const int64_t *rows, uint64_t row_count, int32_t type,
                            const uint64_t *known, uint64_t known_count, uint8_t *results)
{
    const instar_type *t = &state->types[type];
    for (uint64_t i = 0; i < row_count; i++) {
        const instar_object *block = &state->objects[rows[i]];
        const instar_region *region = instar_state_region(state, block->address);
        uint32_t count;
        results[i] = region && instar_state_fit(state, block, type, &count);
        for (uint32_t s = 0; results[i] && s < t->slot_count; s++) {
            const instar_slot *slot = &state->slots[t->first_slot + s];
            for (uint32_t k = 0; slot->kind != SLOT_UNION && k < slot->count; k++) {
                uint64_t offset = slot->offset + (uint64_t)k * slot->stride, value;
                if (offset + 8 > block->size)
                    break;
                memcpy(&value, region->data + (block->address - region->start) + offset, 8);
                if (value < PAGE || value >= (uint64_t)-PAGE || instar_state_find(state, value) >= 0)
                    continue;
                bool explained = false;
                for (uint64_t r = 0; r < known_count && !explained; r++)
                    explained = known[2 * r] <= value && value < known[2 * r + 1];
                if (!explained)
                    results[i] = 0;
            }
        }
    }
}

/* Unions with pointers: the word is the base of an untyped block that exactly one member's pointee explains. */
void instar_state_trace_unions(instar_state *state)
{
    for (uint64_t row = 0; row < state->object_count; row++) {
        const instar_object *object = &state->objects[row];
        if (object->type < 0 || !(object->flags & (FLAG_REACHED | FLAG_ROOT)) ||
            (object->flags & FLAG_LIBRARY))
            continue;
        const instar_type *type = &state->types[object->type];
        const instar_region *region = instar_state_region(state, object->address);
        if (!region || !region->data)
            continue;
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
                    int64_t target = value < PAGE ? -1 : instar_state_find(state, value);
                    if (target < 0)
                        continue;
                    instar_object *block = &state->objects[target];
                    uint32_t count;
                    if (block->kind != OBJECT_HEAP || block->type >= 0 || block->address != value ||
                        instar_state_fit(state, block, slot->pointee, &count) != 1)
                        continue;
                    if ((block->flags & FLAG_UNION) && block->claim_type != slot->pointee)
                        block->flags |= FLAG_CONFLICT;
                    block->flags |= FLAG_UNION | FLAG_REACHED;
                    block->claim_type = slot->pointee;
                    block->parent = (int32_t)row;
                    block->parent_offset = (uint32_t)offset;
                }
            }
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
