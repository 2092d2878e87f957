/* Unit headers, abbreviations and the bases that a unit's DIE gives. */
#include "walker.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

static void abbrev_read(struct walk *walk, struct abbrevs *table, struct cursor *c, uint64_t code)
{
    struct abbrev *abbrev = vector_push(walk, &table->abbrevs, 1);
    bool is_new;
    if (code != table->abbrevs.count)
        table->is_dense = false;
    *map_slot(walk, &table->by_code, code, &is_new) = (uint32_t)table->abbrevs.count - 1;
    abbrev->tag = (uint16_t)cursor_uleb(c);
    abbrev->has_children = cursor_fixed(c, 1);
    abbrev->first = (uint32_t)table->attributes.count;
    for (;;) {
        struct attribute attribute = {.name = (uint16_t)cursor_uleb(c), .form = (uint16_t)cursor_uleb(c)};
        if (attribute.form == DW_FORM_implicit_const)
            attribute.constant = cursor_sleb(c);
        if (c->bad || (!attribute.name && !attribute.form))
            break;
        *(struct attribute *)vector_push(walk, &table->attributes, 1) = attribute;
        abbrev->count++;
    }
}

static const struct abbrevs *abbrevs_at(struct walk *walk, const struct sections *sections, uint64_t offset)
{
    struct slice all = sections->at[SECTION_ABBREV];
    if (offset >= all.size)
        walk_fail(walk, WALK_DAMAGED, "abbreviations at %#llx lie outside", (unsigned long long)offset);
    bool is_new;
    uint32_t *slot = map_slot(walk, &walk->abbrev_tables, (uintptr_t)all.data + offset, &is_new);
    if (!is_new)
        return ((struct abbrevs **)walk->tables.data)[*slot];
    *slot = (uint32_t)walk->tables.count;
    struct abbrevs *table = walk_allocate(walk, sizeof *table);
    *(void **)vector_push(walk, &walk->tables, 1) = table;
    vector_own(walk, &table->abbrevs, sizeof(struct abbrev));
    vector_own(walk, &table->attributes, sizeof(struct attribute));
    map_own(walk, &table->by_code);
    table->is_dense = true;
    struct cursor c = {all.data + offset, all.data + all.size, false};
    for (uint64_t code; (code = cursor_uleb(&c));)
        abbrev_read(walk, table, &c, code);
    if (c.bad)
        walk_fail(walk, WALK_DAMAGED, "abbreviations at %#llx are cut off", (unsigned long long)offset);
    return table;
}

static bool is_number(struct value value)
{
    return value.class == VALUE_CONSTANT || value.class == VALUE_OFFSET;
}

/* First the bases, because the unit's other attributes are indices that need them. */
static void unit_bases(struct walk *walk, struct unit *unit)
{
    struct cursor c = unit->dies;
    uint64_t code = cursor_uleb(&c);
    const uint32_t *place = map_find(&unit->abbrevs->by_code, code);
    if (!place)
        return;
    const struct abbrev *abbrev = (const struct abbrev *)unit->abbrevs->abbrevs.data + *place;
    const struct attribute *attributes =
        (const struct attribute *)unit->abbrevs->attributes.data + abbrev->first;
    for (int pass = 0; pass < 2; pass++) {
        struct cursor at = c;
        for (uint32_t i = 0; i < abbrev->count; i++) {
            struct value value = form_read(walk, unit, &at, attributes[i].form, attributes[i].constant);
            bool number = is_number(value);
            const char *text = value.class == VALUE_STRING ? (const char *)value.data : NULL;
            /* clang-format off */
            switch (attributes[i].name) {
            case DW_AT_str_offsets_base: if (number) unit->str_offsets_base = value.number; break;
            case DW_AT_addr_base: case DW_AT_GNU_addr_base: if (number) unit->addr_base = value.number; break;
            case DW_AT_rnglists_base: if (number) unit->rnglists_base = value.number; break;
            case DW_AT_loclists_base: if (number) unit->loclists_base = value.number; break;
            case DW_AT_GNU_ranges_base: if (number) unit->ranges_base = value.number; break;
            case DW_AT_GNU_dwo_id: if (number) unit->dwo_id = value.number; break;
            case DW_AT_stmt_list: unit->has_lines = number; unit->line_offset = value.number; break;
            case DW_AT_language: unit->language = (uint32_t)value.number; break;
            case DW_AT_low_pc: if (value.class == VALUE_ADDRESS) unit->low = value.number; break;
            case DW_AT_name: unit->name = text; break;
            case DW_AT_comp_dir: unit->directory = text; break;
            case DW_AT_producer: unit->producer = text; break;
            case DW_AT_dwo_name: case DW_AT_GNU_dwo_name: unit->dwo_name = text; break;
            default: break;
            }
            /* clang-format on */
        }
    }
    unit->tag = abbrev->tag;
}

