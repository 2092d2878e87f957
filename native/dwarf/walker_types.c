/* Type DIEs of one unit as raw types; walker_canonical.c makes them one over all units. */
#include "walker.h"

#include <dwarf.h>
#include <string.h>

static const uint8_t KINDS[] = {
    [DW_TAG_base_type] = KIND_INTEGER,        [DW_TAG_pointer_type] = KIND_POINTER,
    [DW_TAG_structure_type] = KIND_STRUCT,    [DW_TAG_class_type] = KIND_STRUCT,
    [DW_TAG_union_type] = KIND_UNION,         [DW_TAG_enumeration_type] = KIND_ENUM,
    [DW_TAG_typedef] = KIND_TYPEDEF,          [DW_TAG_array_type] = KIND_ARRAY,
    [DW_TAG_subroutine_type] = KIND_FUNCTION, [DW_TAG_const_type] = KIND_ALIAS,
    [DW_TAG_volatile_type] = KIND_ALIAS,      [DW_TAG_restrict_type] = KIND_ALIAS,
    [DW_TAG_atomic_type] = KIND_ALIAS,        [DW_TAG_immutable_type] = KIND_ALIAS,
    [DW_TAG_packed_type] = KIND_ALIAS,        [DW_TAG_shared_type] = KIND_ALIAS,
    [DW_TAG_reference_type] = KIND_POINTER,   [DW_TAG_rvalue_reference_type] = KIND_POINTER,
    [DW_TAG_unspecified_type] = KIND_OPAQUE,  [DW_TAG_ptr_to_member_type] = KIND_OPAQUE,
    [DW_TAG_string_type] = KIND_OPAQUE,       [DW_TAG_set_type] = KIND_OPAQUE,
    [DW_TAG_file_type] = KIND_OPAQUE,         [DW_TAG_subrange_type] = KIND_ALIAS,
    [DW_TAG_interface_type] = KIND_OPAQUE,    [DW_TAG_dynamic_type] = KIND_OPAQUE,
    [DW_TAG_coarray_type] = KIND_OPAQUE,
};

bool is_type_tag(uint16_t tag)
{
    return tag < sizeof KINDS && KINDS[tag];
}

static uint32_t raw_push(struct walk *walk, struct unit *unit, uint8_t kind)
{
    if (walk->raw_types.count >= INT32_MAX)
        walk_fail(walk, WALK_NO_MEMORY, "more than 2^31 types");
    struct raw_type *raw = vector_push(walk, &walk->raw_types, 1);
    raw->row.kind = kind;
    raw->row.unit = unit_row_index(walk, unit);
    raw->owner = unit;
    return (uint32_t)walk->raw_types.count - 1;
}

static struct raw_type *raw_at(struct walk *walk, uint32_t index)
{
    return (struct raw_type *)walk->raw_types.data + index;
}

static void raw_name(struct walk *walk, uint32_t index, uint64_t key)
{
    *(struct raw_key *)vector_push(walk, &walk->raw_keys, 1) = (struct raw_key){key, index};
}

static void base_encoding(struct type_row *row, const struct die *die)
{
    switch (die->encoding) {
    case DW_ATE_signed:
    case DW_ATE_signed_fixed:
        row->encoding = ENCODING_SIGNED;
        break;
    case DW_ATE_unsigned:
    case DW_ATE_unsigned_fixed:
    case DW_ATE_address:
        row->encoding = ENCODING_UNSIGNED;
        break;
    case DW_ATE_boolean:
        row->encoding = ENCODING_BOOLEAN;
        break;
    case DW_ATE_signed_char:
        row->encoding = ENCODING_SIGNED_CHAR;
        break;
    case DW_ATE_unsigned_char:
    case DW_ATE_UTF:
        row->encoding = ENCODING_UNSIGNED_CHAR;
        break;
    case DW_ATE_float:
    case DW_ATE_imaginary_float:
        row->kind = KIND_FLOAT;
        break;
    default:
        row->kind = KIND_OPAQUE;
        break; /* complex, decimal */
    }
    if (row->encoding >= ENCODING_SIGNED_CHAR && row->size != 1) /* char16_t and char32_t are numbers */
        row->encoding = ENCODING_UNSIGNED;
}

/* ---- children ---- */

/* A constant, or a DWARF 2 expression `plus_uconst N`. */
static uint64_t member_offset(struct value location)
{
    if (location.class == VALUE_CONSTANT || location.class == VALUE_SIGNED)
        return location.number;
    if (location.class != VALUE_BLOCK || !location.number)
        return 0;
    struct cursor c = {location.data, location.data + location.number, false};
    uint8_t op = (uint8_t)cursor_fixed(&c, 1);
    return op == DW_OP_plus_uconst || op == DW_OP_constu ? cursor_uleb(&c) : 0;
}

