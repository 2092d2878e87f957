/* Where a word of the past leads in the future: the target decides, not the pointer's type. */
#include "transfer.h"

#include <string.h>

#define PAGE 4096

static const uint8_t zeros[PAGE];

static const instar_fixed *find_fixed(const instar_transfer *transfer, uint64_t address)
{
    uint64_t low = 0, high = transfer->fixed_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (transfer->fixed[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &transfer->fixed[low - 1] : NULL;
}

static int is_known(const instar_transfer *transfer, uint64_t address)
{
    uint64_t low = 0, high = transfer->known_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (transfer->known[2 * middle + 1] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < transfer->known_count && transfer->known[2 * low] <= address;
}

static const instar_inner *find_inner(const instar_transfer *transfer, const instar_mapping *mapping,
                                      uint64_t offset, int32_t pointee, int *ambiguous)
{
    const instar_inner *inners = transfer->inners + mapping->first_inner;
    uint64_t low = 0, high = mapping->inner_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (inners[middle].old_offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    const instar_inner *found = NULL;
    for (; low < mapping->inner_count && inners[low].old_offset == offset; low++)
        if (inners[low].type == pointee) {
            if (found && found->new_offset != inners[low].new_offset)
                *ambiguous = 1; /* the end of an array and what lies behind it, which part */
            found = &inners[low];
        }
    return found;
}

/* New offset of byte `offset` of `count` mapped elements. A pointer to the struct and one to its first member
 * differ only in the slot's type. Returns a status; *result is the new offset. */
static uint8_t map_offset(const instar_transfer *transfer, int32_t row, int32_t type, uint32_t count,
                          uint64_t size, uint64_t offset, int32_t pointee, uint64_t *result)
{
    if (row < 0) {
        *result = offset;
        return STATUS_MOVED;
    }
    const instar_mapping *mapping = &transfer->mappings[row];
    uint64_t element = 0;
    if (count > 1 && mapping->old_size) {
        element = offset / mapping->old_size;
        if (element >= count) {
            *result = count * mapping->new_size; /* one past the end, or the slack behind it */
            return offset == count * mapping->old_size || offset == size ? STATUS_MOVED : STATUS_INSIDE;
        }
        offset -= element * mapping->old_size;
    }
    uint64_t base = element * mapping->new_size;
    if (offset == 0 && (pointee < 0 || pointee == type)) {
        *result = base;
        return STATUS_MOVED;
    }
    int ambiguous = 0;
    const instar_inner *inner =
        pointee >= 0 ? find_inner(transfer, mapping, offset, pointee, &ambiguous) : NULL;
    if (inner) {
        *result = base + inner->new_offset;
        return ambiguous ? STATUS_AMBIGUOUS : STATUS_MOVED;
    }
    if (offset == 0) {
        const instar_type *t = pointee >= 0 ? &transfer->state->types[pointee] : NULL;
        if (!t || t->kind == KTYPE_AGGREGATE || t->kind == KTYPE_BYTES || t->kind == KTYPE_NONE) {
            *result = base;
            return STATUS_MOVED;
        }
    }
    if (mapping->new_element && offset >= mapping->old_tail && mapping->old_element) {
        uint64_t in_tail = offset - mapping->old_tail;
        uint64_t index = in_tail / mapping->old_element;
        *result = base + mapping->new_tail + index * mapping->new_element + in_tail % mapping->old_element;
        return mapping->old_element == mapping->new_element || in_tail % mapping->old_element == 0
                   ? STATUS_MOVED
                   : STATUS_INSIDE;
    }
    if (offset > mapping->old_size) {
        *result = base + mapping->new_size;
        return STATUS_INSIDE;
    }
    int64_t mapped = transfer->offset_maps[mapping->first_offset + offset];
    if (mapped < 0)
        return STATUS_DROPPED;
    *result = base + (uint64_t)mapped;
    return STATUS_MOVED;
}

static uint8_t translate_object(const instar_transfer *transfer, const instar_object *object, uint64_t offset,
                                int32_t pointee, int exact, uint64_t *result)
{
    if (object->fate == FATE_STAY)
        return STATUS_STAY;
    if (object->fate == FATE_DROP)
        return STATUS_UNPAIRED;
    if (exact && offset != 0)
        return STATUS_INSIDE;
    uint64_t mapped = 0;
    uint8_t status = map_offset(transfer, object->fate == FATE_MOVE ? object->mapping : -1, object->type,
                                object->count, object->size, offset, pointee, &mapped);
    *result = object->new_address + mapped;
    return status;
}

static uint8_t translate_fixed(const instar_transfer *transfer, const instar_fixed *fixed, uint64_t value,
                               int32_t pointee, int exact, uint64_t *result)
{
    uint64_t offset = value - fixed->start;
    if (fixed->flags & FIXED_UNRESOLVED)
        return STATUS_UNRESOLVED;
    if (fixed->flags & FIXED_DANGLING) {
        *result = fixed->new_start ? fixed->new_start + offset : value;
        return STATUS_DANGLING;
    }
    if (fixed->flags & FIXED_UNPAIRED)
        return STATUS_UNPAIRED;
    if (offset && fixed->flags & FIXED_EXACT)
        return STATUS_INSIDE;
    if (offset && exact && fixed->kind == FIXED_STATIC && fixed->mapping < 0 &&
        fixed->new_start == fixed->start)
        return STATUS_STAY; /* pointer or not, it is right as it is */
    if (offset && exact && fixed->kind != FIXED_LIBRARY && fixed->kind != FIXED_STRING &&
        fixed->kind != FIXED_ARGUMENT)
        return STATUS_INSIDE;
    uint64_t mapped = 0;
    uint8_t status = map_offset(transfer, fixed->mapping, fixed->type, fixed->count,
                                fixed->end - fixed->start, offset, pointee, &mapped);
    *result = fixed->new_start + mapped;
    if (exact && status == STATUS_MOVED && *result == value)
        return STATUS_STAY;
    return status == STATUS_MOVED && fixed->kind == FIXED_LIBRARY ? STATUS_LIBRARY : status;
}

/* Does `type` begin with, or is it, an element of the pointee's type? */
static int leads_to(const instar_transfer *transfer, int32_t type, int32_t pointee)
{
    for (int32_t t = type; t >= 0; t = transfer->state->types[t].inner)
        if (t == pointee)
            return 1;
    return 0;
}

/* `value` is the end of `before` and perhaps the start of `at` too (static arrays lie back to back). */
static uint8_t translate_boundary(const instar_transfer *transfer, const instar_fixed *before,
                                  const instar_fixed *at, uint64_t value, int32_t pointee, uint64_t *result)
{
    uint64_t end = value, start = value;
    uint8_t end_status = translate_fixed(transfer, before, value, pointee, 0, &end);
    if (!at)
        return *result = end, end_status;
    uint8_t start_status = translate_fixed(transfer, at, value, pointee, 0, &start);
    if (before->kind != FIXED_STATIC || pointee < 0 || !leads_to(transfer, before->type, pointee))
        return *result = start, start_status;
    if (!leads_to(transfer, at->type, pointee))
        return *result = end, end_status;
    *result = start; /* both read well: an array's end is far rarer than a variable's start */
    return end == start || before->count <= 1 ? start_status : STATUS_AMBIGUOUS;
}

uint8_t instar_transfer_translate(const instar_transfer *transfer, uint64_t value, int32_t pointee, int exact,
                                  uint64_t *result)
{
    *result = value;
    if (value == 0)
        return STATUS_NULL;
    if (value < PAGE || value >= (uint64_t)-PAGE)
        return STATUS_SMALL;
    const instar_region *region = instar_state_region(transfer->state, value);
    if (region && (region->granular || region->single >= 0)) {
        int64_t row = instar_state_find(transfer->state, value);
        int64_t behind =
            row < 0 || transfer->state->objects[row].size <= value + 8 - transfer->state->objects[row].address
                ? instar_state_before(transfer->state, value)
                : -1;
        if (behind >= 0 && transfer->state->objects[behind].fate != FATE_STAY &&
            (transfer->state->objects[behind].flags & FLAG_REACHED) &&
            (row < 0 || !(transfer->state->objects[row].flags & FLAG_REACHED)))
            return STATUS_INSIDE; /* just before a block that moves */
        if (row < 0 || !(transfer->state->objects[row].flags & (FLAG_REACHED | FLAG_ROOT)))
            return STATUS_DANGLING;
        const instar_object *object = &transfer->state->objects[row];
        return translate_object(transfer, object, value - object->address, pointee, exact, result);
    }
    const instar_fixed *fixed = find_fixed(transfer, value);
    if (fixed && value < fixed->end) {
        if (!exact && value == fixed->start && fixed > transfer->fixed && fixed[-1].end == value)
            return translate_boundary(transfer, fixed - 1, fixed, value, pointee, result);
        return translate_fixed(transfer, fixed, value, pointee, exact, result);
    }
    if (fixed && value == fixed->end && !exact && fixed->kind == FIXED_STATIC)
        return translate_boundary(transfer, fixed, NULL, value, pointee, result);
    if (region && !exact) { /* right behind a heap range, or the gap between variables */
        return STATUS_INSIDE;
    }
    return is_known(transfer, value) ? STATUS_STAY : STATUS_WILD;
}

void instar_transfer_translate_all(const instar_transfer *transfer, const uint64_t *values, uint64_t count,
                                   int exact, uint8_t *statuses, uint64_t *results)
{
    for (uint64_t i = 0; i < count; i++)
        statuses[i] = instar_transfer_translate(transfer, values[i], -1, exact, &results[i]);
}

static void emit(instar_word *rows, uint64_t *used, uint64_t capacity, instar_word word)
{
    if (*used < capacity)
        rows[*used] = word;
    (*used)++;
}

/* The end of a text, NUL included, over the high bytes of a pointer that lay there before: not to be touched. */
static int is_text_over_stale(const instar_object *object, uint64_t value)
{
    if (object->type < 0 && !(object->flags & FLAG_BYTES))
        return 0;
    int length = 0;
    while (length < 6 && (uint8_t)(value >> (8 * length)) >= ' ' && (uint8_t)(value >> (8 * length)) < 0x7f)
        length++;
    return length && length < 6 && !(uint8_t)(value >> (8 * length));
}

uint64_t instar_transfer_judge(instar_transfer *transfer, int64_t row, uint64_t offset, uint64_t value,
                               int32_t pointee, uint8_t source, int keep)
{
    uint64_t result;
    int exact = source == WORD_UNEXPLAINED || source == WORD_UNION;
    uint8_t status = instar_transfer_translate(transfer, value, pointee, exact, &result);
    if (status == STATUS_LIBRARY && source == WORD_UNEXPLAINED &&
        is_text_over_stale(&transfer->state->objects[row], value))
        return value;
    instar_word word = {value, result, (int32_t)row, (uint32_t)offset, pointee, status, source, 0};
    if (exact)
        transfer->unexplained_statuses[status]++;
    else
        transfer->statuses[status]++;
    int rewritten =
        status == STATUS_MOVED || status == STATUS_LIBRARY || (status == STATUS_DANGLING && !exact);
    if (keep && rewritten && result != value)
        emit(transfer->words, &transfer->word_count, transfer->word_capacity, word);
    if (status > STATUS_STAY && status != STATUS_LIBRARY && (status != STATUS_MOVED || exact) &&
        /* a word of unknown meaning that leads nowhere is data */
        !(exact && (status == STATUS_WILD || status == STATUS_DANGLING)))
        emit(transfer->findings, &transfer->finding_count, transfer->finding_capacity, word);
    return rewritten ? result : value;
}

static void scan_slots(instar_transfer *transfer, int64_t row, const uint8_t *data, uint64_t base,
                       uint64_t limit, const instar_slot *slots, uint32_t count, int unions_only)
{
    for (uint32_t s = 0; s < count; s++) {
        const instar_slot *slot = &slots[s];
        if (unions_only && slot->kind != SLOT_UNION)
            continue;
        uint8_t source = slot->kind == SLOT_UNION      ? WORD_UNION
                         : slot->kind == SLOT_FUNCTION ? WORD_FUNCTION
                                                       : WORD_POINTER;
        for (uint32_t k = 0; k < slot->count; k++) {
            uint64_t offset = base + slot->offset + (uint64_t)k * slot->stride;
            if (offset + 8 > limit)
                break;
            uint64_t value;
            memcpy(&value, data + offset, 8);
            instar_transfer_judge(transfer, row, offset, value, slot->pointee, source, 1);
        }
    }
}

/* A word of unknown meaning. One that only is an address when a tag is taken off is never rewritten: if it leads to
 * something that moves, that is a finding. */
static void scan_word(instar_transfer *transfer, int64_t row, uint64_t offset, uint64_t value)
{
    uint64_t bare = instar_state_bare(value), result;
    if (bare == value && value)
        instar_transfer_judge(transfer, row, offset, value, -1, WORD_UNEXPLAINED, 1);
    if (!bare || bare == value)
        return;
    uint8_t status = instar_transfer_translate(transfer, bare, -1, 1, &result);
    if (status == STATUS_STAY || status == STATUS_DANGLING || status == STATUS_WILD)
        return;
    transfer->unexplained_statuses[STATUS_INSIDE]++;
    instar_word word = {bare, bare, (int32_t)row, (uint32_t)offset, -1, STATUS_INSIDE, WORD_UNEXPLAINED, 0};
    emit(transfer->findings, &transfer->finding_count, transfer->finding_capacity, word);
}

static void scan_words(instar_transfer *transfer, int64_t row, const uint8_t *data, uint64_t from,
                       uint64_t to)
{
    uint64_t address = transfer->state->objects[row].address;
    for (uint64_t offset = from + (-(address + from) & 7); offset + 8 <= to; offset += 8) {
        uint64_t value;
        if (!((address + offset) & (PAGE - 1)) && offset + PAGE <= to &&
            !memcmp(data + offset, zeros, PAGE)) {
            offset += PAGE - 8; /* arenas are mostly unused */
            continue;
        }
        memcpy(&value, data + offset, 8);
        scan_word(transfer, row, offset, value);
    }
}

/* All aligned words of one element that are no pointer slot of its type. */
static void scan_between(instar_transfer *transfer, int64_t row, const uint8_t *data, uint64_t base,
                         uint64_t limit, int32_t type)
{
    const instar_type *t = &transfer->state->types[type];
    uint64_t end = base + t->size < limit ? base + t->size : limit;
    if ((base & 7) || !t->slot_count) {
        scan_words(transfer, row, data, base, end);
        return;
    }
    uint64_t first = transfer->bitmap_first[type];
    for (uint64_t offset = base; offset + 8 <= end; offset += 8) {
        uint64_t bit = first + (offset - base) / 8, value;
        if (transfer->bitmaps[bit / 64] >> (bit % 64) & 1)
            continue;
        memcpy(&value, data + offset, 8);
        scan_word(transfer, row, offset, value);
    }
}

static void scan_typed(instar_transfer *transfer, int64_t row, const uint8_t *data, uint64_t limit)
{
    const instar_object *object = &transfer->state->objects[row];
    const instar_type *type = &transfer->state->types[object->type];
    const instar_slot *slots = transfer->state->slots;
    int converted =
        object->fate == FATE_MOVE && object->mapping >= 0; /* its pointers are judged when converted */
    uint32_t elements = object->count;
    if (!type->slot_count && type->size < 8) {
        elements = 0; /* no word lies in one of them: a value is never across two */
    } else if (!type->slot_count && !(type->size & 7) && !(object->address & 7)) {
        uint64_t all = object->count * type->size;
        scan_words(transfer, row, data, 0, all < limit ? all : limit);
        elements = 0;
    }
    for (uint32_t element = 0; element < elements; element++) {
        scan_slots(transfer, row, data, element * type->size, limit, slots + type->first_slot,
                   type->slot_count, converted);
        scan_between(transfer, row, data, element * type->size, limit, object->type);
    }
    uint64_t end = object->count * type->size;
    if (object->count == 1 && type->tail_size && type->tail_slot_count) { /* of several none can grow */
        for (uint64_t at = type->tail_offset; at + type->tail_size <= limit; at += type->tail_size)
            scan_slots(transfer, row, data, at, limit, slots + type->tail_slot, type->tail_slot_count,
                       converted);
    } else if (type->tail_size && end < limit) {
        scan_words(transfer, row, data, end, limit);
    } else if (end < limit) {
        scan_words(transfer, row, data, end, limit); /* slack, or somebody keeps data there */
    }
}

/* Judges every word of every object that is kept: pointer slots by type, all others only if they hit
 * something that moves. Rewrites go to `words`, what is wrong or assumed to `findings`. */
void instar_transfer_scan(instar_transfer *transfer)
{
    instar_state *state = transfer->state;
    for (uint64_t row = 0; row < state->object_count; row++) {
        const instar_object *object = &state->objects[row];
        if (!(object->flags & (FLAG_REACHED | FLAG_ROOT)) || (object->flags & FLAG_LIBRARY) ||
            object->fate == FATE_REPLACE || object->fate == FATE_DROP || object->kind == OBJECT_FRAME)
            continue;
        const instar_region *region = instar_state_region(state, object->address);
        if (!region || !region->data)
            continue;
        uint64_t limit = object->size;
        if (limit > region->end - object->address)
            limit = region->end - object->address;
        const uint8_t *data = region->data + (object->address - region->start);
        if (object->type >= 0)
            scan_typed(transfer, (int64_t)row, data, limit);
        else
            scan_words(transfer, (int64_t)row, data, 0, limit);
    }
}
