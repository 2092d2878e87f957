/* Executes inverse mappings: an executor of its own, so that a fault of the forward one does not undo itself. */
#include "validation.h"

#include <string.h>

typedef struct {
    const uint8_t *from;
    uint64_t from_size;
    uint8_t *to;
    const uint8_t *past; /* what is to be made again: tells values apart that became one */
    uint64_t to_size;
} window;

static uint64_t unsigned_at(const uint8_t *at, uint32_t size)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size && i < 8; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static int64_t extended(uint64_t value, uint32_t bits, int is_signed)
{
    if (!is_signed || !bits || bits >= 64 || !(value >> (bits - 1) & 1))
        return (int64_t)value;
    return (int64_t)(value | ~UINT64_C(0) << bits);
}

static void put(uint8_t *at, uint64_t value, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        at[i] = i < 8 ? (uint8_t)(value >> (8 * i)) : 0;
}

static int is_old_value(const instar_compare *compare, const instar_enum *rows, uint64_t value, uint64_t all)
{
    for (uint32_t i = 0; i < rows->value_count; i++)
        if (((uint64_t)compare->enum_values[2 * ((uint64_t)rows->first_value + i) + 1] & all) ==
            (value & all))
            return 1;
    return 0;
}

/* Of several values of the past that became this one, the one that was there. A value that the table does not have
 * becomes one that the past cannot have had, so that it shows. */
static uint64_t renumber(const instar_compare *compare, int32_t table, uint64_t value, uint64_t past,
                         uint32_t bits)
{
    const instar_enum *rows = &compare->enums[table];
    uint64_t all = bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1, other = UINT64_MAX, first = 0;
    int is_known = 0;
    for (uint32_t i = 0; i < rows->value_count; i++) {
        const int64_t *pair = compare->enum_values + 2 * ((uint64_t)rows->first_value + i);
        if (pair[0] != (int64_t)value)
            continue;
        if (((uint64_t)pair[1] & all) == (past & all))
            return (uint64_t)pair[1];
        first = is_known ? first : (uint64_t)pair[1];
        is_known = 1;
    }
    if (is_known)
        return first;
    while (is_old_value(compare, rows, other, all) && other & all)
        other--;
    return other;
}

static long double number_at(const uint8_t *at, uint32_t size)
{
    union {
        float single;
        double full;
        long double wide;
    } any = {0};
    memcpy(&any, at, size < sizeof any ? size : sizeof any);
    return size == 4 ? (long double)any.single : size == 8 ? (long double)any.full : any.wide;
}

static void put_number(uint8_t *at, uint32_t size, long double number)
{
    float single = (float)number;
    double full = (double)number;
    if (size == 4)
        memcpy(at, &single, 4);
    else if (size == 8)
        memcpy(at, &full, 8);
    else
        memcpy(at, &number, 10); /* the rest of 16 bytes is padding */
}

static void reverse_number(const instar_move *move, const uint8_t *from, uint8_t *to)
{
    if (move->op == OP_FLOAT) {
        if (move->old_size == move->new_size)
            memcpy(to, from, move->new_size);
        else
            put_number(to, move->new_size, number_at(from, move->old_size));
    } else if (move->flags & MOVE_FROM_FLOAT) {
        long double number = number_at(from, move->old_size);
        if (number >= 0x1p63L && number < 0x1p64L)
            put(to, (uint64_t)number, move->new_size);
        else if (number >= -0x1p63L && number < 0x1p63L)
            put(to, (uint64_t)(int64_t)number, move->new_size);
    } else {
        uint64_t raw = unsigned_at(from, move->old_size);
        int is_signed = move->flags & MOVE_OLD_SIGNED;
        int64_t value = extended(raw, move->old_size * 8, is_signed);
        put_number(to, move->new_size, is_signed ? (long double)value : (long double)raw);
    }
}

/* The value as a past of fewer bits can hold it. What it could not have held came from elsewhere: such a value is
 * turned over, so that none of it compares equal. */
static uint64_t fitting(const instar_move *move, uint64_t value, uint32_t from_bits, uint32_t to_bits)
{
    uint64_t all = from_bits >= 64 ? UINT64_MAX : (UINT64_C(1) << from_bits) - 1;
    if (to_bits >= from_bits || to_bits >= 64)
        return value;
    uint64_t held = value & ((UINT64_C(1) << to_bits) - 1);
    uint64_t back = (uint64_t)extended(held, to_bits, move->flags & MOVE_NEW_SIGNED);
    return (back & all) == (value & all) ? value : ~value;
}