static void member_take(struct walk *walk, const struct die *die)
{
    struct raw_member *member = vector_push(walk, &walk->raw_members, 1);
    member->row.name = die->tag == DW_TAG_inheritance ? 0 : pool_string(walk, die->name);
    member->row.bit_size = (uint32_t)die->bit_size;
    member->row.bit_offset = 8 * member_offset(die->member_location);
    member->type = die->type;
    if (die->has_data_bit_offset) {
        member->row.bit_offset = die->data_bit_offset;
    } else if (die->has_bit_offset) {
        member->is_legacy = true;
        member->storage = (uint32_t)die->size;
        member->row.bit_offset -= die->bit_offset; /* + storage - bit_size once the storage is known */
    }
}

static void enumerator_take(struct walk *walk, const struct die *die)
{
    struct enumerator_row *row = vector_push(walk, &walk->raw_enumerators, 1);
    row->name = pool_string(walk, die->name);
    row->value = (int64_t)die->constant.number;
}

/* -1: unknown or flexible. GNU C's `x[0]` has an upper bound of -1 or a count of 0. */
static int64_t subrange_count(const struct die *die)
{
    const struct value *count = &die->count, *bound = &die->upper_bound;
    if (count->class == VALUE_CONSTANT || count->class == VALUE_SIGNED)
        return count->number > INT64_MAX ? -1 : (int64_t)count->number;
    if (bound->class == VALUE_CONSTANT || bound->class == VALUE_SIGNED) {
        uint64_t number = bound->number + 1;
        return number > INT64_MAX ? -1 : (int64_t)number;
    }
    return -1;
}

#define DIMENSIONS 64

struct children {
    uint32_t first, count;
    int64_t dimensions[DIMENSIONS];
    unsigned dimension_count;
    bool varargs;
};

static void child_take(struct walk *walk, struct unit *unit, const struct die *die, uint8_t kind,
                       struct children *children);

/* Types, and functions, anywhere below a DIE whose other children do not matter: C++ has them in structs. */
struct cursor types_below(struct walk *walk, struct unit *unit, struct cursor at, unsigned depth)
{
    struct die die;
    if (depth > DEPTH_LIMIT)
        walk_fail(walk, WALK_DAMAGED, "DIEs nested more than %d deep", DEPTH_LIMIT);
    while (die_read(walk, unit, at, &die)) {
        if (is_type_tag(die.tag))
            at = type_collect(walk, unit, &die, depth);
        else if (die.tag == DW_TAG_subprogram)
            at = function_walk(walk, unit, &die, depth + 1);
        else
            at = die.has_children ? types_below(walk, unit, die.after, depth + 1) : die.after;
    }
    return die.after;
}

/* Members of one compound must be contiguous, so nested type DIEs wait until it is complete. */
static struct cursor children_take(struct walk *walk, struct unit *unit, struct cursor at, uint8_t kind,
                                   struct children *children, unsigned depth)
{
    struct die die;
    struct cursor nested = at;
    bool has_nested = false;
    struct vector *table = kind == KIND_ENUM ? &walk->raw_enumerators : &walk->raw_members;
    children->first = (uint32_t)table->count;
    for (; die_read(walk, unit, at, &die); at = die_end(walk, unit, &die)) {
        has_nested |= die.has_children || (is_type_tag(die.tag) && die.tag != DW_TAG_subrange_type);
        child_take(walk, unit, &die, kind, children);
    }
    struct cursor end = die.after;
    children->count = (uint32_t)(table->count - children->first);
    if (has_nested)
        types_below(walk, unit, nested, depth);
    return end;
}

static void child_take(struct walk *walk, struct unit *unit, const struct die *die, uint8_t kind,
                       struct children *children)
{
    switch (die->tag) {
    case DW_TAG_member:
        if ((kind == KIND_STRUCT || kind == KIND_UNION) && !die->external && !die->declaration)
            member_take(walk, die);
        break;
    case DW_TAG_inheritance:
        if (kind == KIND_STRUCT)
            member_take(walk, die);
        break;
    case DW_TAG_enumerator:
        if (kind == KIND_ENUM)
            enumerator_take(walk, die);
        break;
    case DW_TAG_subrange_type:
        if (kind == KIND_ARRAY && children->dimension_count < DIMENSIONS)
            children->dimensions[children->dimension_count++] = subrange_count(die);
        break;
    case DW_TAG_formal_parameter:
        if (kind == KIND_FUNCTION) {
            struct raw_member *member = vector_push(walk, &walk->raw_members, 1);
            struct die origin = *die;
            if (!die->type && die->origin)
                die_at(walk, unit, die->origin, &origin);
            member->type = origin.type;
        }
        break;
    case DW_TAG_unspecified_parameters:
        children->varargs = true;
        break;
    default:
        break;
    }
}

