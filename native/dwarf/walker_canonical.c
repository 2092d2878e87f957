/* Making structurally equal types of all units one row.
 *
 * First every type gets a structural hash in which a reference to a named struct or union counts by its name only;
 * that cuts all cycles of C. Equal hashes are one class. Then classes are split until the types in each refer to the
 * same classes (as when minimising an automaton): two units' `struct a { struct b *p; }` stay apart if their
 * `struct b` differ. A declaration stands for the definition of its name as long as there is exactly one. */
#include "walker.h"

#include <stdlib.h>
#include <string.h>

#define NO_TYPE (-1)
#define AMBIGUOUS UINT32_MAX
#define BUCKET 128

struct canon {
    struct walk *walk;
    struct raw_type *types;
    struct raw_member *members;
    struct enumerator_row *enumerators;
    size_t count;
    int32_t *target; /* by raw type: raw index of the target, NO_TYPE: void */
    uint64_t *hash;  /* 0: not yet */
    uint8_t *state;  /* while hashing */
    uint32_t *class; /* by raw type */
    uint32_t class_count;
    uint32_t *buckets; /* see index_keys */
    size_t bucket_count;
    struct map numbers; /* hash -> class */
    struct map by_name; /* (kind, name) -> the one class of its definitions, or AMBIGUOUS */
};

/* ---- references: keys to raw indices, qualifiers away ---- */

static int compare_keys(const void *left, const void *right)
{
    const struct raw_key *a = left, *b = right;
    return (a->key > b->key) - (a->key < b->key);
}

/* A table of where each BUCKET bytes of debug information begin among the keys, which are in order nearly always. */
static void index_keys(struct canon *c)
{
    struct vector *all = &c->walk->raw_keys;
    struct raw_key *keys = (struct raw_key *)all->data;
    bool in_order = true;
    for (size_t i = 1; i < all->count && in_order; i++)
        in_order = keys[i - 1].key < keys[i].key;
    if (!in_order)
        qsort(keys, all->count, sizeof *keys, compare_keys);
    c->bucket_count = c->walk->next_key / BUCKET + 2;
    c->buckets = walk_allocate(c->walk, c->bucket_count * sizeof *c->buckets);
    size_t next = 0;
    for (size_t i = 0; i < c->bucket_count; i++) {
        while (next < all->count && keys[next].key < i * BUCKET)
            next++;
        c->buckets[i] = (uint32_t)next;
    }
}

static uint32_t raw_at_key(const struct canon *c, uint64_t key)
{
    const struct raw_key *keys = (const struct raw_key *)c->walk->raw_keys.data;
    uint64_t bucket = key / BUCKET;
    if (bucket + 1 < c->bucket_count)
        for (uint32_t i = c->buckets[bucket]; i < c->buckets[bucket + 1]; i++)
            if (keys[i].key == key)
                return keys[i].raw;
    walk_fail(c->walk, WALK_DAMAGED, "a type reference leads to no type (%#llx)", (unsigned long long)key);
}

static int32_t raw_of(const struct canon *c, uint64_t reference)
{
    for (unsigned hops = 0; reference; hops++) {
        uint32_t index = reference & RAW_REFERENCE ? (uint32_t)reference : raw_at_key(c, reference);
        if (c->types[index].row.kind != KIND_ALIAS)
            return (int32_t)index;
        if (hops > DEPTH_LIMIT)
            walk_fail(c->walk, WALK_DAMAGED, "qualifiers that refer to each other");
        reference = c->types[index].target;
    }
    return NO_TYPE;
}

static bool has_members(const struct type_row *row)
{
    return row->kind == KIND_STRUCT || row->kind == KIND_UNION || row->kind == KIND_FUNCTION;
}

static void resolve_references(struct canon *c)
{
    for (size_t i = 0; i < c->count; i++)
        c->target[i] = c->types[i].row.kind == KIND_ALIAS ? NO_TYPE : raw_of(c, c->types[i].target);
    for (size_t i = 0; i < c->walk->raw_members.count; i++)
        c->members[i].row.type = raw_of(c, c->members[i].type);
}

/* ---- sizes ---- */

