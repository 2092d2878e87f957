/* Executes compiled mappings: the bytes of a past object become those of its future counterpart. */
#include "transfer.h"

#include <math.h>
#include <string.h>

static void fault(instar_transfer *transfer, int64_t row, uint32_t element, const instar_move *move,
                  uint64_t offset, int64_t value, uint32_t kind)
{
    if (move->flags & MOVE_HANDLED)
        return;
    if (transfer->fault_count < transfer->fault_capacity)
        transfer->faults[transfer->fault_count] =
            (instar_fault){value, (int32_t)row, element, (uint32_t)(move - transfer->moves), kind, offset};
    transfer->fault_count++;
}

static int64_t load_integer(const uint8_t *at, uint32_t size, int is_signed)
{
    uint64_t value = 0;
    memcpy(&value, at, size > 8 ? 8 : size);
    if (is_signed && size < 8) {
        uint64_t sign = (uint64_t)1 << (size * 8 - 1);
        value = (value ^ sign) - sign;
    }
    return (int64_t)value;
}

/* Does `value`, read as (un)signed, have the same meaning in `bits` bits of the other signedness? */
static int fits(int64_t value, int old_signed, uint32_t bits, int new_signed)
{
    if (old_signed && !new_signed && value < 0)
        return 0;
    if (!old_signed && new_signed && value < 0)
        return 0; /* beyond 2**63-1 */
    if (bits >= 64)
        return 1;
    if (new_signed)
        return value >= -((int64_t)1 << (bits - 1)) && value < (int64_t)1 << (bits - 1);
    return (uint64_t)value < (uint64_t)1 << bits;
}

static double load_float(const uint8_t *at, uint32_t size)
{
    float single;
    double full;
    long double wide;
    switch (size) {
    case 4:
        return memcpy(&single, at, 4), single;
    case 8:
        return memcpy(&full, at, 8), full;
    default:
        return memcpy(&wide, at, sizeof wide), (double)wide;
    }
}

static void store_float(uint8_t *at, uint32_t size, double value)
{
    float single = (float)value;
    long double wide = value;
    memcpy(at,
           size == 4   ? (void *)&single
           : size == 8 ? (void *)&value
                       : (void *)&wide,
           size > 16 ? 16 : size);
}

static uint64_t load_bits(const uint8_t *base, uint32_t bit, uint32_t width)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < width; i++)
        value |= (uint64_t)(base[(bit + i) / 8] >> ((bit + i) % 8) & 1) << i;
    return value;
}

static void store_bits(uint8_t *base, uint32_t bit, uint32_t width, uint64_t value)
{
    for (uint32_t i = 0; i < width; i++) {
        uint8_t mask = (uint8_t)(1u << ((bit + i) % 8));
        uint8_t *at = &base[(bit + i) / 8];
        *at = value >> i & 1 ? *at | mask : *at & (uint8_t)~mask;
    }
}

static int find_enum(const instar_transfer *transfer, int32_t table, int64_t value, int64_t *result)
{
    const instar_enum *row = &transfer->enums[table];
    const int64_t *pairs = transfer->enum_values + 2 * (uint64_t)row->first_value;
    for (uint32_t i = 0; i < row->value_count; i++)
        if (pairs[2 * i] == value)
            return *result = pairs[2 * i + 1], 1;
    return 0;
}

static int all_zero(const uint8_t *at, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        if (at[i])
            return 0;
    return 1;
}

/* Null, small, staying, dangling: as it is; what cannot be translated is a finding, and refused by name. */
static void move_pointer(instar_transfer *transfer, int64_t row, uint64_t offset, const instar_move *move,
                         const uint8_t *from, uint8_t *to)
{
    uint64_t value;
    memcpy(&value, from, 8);
    value = instar_transfer_judge(transfer, row, offset, value, move->extra, WORD_POINTER, 0);
    memcpy(to, &value, 8);
}

static int narrows(int64_t value, const instar_move *move, uint32_t bits)
{
    if (move->flags & MOVE_NEW_BOOLEAN)
        return value != 0 && value != 1;
    return !fits(value, move->flags & MOVE_OLD_SIGNED, bits, move->flags & MOVE_NEW_SIGNED);
}

