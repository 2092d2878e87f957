/* The objects of a process: which of them an address lies in, and rows of those that an allocator tells. */
#include "state.h"

#include <string.h>

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