static uint64_t size_of(struct canon *c, int32_t index, unsigned depth)
{
    if (index == NO_TYPE)
        return 0;
    struct type_row *row = &c->types[index].row;
    if (depth > DEPTH_LIMIT || row->size || row->kind == KIND_FUNCTION)
        return row->size;
    if (row->kind == KIND_TYPEDEF)
        row->size = size_of(c, c->target[index], depth + 1);
    uint64_t total;
    if (row->kind == KIND_ARRAY && row->elements > 0 &&
        !__builtin_mul_overflow(size_of(c, c->target[index], depth + 1), (uint64_t)row->elements, &total))
        row->size = total;
    return row->size;
}

static void compute_sizes(struct canon *c)
{
    for (size_t i = 0; i < c->count; i++)
        size_of(c, (int32_t)i, 0);
    for (size_t i = 0; i < c->walk->raw_members.count; i++) {
        struct raw_member *member = &c->members[i];
        if (member->is_legacy) {
            uint64_t storage = member->storage ? member->storage : size_of(c, member->row.type, 0);
            member->row.bit_offset += 8 * storage - member->row.bit_size;
        }
    }
    for (size_t i = 0; i < c->count; i++) {
        struct type_row *row = &c->types[i].row;
        if (row->kind != KIND_ENUM || row->encoding)
            continue;
        row->encoding = c->target[i] == NO_TYPE ? ENCODING_UNSIGNED : c->types[c->target[i]].row.encoding;
        for (uint32_t j = 0; j < row->count && c->target[i] == NO_TYPE; j++)
            if (c->enumerators[row->first + j].value < 0)
                row->encoding = ENCODING_SIGNED;
    }
}

/* ---- the structural hash ---- */

static bool is_named_compound(const struct type_row *row)
{
    return row->name && (row->kind == KIND_STRUCT || row->kind == KIND_UNION);
}

static uint64_t hash_type(struct canon *c, int32_t index, unsigned depth);

static uint64_t hash_reference(struct canon *c, int32_t index, unsigned depth)
{
    if (index == NO_TYPE)
        return 7;
    const struct type_row *row = &c->types[index].row;
    if (is_named_compound(row))
        return hash_mix(row->name, row->kind);
    return hash_type(c, index, depth + 1);
}

/* A type without what it refers to. A declaration is no more than its name. */
static uint64_t hash_plain(const struct type_row *row)
{
    uint64_t hash =
        hash_mix(row->kind | (uint64_t)row->encoding << 8 | (uint64_t)row->flags << 16, row->name);
    if (row->flags & TYPE_INCOMPLETE ||
        row->kind == KIND_TYPEDEF) /* a typedef's size depends on who knows the struct */
        return hash;
    return hash_mix(hash_mix(hash, row->size), (uint64_t)row->elements ^ (uint64_t)row->count << 40);
}

static uint64_t hash_type(struct canon *c, int32_t index, unsigned depth)
{
    const struct type_row *row = &c->types[index].row;
    if (c->hash[index])
        return c->hash[index];
    uint64_t hash = hash_plain(row);
    if (c->state[index] || depth > DEPTH_LIMIT) /* a cycle without a named struct: not C */
        return hash;
    c->state[index] = 1;
    hash = hash_mix(hash, hash_reference(c, c->target[index], depth));
    for (uint32_t i = 0; i < row->count && has_members(row); i++) {
        const struct raw_member *member = &c->members[row->first + i];
        hash = hash_mix(hash,
                        hash_mix(member->row.name, hash_mix(member->row.bit_offset, member->row.bit_size)));
        hash = hash_mix(hash, hash_reference(c, member->row.type, depth));
    }
    for (uint32_t i = 0; i < row->count && row->kind == KIND_ENUM; i++) {
        const struct enumerator_row *one = &c->enumerators[row->first + i];
        hash = hash_mix(hash, hash_mix(one->name, (uint64_t)one->value));
    }
    c->state[index] = 0;
    return c->hash[index] = hash ? hash : 1;
}

/* ---- classes ---- */

/* Numbers equal hashes; returns how many there are. */
static uint32_t number_classes(struct canon *c)
{
    struct map *numbers = &c->numbers;
    map_clear(numbers);
    uint32_t next = 0;
    for (size_t i = 0; i < c->count; i++) {
        bool is_new;
        uint32_t *slot = map_slot(c->walk, numbers, c->hash[i], &is_new);
        if (is_new)
            *slot = next++;
        c->class[i] = *slot;
    }
    return next;
}