static void move_bits(instar_transfer *transfer, int64_t row, uint32_t element, const instar_move *move,
                      uint64_t offset, const uint8_t *from, uint8_t *to)
{
    const instar_bits *bits = &transfer->bits[move->extra];
    uint64_t raw = load_bits(from, bits->old_shift, bits->old_bits);
    if ((move->flags & MOVE_OLD_SIGNED) && bits->old_bits < 64 && raw >> (bits->old_bits - 1) & 1)
        raw |= ~(((uint64_t)1 << bits->old_bits) - 1);
    int64_t value = (int64_t)raw;
    if (bits->enum_table >= 0 && !find_enum(transfer, bits->enum_table, (int64_t)raw, &value)) {
        fault(transfer, row, element, move, offset, value, FAULT_ENUM);
        return;
    }
    if (narrows(value, move, bits->new_bits))
        fault(transfer, row, element, move, offset, value, FAULT_RANGE);
    store_bits(to, bits->new_shift, bits->new_bits, (uint64_t)value);
}

static void move_float(instar_transfer *transfer, int64_t row, uint32_t element, const instar_move *move,
                       uint64_t offset, const uint8_t *from, uint8_t *to)
{
    double number = load_float(from, move->old_size);
    if (move->new_size == 4 && isfinite(number) && (double)(float)number != number)
        fault(transfer, row, element, move, offset, 0, FAULT_FLOAT);
    if (move->old_size > 8 && move->new_size > 8)
        memcpy(to, from, move->new_size < move->old_size ? move->new_size : move->old_size);
    else
        store_float(to, move->new_size, number);
}

static void move_int_float(instar_transfer *transfer, int64_t row, uint32_t element, const instar_move *move,
                           uint64_t offset, const uint8_t *from, uint8_t *to)
{
    if (move->flags & MOVE_FROM_FLOAT) {
        double number = load_float(from, move->old_size);
        int in_range = number >= -9223372036854775808.0 && number < 9223372036854775808.0;
        int64_t result = in_range ? (int64_t)number : 0;
        if (!in_range || (double)result != number ||
            !fits(result, 1, move->new_size * 8, move->flags & MOVE_NEW_SIGNED))
            fault(transfer, row, element, move, offset, result, FAULT_RANGE);
        memcpy(to, &result, move->new_size);
        return;
    }
    int is_signed = move->flags & MOVE_OLD_SIGNED;
    int64_t value = load_integer(from, move->old_size, is_signed);
    double number = is_signed ? (double)value : (double)(uint64_t)value;
    double stored = move->new_size == 4 ? (double)(float)number : number;
    int kept = is_signed ? stored >= -9223372036854775808.0 && stored < 9223372036854775808.0 &&
                               (int64_t)stored == value
                         : stored < 18446744073709551616.0 && (uint64_t)stored == (uint64_t)value;
    if (!kept)
        fault(transfer, row, element, move, offset, value, FAULT_FLOAT);
    store_float(to, move->new_size, number);
}

static void move_integer(instar_transfer *transfer, int64_t row, uint32_t element, const instar_move *move,
                         uint64_t offset, const uint8_t *from, uint8_t *to)
{
    int64_t value = load_integer(from, move->old_size, move->flags & MOVE_OLD_SIGNED), result = value;
    if (move->op == OP_ENUM && !find_enum(transfer, move->extra, value, &result)) {
        fault(transfer, row, element, move, offset, value, FAULT_ENUM);
        return;
    }
    if (move->op == OP_INTEGER && narrows(value, move, move->new_size * 8))
        fault(transfer, row, element, move, offset, value, FAULT_RANGE);
    memcpy(to, &result, move->new_size > 8 ? 8 : move->new_size);
}

/* The bytes of a union: an aligned word that leads exactly to something that moves is translated. */
static void move_evidence(const instar_transfer *transfer, uint64_t offset, const uint8_t *from, uint8_t *to,
                          uint64_t size)
{
    memcpy(to, from, size);
    for (uint64_t at = -offset & 7; at + 8 <= size; at += 8) {
        uint64_t value, result;
        memcpy(&value, from + at, 8);
        uint8_t status = instar_transfer_translate(transfer, value, -1, 1, &result);
        if (status == STATUS_MOVED || status == STATUS_LIBRARY)
            memcpy(to + at, &result, 8);
    }
}

static void run_element(instar_transfer *transfer, int64_t row, uint32_t element, const instar_move *move,
                        uint64_t base, uint64_t offset, const uint8_t *from, uint8_t *to, uint64_t size)
{
    switch (move->op) {
    case OP_COPY:
        if ((move->flags & MOVE_CHECK_ZERO_TAIL) && !all_zero(from, size))
            fault(transfer, row, element, move, offset, 0, FAULT_TAIL);
        memcpy(to, from, size < move->new_size ? size : move->new_size);
        break;
    case OP_EVIDENCE:
        move_evidence(transfer, offset, from, to, size < move->new_size ? size : move->new_size);
        break;
    case OP_POINTER:
        move_pointer(transfer, row, base + offset, move, from, to);
        break;
    case OP_BITS:
        move_bits(transfer, row, element, move, offset, from, to);
        break;
    case OP_FLOAT:
        move_float(transfer, row, element, move, offset, from, to);
        break;
    case OP_INT_FLOAT:
        move_int_float(transfer, row, element, move, offset, from, to);
        break;
    default:
        move_integer(transfer, row, element, move, offset, from, to);
    }
}