/* One row a dimension: int x[2][3] is an array of 2 of the array of 3. */
static void array_dimensions(struct walk *walk, struct unit *unit, uint32_t index,
                             const struct children *children)
{
    uint64_t element = raw_at(walk, index)->target;
    for (unsigned i = children->dimension_count; i-- > 1;) {
        uint32_t inner = raw_push(walk, unit, KIND_ARRAY);
        raw_at(walk, inner)->target = element;
        raw_at(walk, inner)->row.elements = children->dimensions[i];
        element = RAW_REFERENCE | inner;
    }
    raw_at(walk, index)->target = element;
    raw_at(walk, index)->row.elements = children->dimension_count ? children->dimensions[0] : -1;
}

static void raw_fill(struct walk *walk, struct unit *unit, const struct die *die, struct raw_type *raw)
{
    struct type_row *row = &raw->row;
    row->name = pool_string(walk, die->name);
    row->size = die->size;
    raw->target = die->type;
    row->file = die_file(walk, unit, die);
    row->line = (uint32_t)die->line;
    if (die->declaration)
        row->flags |= TYPE_INCOMPLETE;
    if (row->kind == KIND_POINTER && !die->has_size)
        row->size = 8;
    if (die->tag == DW_TAG_base_type)
        base_encoding(row, die);
    else if (row->kind == KIND_ENUM && die->encoding)
        row->encoding = die->encoding == DW_ATE_signed || die->encoding == DW_ATE_signed_char
                            ? ENCODING_SIGNED
                            : ENCODING_UNSIGNED;
}

static void raw_children(struct walk *walk, uint32_t index, const struct children *children)
{
    struct raw_type *raw = raw_at(walk, index);
    raw->row.first = children->first;
    raw->row.count = children->count;
    if (children->varargs)
        raw->row.flags |= TYPE_VARARGS;
}

struct cursor type_collect(struct walk *walk, struct unit *unit, const struct die *die, unsigned depth)
{
    if (depth > DEPTH_LIMIT)
        walk_fail(walk, WALK_DAMAGED, "types nested more than %d deep", DEPTH_LIMIT);
    uint32_t index = raw_push(walk, unit, KINDS[die->tag]);
    raw_name(walk, index, die->key);
    raw_fill(walk, unit, die, raw_at(walk, index));
    if (die->signature) { /* a declaration of what a type unit defines */
        raw_at(walk, index)->row.kind = KIND_ALIAS;
        raw_at(walk, index)->target = die->signature;
        return die->has_children ? types_below(walk, unit, die->after, depth + 1) : die->after;
    }
    if (die->tag == DW_TAG_subrange_type && !die->type)
        raw_at(walk, index)->row.kind = KIND_OPAQUE;
    struct children children = {0};
    uint8_t kind = raw_at(walk, index)->row.kind;
    struct cursor end = die->after;
    if (die->has_children)
        end = children_take(walk, unit, die->after, kind, &children, depth + 1);
    raw_children(walk, index, &children);
    if (kind == KIND_ARRAY)
        array_dimensions(walk, unit, index, &children);
    return end;
}

/* The type of a function is made of its parameters, which come first among its children. */
void function_type_collect(struct walk *walk, struct unit *unit, const struct die *die, uint64_t result)
{
    uint32_t index = raw_push(walk, unit, KIND_FUNCTION);
    raw_name(walk, index, die->key);
    raw_at(walk, index)->target = result;
    struct children children = {.first = (uint32_t)walk->raw_members.count};
    struct cursor at = die->after;
    struct die child;
    while (die->has_children && die_read(walk, unit, at, &child)) {
        if (child.tag == DW_TAG_variable || child.tag == DW_TAG_lexical_block ||
            child.tag == DW_TAG_inlined_subroutine || child.tag == DW_TAG_call_site ||
            child.tag == DW_TAG_GNU_call_site || child.tag == DW_TAG_label)
            break;
        child_take(walk, unit, &child, KIND_FUNCTION, &children);
        at = die_end(walk, unit, &child);
    }
    children.count = (uint32_t)(walk->raw_members.count - children.first);
    raw_children(walk, index, &children);
}