static uint64_t name_key(const struct type_row *row)
{
    return (uint64_t)row->kind << 32 | row->name;
}

static bool is_declaration(const struct type_row *row)
{
    return row->flags & TYPE_INCOMPLETE;
}

static void index_definitions(struct canon *c)
{
    map_clear(&c->by_name);
    for (size_t i = 0; i < c->count; i++) {
        const struct type_row *row = &c->types[i].row;
        bool is_new;
        if (!row->name || is_declaration(row) || row->kind < KIND_STRUCT || row->kind > KIND_ENUM)
            continue;
        uint32_t *slot = map_slot(c->walk, &c->by_name, name_key(row), &is_new);
        if (is_new)
            *slot = c->class[i];
        else if (*slot != c->class[i])
            *slot = AMBIGUOUS;
    }
}

/* The class that a reference to a type means: for a declaration that of the one definition. */
static uint32_t meant_class(const struct canon *c, int32_t index)
{
    const struct type_row *row = &c->types[index].row;
    const uint32_t *found = is_declaration(row) && row->name ? map_find(&c->by_name, name_key(row)) : NULL;
    return found && *found != AMBIGUOUS ? *found : c->class[index];
}

static uint64_t refined_hash(const struct canon *c, size_t index)
{
    const struct type_row *row = &c->types[index].row;
    uint64_t hash = hash_mix(c->class[index], 3);
    if (c->target[index] != NO_TYPE)
        hash = hash_mix(hash, meant_class(c, c->target[index]));
    for (uint32_t i = 0; i < row->count && has_members(row); i++) {
        int32_t type = c->members[row->first + i].row.type;
        hash = hash_mix(hash, type == NO_TYPE ? UINT64_MAX : meant_class(c, type));
    }
    return hash ? hash : 1;
}

static void refine_classes(struct canon *c)
{
    for (size_t i = 0; i < c->count; i++)
        hash_type(c, (int32_t)i, 0);
    c->class_count = number_classes(c);
    for (;;) {
        index_definitions(c);
        for (size_t i = 0; i < c->count; i++)
            c->hash[i] = refined_hash(c, i);
        uint32_t count = number_classes(c);
        if (count == c->class_count)
            return;
        c->class_count = count;
    }
}

/* ---- rows ---- */

/* Types of a dwz file that several programs share count only if this program imports or refers to them. */
struct marks {
    uint8_t *used; /* by class */
    struct vector pending;
};

static void mark_type(struct canon *c, struct marks *marks, int32_t index)
{
    uint32_t class = index == NO_TYPE ? 0 : meant_class(c, index);
    if (index == NO_TYPE || marks->used[class])
        return;
    marks->used[class] = 1;
    *(uint32_t *)vector_push(c->walk, &marks->pending, 1) = class;
}

static void mark_roots(struct canon *c, struct marks *marks)
{
    struct walk *walk = c->walk;
    for (size_t i = 0; i < c->count; i++)
        if (c->types[i].owner->is_program && c->types[i].row.kind != KIND_ALIAS)
            mark_type(c, marks, (int32_t)i);
    for (size_t i = 0; i < walk->raw_variables.count; i++)
        mark_type(c, marks, raw_of(c, ((struct raw_variable *)walk->raw_variables.data)[i].type));
    for (size_t i = 0; i < walk->raw_functions.count; i++)
        mark_type(c, marks, raw_of(c, ((struct raw_function *)walk->raw_functions.data)[i].type));
    for (size_t i = 0; i < walk->raw_locals.count; i++)
        mark_type(c, marks, raw_of(c, ((struct raw_local *)walk->raw_locals.data)[i].type));
}

static uint8_t *mark_used(struct canon *c)
{
    struct marks *marks = walk_allocate(c->walk, sizeof *marks);
    int32_t *first = walk_allocate(c->walk, c->class_count * sizeof *first);
    marks->used = walk_allocate(c->walk, c->class_count);
    vector_own(c->walk, &marks->pending, sizeof(uint32_t));
    for (size_t i = c->count; i-- > 0;)
        first[c->class[i]] = (int32_t)i;
    mark_roots(c, marks);
    while (marks->pending.count) {
        int32_t index = first[((uint32_t *)marks->pending.data)[--marks->pending.count]];
        const struct type_row *row = &c->types[index].row;
        mark_type(c, marks, c->target[index]);
        for (uint32_t i = 0; i < row->count && has_members(row); i++)
            mark_type(c, marks, c->members[row->first + i].row.type);
    }
    return marks->used;
}