static void run_move(instar_transfer *transfer, int64_t row, uint32_t element, const instar_move *move,
                     uint64_t base, const uint8_t *old_base, uint8_t *new_base, uint64_t limit, uint64_t room)
{
    for (uint32_t k = 0; k < move->count; k++) {
        uint64_t from = move->old_offset + (uint64_t)k * move->old_stride;
        uint64_t to = move->new_offset + (uint64_t)k * move->new_stride;
        uint64_t size = move->old_size;
        if (from >= limit)
            return; /* a truncated object ends here */
        if (from + size > limit) {
            if (move->op != OP_COPY && move->op != OP_EVIDENCE)
                return;
            size = limit - from;
        }
        uint64_t width = move->op == OP_COPY || move->op == OP_EVIDENCE
                             ? (size < move->new_size ? size : move->new_size)
                             : move->new_size;
        if (move->op != OP_BITS && to + width > room)
            return;
        run_element(transfer, row, element, move, base, from, old_base + from, new_base + to, size);
    }
}

static void convert_tail(instar_transfer *transfer, int64_t row, const instar_mapping *mapping,
                         const uint8_t *data, uint64_t size, uint8_t *out, uint64_t out_size)
{
    if (!mapping->old_element || size <= mapping->old_tail)
        return;
    uint64_t elements = (size - mapping->old_tail) / mapping->old_element;
    for (uint64_t i = 0; i < elements; i++) {
        const uint8_t *from = data + mapping->old_tail + i * mapping->old_element;
        uint64_t to = mapping->new_tail + i * mapping->new_element;
        if (to + mapping->new_element > out_size)
            return;
        for (uint32_t m = 0; m < mapping->tail_move_count; m++)
            run_move(transfer, row, (uint32_t)i, &transfer->moves[mapping->first_tail_move + m],
                     (uint64_t)(from - data), from, out + to, mapping->old_element, out_size - to);
    }
}

/* What lies behind the objects of a block: the allocator's rounding, or data that no member describes. */
static void copy_behind(const instar_object *object, const instar_mapping *mapping, const uint8_t *data,
                        uint8_t *out)
{
    uint64_t from = object->count * mapping->old_size, to = object->count * mapping->new_size;
    if (from >= object->size || to >= object->out_size)
        return;
    uint64_t size = object->size - from, room = object->out_size - to;
    memcpy(out + to, data + from, size < room ? size : room);
}

static void convert_object(instar_transfer *transfer, int64_t row)
{
    const instar_object *object = &transfer->state->objects[row];
    const instar_region *region = instar_state_region(transfer->state, object->address);
    if (!region || !region->data)
        return;
    const uint8_t *data = region->data + (object->address - region->start);
    uint8_t *out = transfer->output + object->out;
    if (object->mapping < 0) {
        memcpy(out, data, object->size < object->out_size ? object->size : object->out_size);
        return;
    }
    const instar_mapping *mapping = &transfer->mappings[object->mapping];
    for (uint32_t element = 0; element < object->count; element++) {
        uint64_t from = element * mapping->old_size, to = element * mapping->new_size;
        if (from >= object->size || to >= object->out_size)
            break;
        for (uint32_t m = 0; m < mapping->move_count; m++)
            run_move(transfer, row, element, &transfer->moves[mapping->first_move + m], from, data + from,
                     out + to, object->size - from, object->out_size - to);
    }
    if (object->flags & FLAG_TRUNCATED)
        convert_tail(transfer, row, mapping, data, object->size, out, object->out_size);
    else if (object->kind == OBJECT_HEAP)
        copy_behind(object, mapping, data, out);
}

static int is_converted(const instar_object *object)
{
    return object->fate == FATE_MOVE && (object->flags & (FLAG_REACHED | FLAG_ROOT));
}

void instar_transfer_convert(instar_transfer *transfer)
{
    const instar_state *state = transfer->state;
    for (uint64_t row = 0; row < state->object_count; row++)
        if (is_converted(&state->objects[row]))
            convert_object(transfer, (int64_t)row);
}

void instar_transfer_convert_rows(instar_transfer *transfer, const int64_t *rows, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (is_converted(&transfer->state->objects[rows[i]]))
            convert_object(transfer, rows[i]);
}
