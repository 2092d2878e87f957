/* One DIE at a time: the attributes that the columns need, decoded in one pass. */
#include "walker.h"

#include <dwarf.h>
#include <string.h>

static void take_number(struct value value, uint64_t *out)
{
    if (value.class == VALUE_CONSTANT || value.class == VALUE_SIGNED)
        *out = value.number;
}

static void take_reference(struct value value, uint64_t *out)
{
    if (value.class == VALUE_REFERENCE)
        *out = value.number & ~RAW_REFERENCE; /* no section is that long: it will not be found */
}

/* clang-format off */
static void take_attribute(struct die *die, uint16_t name, struct value value)
{
    switch (name) {
    case DW_AT_name: if (value.class == VALUE_STRING) die->name = (const char *)value.data; break;
    case DW_AT_type: take_reference(value, &die->type); break;
    case DW_AT_abstract_origin: take_reference(value, &die->origin); break;
    case DW_AT_specification: take_reference(value, &die->specification); break;
    case DW_AT_signature: take_reference(value, &die->signature); break;
    case DW_AT_import: take_reference(value, &die->import); break;
    case DW_AT_sibling: take_reference(value, &die->sibling); break;
    case DW_AT_byte_size: take_number(value, &die->size); die->has_size = true; break;
    case DW_AT_bit_size: take_number(value, &die->bit_size); break;
    case DW_AT_bit_offset: take_number(value, &die->bit_offset); die->has_bit_offset = true; break;
    case DW_AT_data_bit_offset: take_number(value, &die->data_bit_offset); die->has_data_bit_offset = true; break;
    case DW_AT_decl_file: take_number(value, &die->file); die->has_file = true; break;
    case DW_AT_decl_line: take_number(value, &die->line); break;
    case DW_AT_low_pc: die->low = value.number; die->has_low = value.class == VALUE_ADDRESS; break;
    case DW_AT_high_pc: die->high = value.number; die->high_is_offset = value.class != VALUE_ADDRESS; break;
    case DW_AT_entry_pc: die->entry = value.number; die->has_entry = value.class == VALUE_ADDRESS; break;
    case DW_AT_encoding: die->encoding = (uint8_t)value.number; break;
    case DW_AT_inline: die->inline_kind = (uint8_t)value.number; break;
    case DW_AT_declaration: die->declaration = value.number; break;
    case DW_AT_external: die->external = value.number; break;
    case DW_AT_location: die->location = value; break;
    case DW_AT_ranges: die->ranges = value; break;
    case DW_AT_frame_base: die->frame_base = value; break;
    case DW_AT_const_value: die->constant = value; break;
    case DW_AT_data_member_location: die->member_location = value; break;
    case DW_AT_upper_bound: die->upper_bound = value; break;
    case DW_AT_count: die->count = value; break;
    default: break;
    }
}
/* clang-format on */

bool die_read(struct walk *walk, const struct unit *unit, struct cursor at, struct die *die)
{
    memset(die, 0, sizeof *die);
    die->key = unit->key + (uint64_t)(at.at - unit->header);
    uint64_t code = cursor_uleb(&at);
    const struct abbrevs *table = unit->abbrevs;
    uint64_t place = code - 1;
    if (!code) {
        if (at.bad)
            walk_fail(walk, WALK_DAMAGED, "the unit %s ends inside a DIE", unit->name ? unit->name : "");
        die->after = at;
        return false;
    }
    if (!table->is_dense) {
        const uint32_t *found = map_find(&table->by_code, code);
        place = found ? *found : UINT64_MAX;
    }
    if (place >= table->abbrevs.count)
        walk_fail(walk, WALK_DAMAGED, "abbreviation %llu of the unit %s does not exist",
                  (unsigned long long)code, unit->name ? unit->name : "");
    const struct abbrev *abbrev = (const struct abbrev *)table->abbrevs.data + place;
    const struct attribute *attributes = (const struct attribute *)table->attributes.data + abbrev->first;
    die->tag = abbrev->tag;
    die->has_children = abbrev->has_children;
    for (uint32_t i = 0; i < abbrev->count; i++)
        take_attribute(die, attributes[i].name,
                       form_read(walk, unit, &at, attributes[i].form, attributes[i].constant));
    if (at.bad)
        walk_fail(walk, WALK_DAMAGED, "the unit %s ends inside a DIE", unit->name ? unit->name : "");
    die->after = at;
    walk->die_count++;
    return true;
}

struct unit *die_at(struct walk *walk, struct unit *near, uint64_t key, struct die *die)
{
    struct unit *unit = near;
    if (key < near->key || key - near->key >= (uint64_t)(near->dies.end - near->header))
        unit = unit_of_key(walk, key);
    if (!unit || key < unit->key + (uint64_t)(unit->dies.at - unit->header))
        walk_fail(walk, WALK_DAMAGED, "the unit %s refers to a DIE that does not exist",
                  near->name ? near->name : "");
    struct cursor at = unit->dies;
    at.at = unit->header + (key - unit->key);
    if (!die_read(walk, unit, at, die))
        walk_fail(walk, WALK_DAMAGED, "the unit %s refers to a null entry", near->name ? near->name : "");
    return unit;
}

/* Past the children of a DIE: by DW_AT_sibling where the compiler gives it (gcc), else by reading them (clang). */
struct cursor die_end(struct walk *walk, const struct unit *unit, const struct die *die)
{
    struct cursor at = die->after;
    struct die child;
    if (!die->has_children)
        return at;
    for (unsigned depth = 1; depth;) {
        const struct die *open = at.at == die->after.at ? die : &child;
        uint64_t forward = open->sibling - unit->key;
        if (open->sibling && open->has_children && forward < (uint64_t)(at.end - unit->header) &&
            unit->header + forward >= at.at) {
            at.at = unit->header + forward;
            depth--;
            if (!depth)
                break;
        }
        if (!die_read(walk, unit, at, &child))
            depth--;
        else if (child.has_children)
            depth++;
        at = child.after;
    }
    return at;
}
