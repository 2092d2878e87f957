/* DWARF expressions: which of them are one static place, and rewriting of indexed addresses to plain ones. */
#include "walker.h"

#include <dwarf.h>
#include <string.h>

/* Reads what names an address or TLS offset at the start of an expression; false if it does not start so. */
static bool read_place(const struct unit *unit, struct cursor *c, bool *is_address, uint64_t *number)
{
    uint8_t op = (uint8_t)cursor_fixed(c, 1);
    *is_address = false;
    switch (op) {
    case DW_OP_addr:
        *number = cursor_fixed(c, unit->address_size);
        *is_address = true;
        return !c->bad;
    case DW_OP_addrx:
    case DW_OP_GNU_addr_index:
        *is_address = true;
        return unit_address(unit, cursor_uleb(c), number) && !c->bad;
    case DW_OP_constx:
    case DW_OP_GNU_const_index:
        return unit_address(unit, cursor_uleb(c), number) && !c->bad;
    case DW_OP_const1u:
        *number = cursor_fixed(c, 1);
        return !c->bad;
    case DW_OP_const2u:
        *number = cursor_fixed(c, 2);
        return !c->bad;
    case DW_OP_const4u:
        *number = cursor_fixed(c, 4);
        return !c->bad;
    case DW_OP_const8u:
        *number = cursor_fixed(c, 8);
        return !c->bad;
    case DW_OP_constu:
        *number = cursor_uleb(c);
        return !c->bad;
    default:
        break;
    }
    if (op < DW_OP_lit0 || op > DW_OP_lit31)
        return false;
    *number = op - DW_OP_lit0;
    return true;
}

static bool is_operation(struct cursor *c, uint8_t op)
{
    if (c->at == c->end || *c->at != op)
        return false;
    c->at++;
    return true;
}

/* clang keeps a static that only ever has two values in one byte: addr, deref_size 1, STEP, mul, LOW, plus,
 * stack_value. */
static bool read_choice(const struct unit *unit, struct cursor *c, struct static_part *part)
{
    bool is_address;
    if (!is_operation(c, DW_OP_deref_size))
        return true;
    part->is_choice = true;
    return cursor_fixed(c, 1) == 1 && read_place(unit, c, &is_address, &part->step) && !is_address &&
           is_operation(c, DW_OP_mul) && read_place(unit, c, &is_address, &part->low) && !is_address &&
           is_operation(c, DW_OP_plus) && is_operation(c, DW_OP_stack_value);
}

static bool read_part(const struct unit *unit, struct cursor *c, struct static_part *part)
{
    bool is_address;
    *part = (struct static_part){0};
    if (!read_place(unit, c, &is_address, &part->address))
        return false;
    if (is_operation(c, DW_OP_plus_uconst)) /* clang's merged globals */
        part->address += cursor_uleb(c);
    if (is_address)
        return read_choice(unit, c, part) && !c->bad;
    part->is_tls = true;
    return !c->bad &&
           (is_operation(c, DW_OP_GNU_push_tls_address) || is_operation(c, DW_OP_form_tls_address));
}

/* Collects the static places of a variable into walk->parts; returns how many there are. One of them is the whole
 * variable (size 0), or each is a piece: clang splits statics, and drops the pieces that nobody needs. */
size_t expression_statics(struct walk *walk, const struct unit *unit, struct value location)
{
    struct cursor c = {location.data, location.data + location.number, false};
    uint64_t offset = 0;
    walk->parts.count = 0;
    if (location.class != VALUE_BLOCK || !location.number)
        return 0;
    while (c.at < c.end && !c.bad) {
        struct static_part part;
        if (is_operation(&c, DW_OP_piece)) {
            offset += cursor_uleb(&c);
            continue;
        }
        bool is_place = read_part(unit, &c, &part), is_whole = c.at == c.end && !offset;
        if (!is_place || (!is_whole && !is_operation(&c, DW_OP_piece)))
            return 0;
        part.offset = offset;
        part.size = is_whole ? 0 : cursor_uleb(&c);
        offset += part.size;
        *(struct static_part *)vector_push(walk, &walk->parts, 1) = part;
    }
    return c.bad ? 0 : walk->parts.count;
}

