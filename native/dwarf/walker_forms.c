/* Attribute forms (DWARF 5 section 7.5.5 and GNU's extensions) as values. */
#include "walker.h"

#include <dwarf.h>

uint64_t read_offset(struct slice slice, uint64_t offset, unsigned size, bool *ok)
{
    struct slice part = slice_part(slice, offset, size);
    struct cursor c = {part.data, part.data + part.size, false};
    uint64_t value = part.data ? cursor_fixed(&c, size) : 0;
    *ok = part.data && !c.bad;
    return value;
}

/* Indexed addresses of a split unit are in the program's own .debug_addr. */
bool unit_address(const struct unit *unit, uint64_t index, uint64_t *out)
{
    const struct unit *holder = unit->skeleton ? unit->skeleton : unit;
    bool ok;
    if (index > UINT32_MAX)
        return false;
    *out = read_offset(holder->sections->at[SECTION_ADDR], holder->addr_base + index * 8, 8, &ok);
    return ok;
}

/* A string outside its section makes the DIE that has it bad. */
static struct value string_at(struct cursor *from, struct slice section, uint64_t offset)
{
    struct slice rest = slice_part(section, offset, offset <= section.size ? section.size - offset : 0);
    struct cursor c = {rest.data, rest.data + rest.size, !rest.data};
    const char *text = rest.data ? cursor_string(&c) : "";
    from->bad |= c.bad;
    return (struct value){VALUE_STRING, 0, (const uint8_t *)text};
}

static struct value string_indexed(struct cursor *from, const struct unit *unit, uint64_t index)
{
    bool ok;
    uint64_t place = unit->str_offsets_base + (index & UINT32_MAX) * unit->offset_size;
    uint64_t offset = read_offset(unit->sections->at[SECTION_STR_OFFSETS], place, unit->offset_size, &ok);
    from->bad |= !ok || index > UINT32_MAX;
    return string_at(from, unit->sections->at[SECTION_STR], offset);
}

static struct value address_indexed(const struct unit *unit, uint64_t index)
{
    struct value value = {VALUE_ADDRESS, 0, NULL};
    if (!unit_address(unit, index, &value.number))
        value.class = VALUE_NONE;
    return value;
}

static struct value block(struct cursor *c, uint64_t size)
{
    const uint8_t *data = cursor_skip(c, size);
    return (struct value){VALUE_BLOCK, data ? size : 0, data};
}

static struct value reference(const struct unit *unit, uint64_t offset)
{
    return (struct value){VALUE_REFERENCE, unit->key + offset, NULL};
}

static struct value signature(struct walk *walk, uint64_t number)
{
    const uint32_t *place = map_find(&walk->signatures, number);
    if (!place)
        return (struct value){0};
    const struct unit *unit = ((struct unit **)walk->units.data)[*place];
    return (struct value){VALUE_REFERENCE, unit->key + unit->type_offset, NULL};
}

static struct value constant(uint64_t number)
{
    return (struct value){VALUE_CONSTANT, number, NULL};
}

static struct value offset(uint64_t number)
{
    return (struct value){VALUE_OFFSET, number, NULL};
}

static const struct sections *alt_of(struct walk *walk, const struct unit *unit)
{
    if (!unit->sections->alt)
        walk_fail(walk, WALK_ALT_MISSING, "the unit %s", unit->name ? unit->name : "");
    return unit->sections->alt;
}