static void emit_type(struct canon *c, size_t index, const int32_t *row_of_class)
{
    struct walk *walk = c->walk;
    struct type_row row = c->types[index].row;
    uint32_t first = row.first;
    row.target = c->target[index] == NO_TYPE ? NO_TYPE : row_of_class[meant_class(c, c->target[index])];
    if (row.kind == KIND_ENUM) {
        row.first = (uint32_t)walk->enumerators.count;
        vector_append(walk, &walk->enumerators, c->enumerators + first, row.count);
    } else {
        row.count = has_members(&row) ? row.count : 0;
        row.first = (uint32_t)walk->members.count;
        struct member_row *members = vector_push(walk, &walk->members, row.count);
        for (uint32_t i = 0; i < row.count; i++) {
            members[i] = c->members[first + i].row;
            if (members[i].type != NO_TYPE)
                members[i].type = row_of_class[meant_class(c, members[i].type)];
        }
    }
    *(struct type_row *)vector_push(walk, &walk->types, 1) = row;
}

static void emit_types(struct canon *c)
{
    int32_t *row_of_class = walk_allocate(c->walk, c->class_count * sizeof *row_of_class);
    size_t *emitted = walk_allocate(c->walk, c->class_count * sizeof *emitted);
    uint8_t *used = mark_used(c);
    int32_t count = 0;
    for (uint32_t i = 0; i < c->class_count; i++)
        row_of_class[i] = NO_TYPE;
    for (size_t i = 0; i < c->count; i++) {
        uint32_t class = c->class[i];
        bool is_replaced = meant_class(c, (int32_t)i) != class;
        if (c->types[i].row.kind == KIND_ALIAS || row_of_class[class] >= 0 || is_replaced || !used[class])
            continue;
        emitted[count] = i;
        row_of_class[class] = count++;
    }
    for (int32_t i = 0; i < count; i++)
        emit_type(c, emitted[i], row_of_class);
    c->walk->row_of_raw = walk_allocate(c->walk, (c->count + 1) * sizeof(int32_t));
    for (size_t i = 0; i < c->count; i++)
        c->walk->row_of_raw[i] = row_of_class[meant_class(c, (int32_t)i)];
}

/* Typedefs of what one unit only declares have their size now. */
static void typedef_sizes(struct walk *walk)
{
    struct type_row *rows = (struct type_row *)walk->types.data;
    for (size_t i = 0; i < walk->types.count; i++) {
        int32_t target = rows[i].target;
        for (unsigned hops = 0; target >= 0 && rows[target].kind == KIND_TYPEDEF && hops < DEPTH_LIMIT;
             hops++)
            target = rows[target].target;
        if (rows[i].kind == KIND_TYPEDEF && target >= 0)
            rows[i].size = rows[target].size;
    }
}

void types_finish(struct walk *walk)
{
    size_t count = walk->raw_types.count;
    struct canon *c = walk_allocate(walk, sizeof *c);
    c->walk = walk;
    map_own(walk, &c->numbers);
    map_own(walk, &c->by_name);
    c->types = (struct raw_type *)walk->raw_types.data;
    c->members = (struct raw_member *)walk->raw_members.data;
    c->enumerators = (struct enumerator_row *)walk->raw_enumerators.data;
    c->count = count;
    c->target = walk_allocate(walk, count * sizeof *c->target);
    c->hash = walk_allocate(walk, count * sizeof *c->hash);
    c->state = walk_allocate(walk, count);
    c->class = walk_allocate(walk, count * sizeof *c->class);
    index_keys(c);
    resolve_references(c);
    compute_sizes(c);
    refine_classes(c);
    emit_types(c);
    typedef_sizes(walk);
    walk->canon = c;
}

int32_t type_row_of(struct walk *walk, uint64_t reference)
{
    int32_t raw = raw_of(walk->canon, reference);
    if (raw == NO_TYPE)
        return NO_TYPE;
    if (walk->row_of_raw[raw] < 0)
        walk_fail(walk, WALK_BUG, "type %d has no row", raw);
    return walk->row_of_raw[raw];
}
