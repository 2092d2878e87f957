/* Rows of static variables, once all types have theirs: names and types of the pieces that clang makes of one. */
#include "walker.h"

#include <stdio.h>
#include <string.h>

#define PATH_SIZE 1024

static struct type_row *type_at(struct walk *walk, int32_t row)
{
    struct type_row *types = (struct type_row *)walk->types.data;
    for (unsigned hops = 0; row >= 0 && types[row].kind == KIND_TYPEDEF && hops < DEPTH_LIMIT; hops++)
        row = types[row].target;
    return row < 0 ? NULL : &types[row];
}

static const char *text_at(const struct walk *walk, uint32_t offset)
{
    return walk->strings.data + offset;
}

/* A type that no DIE describes; equal ones are one row. */
static int32_t own_type(struct walk *walk, uint8_t kind, uint8_t encoding, uint64_t size, const char *name)
{
    struct type_row row = {.kind = kind, .encoding = encoding, .size = size, .target = -1};
    row.name = pool_text(walk, name, strlen(name));
    const struct type_row *types = (const struct type_row *)walk->types.data;
    for (size_t i = 0; i < walk->types.count; i++)
        if (types[i].kind == kind && types[i].name == row.name && types[i].size == size &&
            types[i].encoding == encoding)
            return (int32_t)i;
    *(struct type_row *)vector_push(walk, &walk->types, 1) = row;
    return (int32_t)walk->types.count - 1;
}

/* One step into a type: the member or element that holds all of the range; false if there is none. */
static bool step_into(struct walk *walk, int32_t *row, uint64_t *offset, uint64_t size, char *path,
                      size_t room)
{
    const struct type_row *type = type_at(walk, *row);
    if (!type)
        return false;
    if (type->kind == KIND_ARRAY) {
        const struct type_row *element = type_at(walk, type->target);
        if (!element || !element->size || *offset % element->size + size > element->size)
            return false;
        snprintf(path, room, "[%llu]", (unsigned long long)(*offset / element->size));
        *offset %= element->size;
        *row = type->target;
        return true;
    }
    const struct member_row *members = (const struct member_row *)walk->members.data + type->first;
    for (uint32_t i = 0; i < type->count && (type->kind == KIND_STRUCT || type->kind == KIND_UNION); i++) {
        const struct type_row *inner = type_at(walk, members[i].type);
        uint64_t start = members[i].bit_offset / 8;
        if (members[i].bit_size || !inner || *offset < start || *offset - start + size > inner->size)
            continue;
        snprintf(path, room, "%s%s", members[i].name ? "." : "", text_at(walk, members[i].name));
        *offset -= start;
        *row = members[i].type;
        return true;
    }
    return false;
}

/* The row of a piece: `state.peer.port` with the member's type; of several members, bytes named by their offsets. */
static void piece_row(struct walk *walk, const struct static_part *part, struct variable_row *row)
{
    char path[PATH_SIZE];
    int32_t type = row->type;
    uint64_t offset = part->offset;
    size_t length = (size_t)snprintf(path, sizeof path, "%s", text_at(walk, row->name));
    for (unsigned depth = 0; length < sizeof path && depth < DEPTH_LIMIT; depth++) {
        const struct type_row *whole = type_at(walk, type);
        if (whole && !offset && whole->size == part->size)
            break;
        if (!step_into(walk, &type, &offset, part->size, path + length, sizeof path - length)) {
            char bytes[64];
            unsigned long long start = part->offset, end = part->offset + part->size;
            snprintf(bytes, sizeof bytes, "bytes %llu..%llu", start, end);
            type = own_type(walk, KIND_OPAQUE, ENCODING_NONE, part->size, bytes);
            length = strlen(text_at(walk, row->name));
            snprintf(path + length, sizeof path - length, "{%llu..%llu}", start, end);
            break;
        }
        length += strlen(path + length);
    }
    row->name = pool_text(walk, path, strlen(path));
    row->type = type;
}

static long long choice_value(const struct type_row *type, uint64_t value)
{
    bool is_signed = type && (type->encoding == ENCODING_SIGNED || type->encoding == ENCODING_SIGNED_CHAR);
    unsigned unused = type && type->size && type->size < 8 ? 64 - 8 * (unsigned)type->size : 0;
    return is_signed ? (long long)(value << unused) >> unused : (long long)(value << unused >> unused);
}

/* 0 or 1 is a _Bool; any other pair of values is a type of its own, so that it is never taken for a number. */
static int32_t choice_type(struct walk *walk, const struct static_part *part, int32_t type)
{
    char name[64];
    const struct type_row *whole = type_at(walk, type);
    if (!part->low && part->step == 1)
        return own_type(walk, KIND_INTEGER, ENCODING_BOOLEAN, 1, "_Bool");
    snprintf(name, sizeof name, "{%lld, %lld}", choice_value(whole, part->low),
             choice_value(whole, part->low + part->step));
    return own_type(walk, KIND_OPAQUE, ENCODING_NONE, 1, name);
}

/* clang 14 puts the statics of an inlined function into a nameless one. It is the function of the same file that starts
 * last before the variable: functions of C are not nested, and one whose static exists was not dropped itself. */
static void find_source(const struct walk *walk, struct variable_row *row, uint64_t *root)
{
    const struct source *sources = (const struct source *)walk->sources.data;
    uint32_t best = 0;
    for (size_t i = 0; i < walk->sources.count; i++) {
        const struct source *one = &sources[i];
        if (one->unit != row->unit || one->file != row->file || one->line > row->line || one->line <= best)
            continue;
        best = one->line;
        row->scope = one->name;
        *root = one->root;
    }
}

static struct variable_row variable_row(struct walk *walk, const struct raw_variable *raw)
{
    struct variable_row row = raw->row;
    uint64_t root = raw->function;
    if (row.kind == VARIABLE_FUNCTION_STATIC && !row.scope)
        find_source(walk, &row, &root);
    const uint32_t *function = root ? map_find(&walk->function_by_root, root) : NULL;
    row.function = function ? (int32_t)*function : -1;
    row.type = type_row_of(walk, raw->type);
    if (raw->part.size)
        piece_row(walk, &raw->part, &row);
    if (raw->part.is_choice)
        row.type = choice_type(walk, &raw->part, row.type);
    return row;
}

/* A common symbol has a DIE in every unit that declares it: of global variables one row an address and name. */
void variables_emit(struct walk *walk)
{
    const struct raw_variable *raw = (const struct raw_variable *)walk->raw_variables.data;
    struct map *seen = walk_allocate(walk, sizeof *seen);
    map_own(walk, seen);
    for (size_t i = 0; i < walk->raw_variables.count; i++) {
        struct variable_row row = variable_row(walk, &raw[i]);
        bool is_new = true;
        if (row.kind == VARIABLE_GLOBAL)
            map_slot(walk, seen, hash_mix(row.address, (uint64_t)row.name << 1 | row.tls) | 1, &is_new);
        if (!is_new)
            continue;
        *(struct variable_row *)vector_push(walk, &walk->variables, 1) = row;
    }
}
