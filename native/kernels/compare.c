/* Compares the reversed state with the past: data bit by bit, pointers by (object, offset). */
#include "validation.h"

#include <string.h>

#define PAGE 4096
#define SLACK 32
#define BLOCK 256

static uint64_t word_at(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static void note(instar_compare *compare, instar_difference difference)
{
    if (compare->difference_count < compare->difference_capacity)
        compare->differences[compare->difference_count] = difference;
    compare->difference_count++;
}

typedef struct {
    const instar_object *object;
    const instar_counterpart *counterpart;
    int32_t row;
    const uint8_t *past, *reversed;
    uint64_t size; /* bytes that are compared */
    uint64_t future_size;
} comparison;

/* Is a byte of the past's layout one that must come back? */
static int is_kept(const instar_compare *compare, const comparison *c, uint64_t offset)
{
    if (c->counterpart->mapping < 0)
        return 1;
    const instar_mapping *mapping = &compare->mappings[c->counterpart->mapping];
    const instar_mask *mask = &compare->masks[c->counterpart->mapping];
    if (mapping->new_size && offset < c->object->count * mapping->new_size)
        return compare->mask_bits[mask->keep + offset % mapping->new_size];
    if (mapping->new_element && offset >= mapping->new_tail)
        return compare->mask_bits[mask->tail_keep + (offset - mapping->new_tail) % mapping->new_element];
    return 0;
}

/* Does a word lead into a block that is left behind because nothing leads there? */
static int is_left_behind(const instar_compare *compare, uint64_t past)
{
    int64_t row = instar_state_find(compare->state, past);
    return row >= 0 && compare->counterparts[row].flags & COUNTERPART_LEFT &&
           past - compare->state->objects[row].address < compare->state->objects[row].size;
}

/* Remember what of the program a slot leads to, unless a slot like it did before. The end of an array is no pointer to
 * the variable behind it. */
static void note_lead(instar_compare *compare, const comparison *c, uint64_t offset, uint64_t past)
{
    const instar_fixed *fixed = instar_compare_fixed(compare, past);
    if (!fixed || past >= fixed->end || (fixed->kind == FIXED_FUNCTION && past != fixed->start) ||
        (fixed->kind != FIXED_FUNCTION && fixed->kind != FIXED_STATIC))
        return;
    if (past == fixed->start && fixed > compare->fixed && fixed[-1].end == past && fixed[-1].count > 1)
        return;
    uint64_t row = fixed - compare->fixed;
    int32_t type = c->object->type;
    uint64_t size = compare->state->types[type].size, member = size ? offset % size : offset;
    uint64_t key = (row + 1) * 0x9e3779b97f4a7c15u ^ ((uint64_t)type << 40 ^ member) * 0xc2b2ae3d27d4eb4fu;
    uint64_t *seen = &compare->leads_seen[(key >> 32) % LEADS_SEEN];
    if (*seen == key)
        return;
    *seen = key;
    if (compare->lead_count < compare->lead_capacity)
        compare->leads[compare->lead_count] = (instar_lead){c->row, (uint32_t)row, offset};
    compare->lead_count++;
}

/* Does a word that is taken for a pointer, because it is exactly the address of a block, not follow the block? */
static int is_stale(const instar_compare *compare, uint64_t past, uint64_t reversed)
{
    int64_t row = past == reversed ? instar_state_find(compare->state, past) : -1;
    return instar_compare_is_placed(compare, row) && compare->state->objects[row].address == past &&
           instar_future_place(compare, row) != past;
}

static void compare_slot(instar_compare *compare, const comparison *c, uint64_t offset, int32_t pointee)
{
    uint64_t past = word_at(c->past + offset), reversed = word_at(c->reversed + offset);
    int literal;
    if (!is_kept(compare, c, offset))
        return;
    compare->counts[COUNT_SLOTS]++;
    if (!past && !reversed) {
        compare->counts[COUNT_NULL]++;
        return;
    }
    if (!instar_compare_leads_same(compare, past, reversed, pointee, &literal))
        note(compare, (instar_difference){past, reversed, offset, c->row, pointee, DIFFERENCE_POINTER, 0});
    else if (past < PAGE || past >= (uint64_t)-PAGE)
        compare->counts[COUNT_NULL]++;
    else if (literal && is_left_behind(compare, past))
        note(compare, (instar_difference){past, reversed, offset, c->row, pointee, DIFFERENCE_LEFT, 0});
    else if (literal)
        compare->counts[COUNT_LITERAL]++;
    else if (past >= compare->image_start && past < compare->image_end && compare->leads_seen)
        note_lead(compare, c, offset, past);
}

static void compare_slots(instar_compare *compare, const comparison *c, uint64_t base, uint32_t first,
                          uint32_t count)
{
    for (uint32_t s = 0; s < count; s++) {
        const instar_slot *slot = &compare->state->slots[first + s];
        for (uint32_t k = 0; k < slot->count; k++) {
            uint64_t offset = base + slot->offset + (uint64_t)k * slot->stride;
            if (offset + 8 > c->size)
                return;
            if (slot->kind == SLOT_UNION) { /* a word of unknown meaning: compared as data */
                uint64_t past = word_at(c->past + offset), reversed = word_at(c->reversed + offset);
                int stale = past >= PAGE && is_kept(compare, c, offset) && is_stale(compare, past, reversed);
                if (stale || (past >= PAGE && is_kept(compare, c, offset) && is_left_behind(compare, past)))
                    note(compare, (instar_difference){past, reversed, offset, c->row, slot->pointee,
                                                      stale ? DIFFERENCE_STALE : DIFFERENCE_LEFT, 0});
                continue;
            }
            compare_slot(compare, c, offset, slot->pointee);
        }
    }
}

static void compare_pointers(instar_compare *compare, const comparison *c)
{
    if (c->object->type < 0)
        return;
    const instar_type *type = &compare->state->types[c->object->type];
    if (type->slot_count)
        for (uint64_t i = 0; i < c->object->count; i++)
            compare_slots(compare, c, i * type->size, type->first_slot, type->slot_count);
    if (c->object->count == 1 && type->tail_size && type->tail_slot_count) /* of several none can grow */
        for (uint64_t at = type->tail_offset; at + type->tail_size <= c->size; at += type->tail_size)
            compare_slots(compare, c, at, type->tail_slot, type->tail_slot_count);
}

/* Bytes of a word at `at` that lie in an eight-byte place at `start`. */
static uint64_t shared_bytes(uint64_t at, uint64_t start)
{
    if (start + 8 <= at || start >= at + 8)
        return 0;
    return start < at ? ~(uint64_t)0 >> (8 * (at - start)) : ~(uint64_t)0 << (8 * (start - at));
}

/* The same for the pointer slots of one element, which begins at `base`. */
static uint64_t slot_bytes_of(const instar_compare *compare, const comparison *c, uint32_t first,
                              uint32_t count, uint64_t base, uint64_t at)
{
    uint64_t bytes = 0;
    for (uint32_t s = 0; s < count; s++) {
        const instar_slot *slot = &compare->state->slots[first + s];
        uint64_t start = base + slot->offset;
        uint64_t k = slot->stride && at >= start + 8 ? (at - start - 7) / slot->stride : 0;
        if (slot->kind == SLOT_UNION)
            continue;
        for (; k < slot->count && start + k * slot->stride < at + 8; k++)
            if (start + k * slot->stride + 8 <= c->size)
                bytes |= shared_bytes(at, start + k * slot->stride);
    }
    return bytes;
}

/* Bytes of a word at `at` that are pointer slots: they were compared as such. */
static uint64_t slot_bytes(const instar_compare *compare, const comparison *c, uint64_t at)
{
    uint64_t bytes = 0;
    if (c->object->type < 0)
        return 0;
    const instar_type *type = &compare->state->types[c->object->type];
    uint64_t element = type->size ? at / type->size : 0;
    int has_tail = c->object->count == 1 && type->tail_size && type->tail_slot_count;
    if (!has_tail && !(c->counterpart->flags & COUNTERPART_LISTED) && !(at & 7) && type->size &&
        !(type->size & 7)) {
        uint64_t bit = compare->state->bitmap_first[c->object->type] + at % type->size / 8;
        return type->slot_count && element < c->object->count &&
                       compare->state->bitmaps[bit / 64] >> (bit % 64) & 1
                   ? ~(uint64_t)0
                   : 0;
    }
    if (type->slot_count && type->size)
        for (uint64_t e = element; e * type->size < at + 8 && e < c->object->count; e++)
            bytes |= slot_bytes_of(compare, c, type->first_slot, type->slot_count, e * type->size, at);
    if (has_tail)
        for (uint64_t start = at < type->tail_offset ? type->tail_offset
                                                     : at - (at - type->tail_offset) % type->tail_size;
             start < at + 8 && start + type->tail_size <= c->size; start += type->tail_size)
            bytes |= slot_bytes_of(compare, c, type->tail_slot, type->tail_slot_count, start, at);
    return bytes;
}

/* Bytes of a word at `at` that a pointer in a packed union makes different, where it leads to the same: such a
 * pointer lies across two words, and neither of them alone means anything. */
static uint64_t explained_by_packed(instar_compare *compare, const comparison *c, uint64_t at)
{
    if (c->object->type < 0 || !(c->counterpart->flags & COUNTERPART_LISTED))
        return 0;
    const instar_type *type = &compare->state->types[c->object->type];
    uint64_t element = type->size ? at / type->size : 0, explained = 0;
    /* the element before may end in this word */
    for (uint64_t e = element ? element - 1 : 0; e <= element + 1 && e < c->object->count; e++)
        for (uint32_t s = 0; s < type->slot_count; s++) {
            const instar_slot *slot = &compare->state->slots[type->first_slot + s];
            if (slot->kind != SLOT_UNION)
                continue;
            for (uint32_t k = 0; k < slot->count; k++) {
                uint64_t offset = e * type->size + slot->offset + (uint64_t)k * slot->stride;
                int literal = 1;
                if (!(offset & 7) || !shared_bytes(at, offset) || offset + 8 > c->size)
                    continue;
                if (!instar_compare_leads_same(compare, word_at(c->past + offset),
                                               word_at(c->reversed + offset), -1, &literal) ||
                    literal)
                    continue;
                explained |= shared_bytes(at, offset);
                compare->counts[COUNT_ASSUMED]++;
            }
        }
    return explained;
}

/* Bytes of one element that are no slots. `mask`: which bits count, NULL for all. */
static void compare_piece(instar_compare *compare, const comparison *c, uint64_t from, uint64_t size,
                          const uint8_t *mask)
{
    for (uint64_t at = from; at < from + size;) {
        uint64_t length = 8 - (at & 7);
        if (length > from + size - at)
            length = from + size - at;
        uint64_t past = 0, reversed = 0, bits = 0;
        memcpy(&past, c->past + at, length);
        memcpy(&reversed, c->reversed + at, length);
        memcpy(&bits, mask ? mask + (at - from) : (const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff",
               length);
        uint64_t slots = (past ^ reversed) & bits ? slot_bytes(compare, c, at) : 0;
        if ((past ^ reversed) & bits & ~slots) {
            int literal = 1;
            uint64_t word = at & ~(uint64_t)7;
            int whole = word + 8 <= c->size;
            uint64_t p = whole ? word_at(c->past + word) : 0, r = whole ? word_at(c->reversed + word) : 0;
            if (whole && !slots && instar_compare_leads_same(compare, p, r, -1, &literal) && !literal)
                compare->counts[COUNT_ASSUMED]++;
            else if ((past ^ reversed) & bits & ~slots & ~explained_by_packed(compare, c, at))
                note(compare,
                     (instar_difference){past, reversed, at, c->row, -1, DIFFERENCE_DATA, (uint32_t)length});
        }
        at += length;
    }
}

static void compare_data(instar_compare *compare, const comparison *c)
{
    for (uint64_t at = 0; at < c->size; at += BLOCK) {
        uint64_t size = c->size - at < BLOCK ? c->size - at : BLOCK;
        if (memcmp(c->past + at, c->reversed + at, size))
            compare_piece(compare, c, at, size, NULL);
    }
}

static void compare_masked(instar_compare *compare, const comparison *c)
{
    const instar_mapping *mapping = &compare->mappings[c->counterpart->mapping];
    const instar_mask *mask = &compare->masks[c->counterpart->mapping];
    for (uint64_t i = 0; i < c->object->count; i++) {
        uint64_t from = i * mapping->new_size;
        if (from >= c->size)
            return;
        uint64_t size = c->size - from < mapping->new_size ? c->size - from : mapping->new_size;
        compare_piece(compare, c, from, size, compare->mask_bits + mask->keep);
    }
    if (!(c->object->flags & FLAG_TRUNCATED) || !mapping->new_element)
        return;
    uint64_t at = mapping->new_tail;
    for (; at + mapping->new_element <= c->size; at += mapping->new_element)
        if (at + mapping->new_element > mapping->new_size)
            compare_piece(compare, c, at, mapping->new_element, compare->mask_bits + mask->tail_keep);
}

/* Members that only the new version has are what its start-up made of them, or zero. */
static void compare_fresh(instar_compare *compare, const comparison *c, const uint8_t *future)
{
    const instar_mapping *mapping = &compare->mappings[c->counterpart->mapping];
    const uint8_t *bits = compare->mask_bits + compare->masks[c->counterpart->mapping].fresh;
    const instar_extra *extra = instar_extra_of(compare, c->counterpart);
    for (uint64_t i = 0; i < c->object->count; i++)
        for (uint64_t k = 0; k < mapping->old_size; k++) {
            uint64_t at = i * mapping->old_size + k;
            if (at >= c->future_size)
                return;
            if (!bits[k])
                continue;
            uint8_t made = extra->baseline && at < extra->baseline_size ? extra->baseline[at] : 0;
            compare->counts[COUNT_FRESH]++;
            if ((future[at] ^ made) & bits[k])
                note(compare, (instar_difference){made, future[at], at, c->row, -1, DIFFERENCE_FRESH, 1});
        }
}

/* What lies behind the last element of a block that moved was no part of it, unless it is too long for that. */
static void compare_beyond(instar_compare *compare, const comparison *c)
{
    const instar_mapping *mapping = &compare->mappings[c->counterpart->mapping];
    uint64_t end = c->object->count * mapping->new_size;
    if (c->object->kind != OBJECT_HEAP || c->object->flags & FLAG_TRUNCATED ||
        end + SLACK >= c->object->size || c->object->size >= 128 * 1024)
        return;
    for (uint64_t at = end; at < c->object->size; at++)
        if (c->past[at]) {
            note(compare, (instar_difference){c->past[at], 0, at, c->row, -1, DIFFERENCE_BEYOND, 1});
            return;
        }
}

/* Words of unknown meaning that were taken for pointers lead to the same, and were not forgotten. */
static void compare_assumed(instar_compare *compare, const comparison *c)
{
    uint64_t low = 0, high = compare->word_count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (compare->words[middle].object < c->row)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < compare->word_count && compare->words[low].object == c->row; low++) {
        const instar_word *word = &compare->words[low];
        int literal;
        if (word->offset + (uint64_t)8 > c->size || !is_kept(compare, c, word->offset))
            continue;
        uint64_t reversed = word_at(c->reversed + word->offset);
        if (!instar_compare_leads_same(compare, word->value, reversed, -1, &literal))
            note(compare,
                 (instar_difference){word->value, reversed, word->offset, c->row, -1, DIFFERENCE_ASSUMED, 0});
    }
}

static void compare_row(instar_compare *compare, int64_t row, const uint8_t *future)
{
    const instar_object *object = &compare->state->objects[row];
    const instar_counterpart *counterpart = &compare->counterparts[row];
    const instar_region *region = instar_state_region(compare->state, object->address);
    if (!region || !region->data || object->size > region->end - object->address) {
        note(compare, (instar_difference){0, 0, 0, (int32_t)row, -1, DIFFERENCE_MISSING, 0});
        return;
    }
    comparison c = {object,
                    counterpart,
                    (int32_t)row,
                    region->data + (object->address - region->start),
                    future,
                    object->size,
                    instar_future_size(compare, row)};
    compare->counts[COUNT_OBJECTS]++;
    if (counterpart->mapping >= 0) {
        instar_reverse_object(compare, object, counterpart->mapping, c.future_size, future, c.past,
                              compare->scratch);
        c.reversed = compare->scratch;
        compare->counts[COUNT_REVERSED]++;
        compare_masked(compare, &c);
        compare_fresh(compare, &c, future);
        compare_beyond(compare, &c);
    } else {
        if (c.future_size < c.size)
            c.size = c.future_size;
        compare_data(compare, &c);
    }
    compare->counts[COUNT_BYTES] += c.size;
    compare_pointers(compare, &c);
    if (counterpart->flags & COUNTERPART_WORDS)
        compare_assumed(compare, &c);
}

/* Compares objects whose counterparts lie in `size` bytes at `start` of the future. */
void instar_compare_rows(instar_compare *compare, const int64_t *rows, uint64_t count, uint64_t start,
                         uint64_t size, const uint8_t *future)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t place = instar_future_place(compare, rows[i]);
        if (place < start || place - start > size ||
            instar_future_size(compare, rows[i]) > size - (place - start)) {
            note(compare, (instar_difference){0, 0, 0, (int32_t)rows[i], -1, DIFFERENCE_MISSING, 0});
            continue;
        }
        compare_row(compare, rows[i], future + (place - start));
    }
}