/* clang-format off */
/* Skips the operands of an operation; false when the operation is not known (nothing after it is understood). */
static bool skip_operands(const struct unit *unit, struct cursor *c, uint8_t op)
{
    if (op >= DW_OP_breg0 && op <= DW_OP_breg31) {
        cursor_sleb(c);
        return true;
    }
    if ((op >= DW_OP_lit0 && op <= DW_OP_reg31) || (op >= DW_OP_dup && op <= DW_OP_over) ||
        (op >= DW_OP_swap && op <= DW_OP_plus) || (op >= DW_OP_shl && op <= DW_OP_xor) ||
        (op >= DW_OP_eq && op <= DW_OP_ne))
        return true;
    switch (op) {
    case DW_OP_deref: case DW_OP_nop: case DW_OP_push_object_address: case DW_OP_form_tls_address:
    case DW_OP_call_frame_cfa: case DW_OP_stack_value: case DW_OP_GNU_push_tls_address: case DW_OP_GNU_uninit: return true;
    case DW_OP_addr: cursor_skip(c, unit->address_size); return true;
    case DW_OP_const1u: case DW_OP_const1s: case DW_OP_pick: case DW_OP_deref_size: case DW_OP_xderef_size:
        cursor_skip(c, 1);
        return true;
    case DW_OP_const2u: case DW_OP_const2s: case DW_OP_skip: case DW_OP_bra: case DW_OP_call2: cursor_skip(c, 2); return true;
    case DW_OP_const4u: case DW_OP_const4s: case DW_OP_call4: case DW_OP_GNU_parameter_ref: cursor_skip(c, 4); return true;
    case DW_OP_const8u: case DW_OP_const8s: cursor_skip(c, 8); return true;
    case DW_OP_constu: case DW_OP_plus_uconst: case DW_OP_regx: case DW_OP_piece: case DW_OP_addrx: case DW_OP_constx:
    case DW_OP_GNU_addr_index: case DW_OP_GNU_const_index: case DW_OP_convert: case DW_OP_reinterpret:
    case DW_OP_GNU_convert: case DW_OP_GNU_reinterpret: cursor_uleb(c); return true;
    case DW_OP_consts: case DW_OP_fbreg: cursor_sleb(c); return true;
    case DW_OP_bregx: cursor_uleb(c); cursor_sleb(c); return true;
    case DW_OP_bit_piece: case DW_OP_regval_type: case DW_OP_GNU_regval_type: cursor_uleb(c); cursor_uleb(c); return true;
    case DW_OP_implicit_value: case DW_OP_entry_value: case DW_OP_GNU_entry_value: cursor_skip(c, cursor_uleb(c)); return true;
    case DW_OP_implicit_pointer: case DW_OP_GNU_implicit_pointer:
        cursor_skip(c, unit->version < 3 ? unit->address_size : unit->offset_size);
        cursor_sleb(c);
        return true;
    case DW_OP_const_type: case DW_OP_GNU_const_type: cursor_uleb(c); cursor_skip(c, cursor_fixed(c, 1)); return true;
    case DW_OP_deref_type: case DW_OP_GNU_deref_type: cursor_skip(c, 1); cursor_uleb(c); return true;
    default: return false;
    }
}
/* clang-format on */

static bool is_indexed(uint8_t op)
{
    return op == DW_OP_addrx || op == DW_OP_constx || op == DW_OP_GNU_addr_index ||
           op == DW_OP_GNU_const_index;
}

/* Whoever evaluates has no .debug_addr, so addrx and constx become addr and const8u. Branches across a rewritten
 * operation would be off; compilers emit none. */
uint32_t expression_pool(struct walk *walk, const struct unit *unit, const uint8_t *data, size_t size,
                         uint32_t *length)
{
    struct cursor c = {data, data + size, false};
    struct vector *plain = &walk->scratch;
    const uint8_t *copied = data;
    plain->count = 0;
    while (c.at < c.end && !c.bad) {
        const uint8_t *start = c.at;
        uint8_t op = *c.at++;
        if (!is_indexed(op)) {
            if (!skip_operands(unit, &c, op))
                break;
            continue;
        }
        uint8_t fixed[9] = {op == DW_OP_addrx || op == DW_OP_GNU_addr_index ? DW_OP_addr : DW_OP_const8u};
        uint64_t number;
        if (!unit_address(unit, cursor_uleb(&c), &number))
            break;
        memcpy(fixed + 1, &number, 8);
        vector_append(walk, plain, copied, (size_t)(start - copied));
        vector_append(walk, plain, fixed, sizeof fixed);
        copied = c.at;
    }
    if (copied != data) {
        vector_append(walk, plain, copied, (size_t)(data + size - copied));
        data = (const uint8_t *)plain->data;
        size = plain->count;
    }
    if (size > UINT32_MAX)
        walk_fail(walk, WALK_DAMAGED, "an expression of %zu bytes", size);
    *length = (uint32_t)size;
    return pool_expression(walk, data, size);
}