/* The unit's length and version; afterwards the cursor ends where the unit does. */
static void unit_extent(struct walk *walk, struct unit *unit, struct cursor *c, unsigned long long offset)
{
    uint64_t length = cursor_fixed(c, 4);
    unit->offset_size = length == UINT32_MAX ? 8 : 4;
    if (unit->offset_size == 8)
        length = cursor_fixed(c, 8);
    if (c->bad || length > (uint64_t)(c->end - c->at))
        walk_fail(walk, WALK_DAMAGED, "the unit at %#llx is cut off", offset);
    c->end = c->at + length;
    unit->version = (uint16_t)cursor_fixed(c, 2);
    if (unit->version < 2 || unit->version > 5)
        walk_fail(walk, WALK_VERSION, "DWARF version %u in the unit at %#llx", unit->version, offset);
}

/* The rest of the header (DWARF 5 section 7.5.1; .debug_types headers are those of DWARF 4); the abbreviations' offset. */
static uint64_t unit_header(struct unit *unit, struct cursor *c, bool is_type)
{
    uint64_t abbrevs;
    if (unit->version >= 5) {
        unit->type = (uint8_t)cursor_fixed(c, 1);
        unit->address_size = (uint8_t)cursor_fixed(c, 1);
        abbrevs = cursor_fixed(c, unit->offset_size);
    } else {
        unit->type = is_type ? DW_UT_type : DW_UT_compile;
        abbrevs = cursor_fixed(c, unit->offset_size);
        unit->address_size = (uint8_t)cursor_fixed(c, 1);
    }
    if (unit->version >= 5 && (unit->type == DW_UT_skeleton || unit->type == DW_UT_split_compile))
        unit->dwo_id = cursor_fixed(c, 8);
    if (unit->type == DW_UT_type || unit->type == DW_UT_split_type) {
        unit->signature = cursor_fixed(c, 8);
        unit->type_offset = cursor_fixed(c, unit->offset_size);
    }
    return abbrevs;
}

/* Returns the start of the next unit. */
static const uint8_t *unit_read(struct walk *walk, const struct sections *sections, enum section_id id,
                                const uint8_t *start, bool is_split)
{
    struct slice all = sections->at[id];
    struct cursor c = {start, all.data + all.size, false};
    struct unit *unit = walk_allocate(walk, sizeof *unit);
    uint64_t offset = (uint64_t)(start - all.data);
    unit_extent(walk, unit, &c, offset);
    uint64_t abbrevs = unit_header(unit, &c, id == SECTION_TYPES);
    if (c.bad || unit->address_size != 8)
        walk_fail(walk, WALK_DAMAGED, "the header of the unit at %#llx", (unsigned long long)offset);
    unit->sections = sections;
    unit->header = start;
    unit->key = sections->key_base + offset + (id == SECTION_TYPES ? sections->at[SECTION_INFO].size : 0);
    unit->dies = c;
    unit->is_split = is_split;
    unit->is_program = !sections->is_alt;
    unit->row = -1;
    unit->abbrevs = abbrevs_at(walk, sections, abbrevs);
    if (is_split && unit->version >= 5) { /* a split unit has one contribution of each, after its header */
        unit->str_offsets_base = unit->offset_size == 8 ? 16 : 8;
        unit->loclists_base = unit->rnglists_base = unit->offset_size == 8 ? 20 : 12;
    }
    *(struct unit **)vector_push(walk, &walk->units, 1) = unit;
    if (unit->signature) {
        bool is_new;
        *map_slot(walk, &walk->signatures, unit->signature, &is_new) = (uint32_t)walk->units.count - 1;
    }
    unit_bases(walk, unit);
    return c.end;
}

void units_add(struct walk *walk, const struct sections *sections, bool is_split)
{
    static const enum section_id places[] = {SECTION_INFO, SECTION_TYPES};
    ((struct sections *)sections)->key_base = walk->next_key;
    walk->next_key += sections->at[SECTION_INFO].size + sections->at[SECTION_TYPES].size + 1;
    for (unsigned i = 0; i < 2; i++) {
        struct slice all = sections->at[places[i]];
        for (const uint8_t *at = all.data; at < all.data + all.size;)
            at = unit_read(walk, sections, places[i], at, is_split);
    }
}

void unit_set_skeleton(struct walk *walk, struct unit *split, struct unit *skeleton)
{
    split->skeleton = skeleton;
    skeleton->split = split;
    split->low = skeleton->low;
    if (!split->directory)
        split->directory = skeleton->directory;
    unit_bases(walk, split); /* again: indices of addresses have a meaning only now */
    split->low = skeleton->low;
}

struct unit *unit_of_key(struct walk *walk, uint64_t key)
{
    struct unit **units = (struct unit **)walk->units.data;
    size_t low = 0, high = walk->units.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (units[middle]->key <= key)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return NULL;
    struct unit *unit = units[low - 1];
    return key - unit->key < (uint64_t)(unit->dies.end - unit->header) ? unit : NULL;
}

uint32_t unit_row_index(struct walk *walk, struct unit *unit)
{
    if (unit->row < 0) {
        unit->row = (int32_t)walk->units_column.count;
        struct unit_row row = {pool_string(walk, unit->name), pool_string(walk, unit->directory),
                               pool_string(walk, unit->producer), unit->language};
        *(struct unit_row *)vector_push(walk, &walk->units_column, 1) = row;
    }
    return (uint32_t)unit->row;
}
