/* Range lists and location lists, of DWARF 2-4, of GNU's split DWARF 4 and of DWARF 5 (sections 2.6.2, 2.17.3). */
#include "walker.h"

#include <dwarf.h>

#define HIGHEST UINT64_MAX

enum entry { ENTRY_END, ENTRY_BASE, ENTRY_RANGE, ENTRY_DEFAULT, ENTRY_SKIP, ENTRY_BAD };

struct reader {
    const struct unit *unit;
    struct cursor c;
    uint64_t base, low, high;
};

static bool range_indexed(struct reader *r, bool has_end)
{
    uint64_t first = cursor_uleb(&r->c), second = cursor_uleb(&r->c);
    if (!unit_address(r->unit, first, &r->low))
        return false;
    r->high = r->low + second;
    return !has_end || unit_address(r->unit, second, &r->high);
}

/* DW_RLE_*; DW_LLE_* are the same up to offset_pair (rnglists has no default entry, hence `is_location`). */
static enum entry next_modern(struct reader *r, bool is_location)
{
    struct cursor *c = &r->c;
    unsigned kind = (unsigned)cursor_fixed(c, 1);
    if (!is_location && kind >= DW_RLE_base_address)
        kind++; /* as the location list's numbers */
    switch (kind) {
    case DW_LLE_end_of_list:
        return ENTRY_END;
    case DW_LLE_base_addressx:
        return unit_address(r->unit, cursor_uleb(c), &r->base) ? ENTRY_BASE : ENTRY_BAD;
    case DW_LLE_startx_endx:
        return range_indexed(r, true) ? ENTRY_RANGE : ENTRY_BAD;
    case DW_LLE_startx_length:
        return range_indexed(r, false) ? ENTRY_RANGE : ENTRY_BAD;
    case DW_LLE_offset_pair:
        r->low = r->base + cursor_uleb(c);
        r->high = r->base + cursor_uleb(c);
        return ENTRY_RANGE;
    case DW_LLE_default_location:
        r->low = 0;
        r->high = HIGHEST;
        return ENTRY_DEFAULT;
    case DW_LLE_base_address:
        r->base = cursor_fixed(c, 8);
        return ENTRY_BASE;
    case DW_LLE_start_end:
        r->low = cursor_fixed(c, 8);
        r->high = cursor_fixed(c, 8);
        return ENTRY_RANGE;
    case DW_LLE_start_length:
        r->low = cursor_fixed(c, 8);
        r->high = r->low + cursor_uleb(c);
        return ENTRY_RANGE;
    case 9: /* DW_LLE_GNU_view_pair */
        cursor_uleb(c);
        cursor_uleb(c);
        return ENTRY_SKIP;
    default:
        return ENTRY_BAD;
    }
}

static enum entry next_old(struct reader *r)
{
    uint64_t first = cursor_fixed(&r->c, 8), second = cursor_fixed(&r->c, 8);
    if (!first && !second)
        return ENTRY_END;
    if (first == HIGHEST) {
        r->base = second;
        return ENTRY_BASE;
    }
    r->low = r->base + first;
    r->high = r->base + second;
    return ENTRY_RANGE;
}

static enum entry next_split4(struct reader *r)
{
    struct cursor *c = &r->c;
    switch (cursor_fixed(c, 1)) {
    case 0:
        return ENTRY_END;
    case 1:
        return unit_address(r->unit, cursor_uleb(c), &r->base) ? ENTRY_BASE : ENTRY_BAD;
    case 2:
        return range_indexed(r, true) ? ENTRY_RANGE : ENTRY_BAD;
    case 3: {
        uint64_t index = cursor_uleb(c);
        r->high = cursor_fixed(c, 4);
        if (!unit_address(r->unit, index, &r->low))
            return ENTRY_BAD;
        if (r->high > INT32_MAX) /* gcc writes lengths of -1 here */
            r->high = 0;
        r->high += r->low;
        return ENTRY_RANGE;
    }
    case 4:
        r->low = r->base + cursor_fixed(c, 4);
        r->high = r->base + cursor_fixed(c, 4);
        return ENTRY_RANGE;
    default:
        return ENTRY_BAD;
    }
}

static _Noreturn void list_bad(struct walk *walk, const struct unit *unit, const char *what)
{
    walk_fail(walk, WALK_DAMAGED, "a %s of the unit %s", what, unit->name ? unit->name : "");
}