/* clang-format off */
struct value form_read(struct walk *walk, const struct unit *unit, struct cursor *c, uint16_t form, int64_t implicit)
{
    unsigned wide = unit->offset_size;
    const struct slice *at = unit->sections->at;
    switch (form) {
    case DW_FORM_addr: return (struct value){VALUE_ADDRESS, cursor_fixed(c, unit->address_size), NULL};
    case DW_FORM_addrx: case DW_FORM_GNU_addr_index: return address_indexed(unit, cursor_uleb(c));
    case DW_FORM_addrx1: return address_indexed(unit, cursor_fixed(c, 1));
    case DW_FORM_addrx2: return address_indexed(unit, cursor_fixed(c, 2));
    case DW_FORM_addrx3: return address_indexed(unit, cursor_fixed(c, 3));
    case DW_FORM_addrx4: return address_indexed(unit, cursor_fixed(c, 4));
    case DW_FORM_data1: case DW_FORM_flag: return constant(cursor_fixed(c, 1));
    case DW_FORM_data2: return constant(cursor_fixed(c, 2));
    case DW_FORM_data4: return constant(cursor_fixed(c, 4));
    case DW_FORM_data8: return constant(cursor_fixed(c, 8));
    case DW_FORM_data16: return block(c, 16);
    case DW_FORM_udata: return constant(cursor_uleb(c));
    case DW_FORM_sdata: return (struct value){VALUE_SIGNED, (uint64_t)cursor_sleb(c), NULL};
    case DW_FORM_implicit_const: return (struct value){VALUE_SIGNED, (uint64_t)implicit, NULL};
    case DW_FORM_flag_present: return constant(1);
    case DW_FORM_string: return (struct value){VALUE_STRING, 0, (const uint8_t *)cursor_string(c)};
    case DW_FORM_strp: return string_at(c, at[SECTION_STR], cursor_fixed(c, wide));
    case DW_FORM_line_strp: return string_at(c, at[SECTION_LINE_STR], cursor_fixed(c, wide));
    case DW_FORM_strp_sup: case DW_FORM_GNU_strp_alt:
        return string_at(c, alt_of(walk, unit)->at[SECTION_STR], cursor_fixed(c, wide));
    case DW_FORM_strx: case DW_FORM_GNU_str_index: return string_indexed(c, unit, cursor_uleb(c));
    case DW_FORM_strx1: return string_indexed(c, unit, cursor_fixed(c, 1));
    case DW_FORM_strx2: return string_indexed(c, unit, cursor_fixed(c, 2));
    case DW_FORM_strx3: return string_indexed(c, unit, cursor_fixed(c, 3));
    case DW_FORM_strx4: return string_indexed(c, unit, cursor_fixed(c, 4));
    case DW_FORM_ref1: return reference(unit, cursor_fixed(c, 1));
    case DW_FORM_ref2: return reference(unit, cursor_fixed(c, 2));
    case DW_FORM_ref4: return reference(unit, cursor_fixed(c, 4));
    case DW_FORM_ref8: return reference(unit, cursor_fixed(c, 8));
    case DW_FORM_ref_udata: return reference(unit, cursor_uleb(c));
    case DW_FORM_ref_addr:
        return (struct value){VALUE_REFERENCE,
                              unit->sections->key_base + cursor_fixed(c, unit->version < 3 ? unit->address_size : wide), NULL};
    case DW_FORM_ref_sup4: return (struct value){VALUE_REFERENCE, alt_of(walk, unit)->key_base + cursor_fixed(c, 4), NULL};
    case DW_FORM_ref_sup8: return (struct value){VALUE_REFERENCE, alt_of(walk, unit)->key_base + cursor_fixed(c, 8), NULL};
    case DW_FORM_GNU_ref_alt:
        return (struct value){VALUE_REFERENCE, alt_of(walk, unit)->key_base + cursor_fixed(c, wide), NULL};
    case DW_FORM_ref_sig8: return signature(walk, cursor_fixed(c, 8));
    case DW_FORM_sec_offset: return offset(cursor_fixed(c, wide));
    case DW_FORM_loclistx: case DW_FORM_rnglistx: return (struct value){VALUE_INDEX, cursor_uleb(c), NULL};
    case DW_FORM_exprloc: case DW_FORM_block: return block(c, cursor_uleb(c));
    case DW_FORM_block1: return block(c, cursor_fixed(c, 1));
    case DW_FORM_block2: return block(c, cursor_fixed(c, 2));
    case DW_FORM_block4: return block(c, cursor_fixed(c, 4));
    case DW_FORM_indirect: {
        uint64_t actual = cursor_uleb(c);
        if (actual == DW_FORM_indirect || actual == DW_FORM_implicit_const)
            break;
        return form_read(walk, unit, c, (uint16_t)actual, 0);
    }
    default: break;
    }
    walk_fail(walk, WALK_DAMAGED, "attribute form %#x in the unit %s", form, unit->name ? unit->name : "");
}
/* clang-format on */