static int is_told(const instar_told *ranges, uint64_t range_count, uint64_t address, uint64_t size)
{
    uint64_t low = 0, high = range_count;
    while (low < high) { /* first range whose first block lies behind the address */
        uint64_t middle = (low + high) / 2;
        if (ranges[middle].blocks[0] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return 0;
    const instar_told *range = &ranges[low - 1];
    low = 0, high = range->count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (range->blocks[2 * middle] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low && range->blocks[2 * low - 2] == address && range->blocks[2 * low - 1] == size;
}

/* Rows of the wanted objects whose counterparts are in no table of blocks; returns how many there are. */
uint64_t instar_compare_told(const instar_compare *compare, const uint8_t *wanted, const instar_told *ranges,
                             uint64_t range_count, int64_t *missing, uint64_t capacity)
{
    uint64_t count = 0;
    for (uint64_t row = 0; row < compare->state->object_count; row++) {
        if (!wanted[row])
            continue;
        uint64_t size = instar_future_size(compare, (int64_t)row);
        if (is_told(ranges, range_count, instar_future_place(compare, (int64_t)row), size))
            continue;
        if (count < capacity)
            missing[count] = (int64_t)row;
        count++;
    }
    return count;
}

void instar_compare_words(const instar_compare *compare, const uint64_t *past, const uint64_t *future,
                          uint64_t count, uint8_t *same)
{
    for (uint64_t i = 0; i < count; i++) {
        int literal;
        same[i] = (uint8_t)instar_compare_leads_same(compare, past[i], future[i], -1, &literal);
    }
}

/* The first byte at which the future differs from the past's bytes with words put in; -1 when there is none.
 * `patches`: (address, value) by address. */
int64_t instar_compare_patched(const uint8_t *future, const uint8_t *past, uint64_t address, uint64_t size,
                               const uint64_t *patches, uint64_t patch_count)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i <= patch_count; i++) {
        uint64_t stop = i < patch_count ? patches[2 * i] - address : size;
        if (i < patch_count && patches[2 * i] < address)
            stop = 0; /* began before */
        if (stop > at && memcmp(future + at, past + at, stop - at))
            for (;; at++)
                if (future[at] != past[at])
                    return (int64_t)at;
        if (i == patch_count)
            break;
        uint8_t value[8];
        memcpy(value, &patches[2 * i + 1], 8);
        for (uint64_t k = 0; k < 8; k++) {
            uint64_t place = patches[2 * i] + k;
            if (place < address || place - address >= size)
                continue;
            if (future[place - address] != value[k])
                return (int64_t)(place - address);
            at = place - address + 1;
        }
    }
    return -1;
}