static void reverse_integer(const instar_compare *compare, const instar_move *move, const uint8_t *from,
                            const uint8_t *past, uint8_t *to)
{
    uint64_t raw = unsigned_at(from, move->old_size);
    uint64_t value = (uint64_t)extended(raw, move->old_size * 8, move->flags & MOVE_OLD_SIGNED);
    if (move->op == OP_ENUM)
        value = renumber(compare, move->extra, value, unsigned_at(past, move->new_size), move->new_size * 8);
    else
        value = fitting(move, value, move->old_size * 8, move->new_size * 8);
    put(to, value, move->new_size);
}

static uint64_t bits_at(const uint8_t *at, uint32_t shift, uint32_t count)
{
    uint64_t raw = 0;
    for (uint32_t i = count; i-- > 0;)
        raw = raw << 1 | (at[(shift + i) / 8] >> ((shift + i) % 8) & 1);
    return raw;
}

static void reverse_bits(const instar_compare *compare, const instar_move *move, const uint8_t *from,
                         const uint8_t *past, uint8_t *to)
{
    const instar_bits *bits = &compare->bits[move->extra];
    uint64_t raw = bits_at(from, bits->old_shift, bits->old_bits);
    uint64_t value = (uint64_t)extended(raw, bits->old_bits, move->flags & MOVE_OLD_SIGNED);
    if (bits->enum_table >= 0)
        value = renumber(compare, bits->enum_table, value, bits_at(past, bits->new_shift, bits->new_bits),
                         bits->new_bits);
    else
        value = fitting(move, value, bits->old_bits, bits->new_bits);
    for (uint32_t i = 0; i < bits->new_bits; i++) {
        uint32_t bit = bits->new_shift + i;
        if (i < 64 && value >> i & 1)
            to[bit / 8] |= (uint8_t)(1u << (bit % 8));
    }
}

static void reverse_one(const instar_compare *compare, const instar_move *move, const uint8_t *from,
                        const uint8_t *past, uint8_t *to)
{
    switch (move->op) {
    case OP_BITS:
        reverse_bits(compare, move, from, past, to);
        break;
    case OP_FLOAT:
    case OP_INT_FLOAT:
        reverse_number(move, from, to);
        break;
    default:
        reverse_integer(compare, move, from, past, to);
    }
}

static void reverse_move(const instar_compare *compare, const instar_move *move, window element)
{
    for (uint32_t k = 0; k < move->count; k++) {
        uint64_t from = move->old_offset + (uint64_t)k * move->old_stride;
        uint64_t to = move->new_offset + (uint64_t)k * move->new_stride;
        if (from >= element.from_size || to >= element.to_size)
            return;
        if (move->op == OP_COPY) { /* bytes may be cut at the end of a block that is shorter than its type */
            uint64_t size = move->old_size < move->new_size ? move->old_size : move->new_size;
            if (size > element.from_size - from)
                size = element.from_size - from;
            if (size > element.to_size - to)
                size = element.to_size - to;
            memcpy(element.to + to, element.from + from, size);
        } else if (from + move->old_size <= element.from_size && to + move->new_size <= element.to_size) {
            reverse_one(compare, move, element.from + from, element.past + to, element.to + to);
        }
    }
}

static void reverse_moves(const instar_compare *compare, uint32_t first, uint32_t count, window element)
{
    for (uint32_t m = 0; m < count; m++)
        reverse_move(compare, &compare->moves[first + m], element);
}

static void reverse_tail(const instar_compare *compare, const instar_mapping *mapping, window object)
{
    uint64_t from = mapping->old_tail, to = mapping->new_tail;
    if (!mapping->old_element || !mapping->new_element)
        return;
    while (from + mapping->old_element <= object.from_size && to + mapping->new_element <= object.to_size) {
        window element = {object.from + from, mapping->old_element, object.to + to, object.past + to,
                          mapping->new_element};
        reverse_moves(compare, mapping->first_tail_move, mapping->tail_move_count, element);
        from += mapping->old_element;
        to += mapping->new_element;
    }
}

void instar_reverse_object(const instar_compare *compare, const instar_object *object, int32_t mapping_row,
                           uint64_t future_size, const uint8_t *future, const uint8_t *past,
                           uint8_t *reversed)
{
    const instar_mapping *mapping = &compare->mappings[mapping_row];
    memset(reversed, 0, object->size);
    for (uint64_t i = 0; i < object->count; i++) {
        uint64_t from = i * mapping->old_size, to = i * mapping->new_size;
        if (from >= future_size || to >= object->size)
            break;
        window element = {future + from, future_size - from, reversed + to, past + to, object->size - to};
        reverse_moves(compare, mapping->first_move, mapping->move_count, element);
    }
    window whole = {future, future_size, reversed, past, object->size};
    if (object->flags & FLAG_TRUNCATED)
        reverse_tail(compare, mapping, whole);
}