static bool list_offset(const struct unit *unit, struct value list, enum section_id id, uint64_t base,
                        uint64_t *offset)
{
    bool ok = true;
    *offset = list.number;
    if (list.class == VALUE_INDEX) {
        uint64_t place = base + (list.number & UINT32_MAX) * unit->offset_size;
        *offset = base + read_offset(unit->sections->at[id], place, unit->offset_size, &ok);
    }
    return ok;
}

static void reader_start(struct walk *walk, struct reader *r, const struct sections *sections,
                         enum section_id id, uint64_t offset)
{
    struct slice whole = sections->at[id];
    if (offset >= whole.size)
        list_bad(walk, r->unit, "list");
    r->c = (struct cursor){whole.data + offset, whole.data + whole.size, false};
    r->base = r->unit->low;
}

uint32_t ranges_read(struct walk *walk, const struct unit *unit, struct value list, uint32_t *first)
{
    struct reader r = {.unit = unit};
    uint64_t offset;
    bool is_modern = unit->version >= 5;
    *first = (uint32_t)walk->ranges.count;
    if (list.class == VALUE_NONE)
        return 0;
    if (!list_offset(unit, list, SECTION_RNGLISTS, unit->rnglists_base, &offset))
        list_bad(walk, unit, "range list");
    const struct sections *sections = unit->sections;
    if (!is_modern && unit->skeleton) { /* GNU split DWARF 4: ranges stay in the program */
        sections = unit->skeleton->sections;
        offset += unit->skeleton->ranges_base;
    }
    reader_start(walk, &r, sections, is_modern ? SECTION_RNGLISTS : SECTION_RANGES, offset);
    for (;;) {
        enum entry entry = is_modern ? next_modern(&r, false) : next_old(&r);
        if (entry == ENTRY_BAD || r.c.bad)
            list_bad(walk, unit, "range list");
        if (entry == ENTRY_END)
            return (uint32_t)walk->ranges.count - *first;
        if (entry == ENTRY_RANGE && r.low < r.high)
            *(struct range_row *)vector_push(walk, &walk->ranges, 1) = (struct range_row){r.low, r.high};
    }
}

uint32_t location_push(struct walk *walk, const struct unit *unit, uint64_t low, uint64_t high,
                       const uint8_t *expression, size_t size)
{
    struct location_row row = {.low = low, .high = high};
    row.expression = expression_pool(walk, unit, expression, size, &row.length);
    *(struct location_row *)vector_push(walk, &walk->locations, 1) = row;
    return (uint32_t)walk->locations.count - 1;
}

static void list_entry(struct walk *walk, struct reader *r)
{
    bool is_modern = r->unit->version >= 5;
    uint64_t size = is_modern ? cursor_uleb(&r->c) : cursor_fixed(&r->c, 2);
    const uint8_t *expression = cursor_skip(&r->c, size);
    if (expression && size && r->low < r->high)
        location_push(walk, r->unit, r->low, r->high, expression, size);
}

static void location_list(struct walk *walk, const struct unit *unit, struct value list)
{
    struct reader r = {.unit = unit};
    uint64_t offset;
    bool is_modern = unit->version >= 5;
    if (!list_offset(unit, list, SECTION_LOCLISTS, unit->loclists_base, &offset))
        list_bad(walk, unit, "location list");
    reader_start(walk, &r, unit->sections, is_modern ? SECTION_LOCLISTS : SECTION_LOC, offset);
    for (;;) {
        enum entry entry = is_modern        ? next_modern(&r, true)
                           : unit->is_split ? next_split4(&r)
                                            : next_old(&r);
        if (entry == ENTRY_BAD || r.c.bad)
            list_bad(walk, unit, "location list");
        if (entry == ENTRY_END)
            return;
        if (entry == ENTRY_RANGE || entry == ENTRY_DEFAULT)
            list_entry(walk, &r);
    }
}

uint32_t locations_read(struct walk *walk, const struct unit *unit, struct value location, uint32_t *first)
{
    *first = (uint32_t)walk->locations.count;
    bool is_list = location.class == VALUE_OFFSET || location.class == VALUE_INDEX ||
                   (location.class == VALUE_CONSTANT && unit->version < 4);
    if (location.class == VALUE_BLOCK && location.number)
        location_push(walk, unit, 0, HIGHEST, location.data, location.number);
    else if (is_list)
        location_list(walk, unit, location);
    return (uint32_t)walk->locations.count - *first;
}
