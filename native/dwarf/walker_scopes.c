/* Variables, functions and locals: what the DIEs of units, functions and blocks say beside types. */
#include "walker.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#define NO_FUNCTION UINT32_MAX
#define HOPS 16

struct scope {
    uint32_t function;    /* raw index of the function whose code this is, or NO_FUNCTION */
    uint64_t root;        /* key of the source function this belongs to, 0 at unit level */
    uint32_t source_name; /* its name (of the outermost, for GNU C's nested functions) */
    uint32_t origin_name; /* inside an inlined function: its name */
    uint32_t first_scope, scope_count;
    bool is_inlined;
    unsigned depth;
};

/* The DIE that carries the name: concrete instances and definitions point at it. */
struct root {
    struct unit *unit;
    struct die die;
    bool external;
    uint64_t type;
    uint64_t abstract;   /* the last abstract instance on the way, or the DIE itself */
    uint32_t file, line; /* of the declaration nearest to the DIE asked about */
};

static void root_place(struct walk *walk, struct root *root)
{
    if (root->line || !root->die.line)
        return;
    root->line = (uint32_t)root->die.line;
    root->file = die_file(walk, root->unit, &root->die);
}

static void find_root(struct walk *walk, struct unit *unit, const struct die *die, struct root *root)
{
    *root = (struct root){
        .unit = unit, .die = *die, .external = die->external, .type = die->type, .abstract = die->key};
    root_place(walk, root);
    for (unsigned hops = 0; root->die.origin || root->die.specification; hops++) {
        uint64_t next = root->die.origin ? root->die.origin : root->die.specification;
        if (hops == HOPS)
            walk_fail(walk, WALK_DAMAGED, "DIEs that are each other's origin in the unit %s",
                      unit->name ? unit->name : "");
        struct die previous = root->die;
        if (root->die.origin)
            root->abstract = next;
        root->unit = die_at(walk, root->unit, next, &root->die);
        root->external |= root->die.external;
        root_place(walk, root);
        if (!root->type)
            root->type = root->die.type;
        if (!root->die.name)
            root->die.name = previous.name;
    }
}

/* With link-time optimisation a definition is far from the unit that its source is in; the root is in it. But what dwz
 * moved into a partial unit belongs to the unit that refers to it. */
static uint32_t root_unit_row(struct walk *walk, struct unit *unit, const struct root *root)
{
    return unit_row_index(walk, root->unit->tag == DW_TAG_compile_unit ? root->unit : unit);
}

/* ---- variables ---- */

/* Whether the part exists in the program; what its linker dropped is at 0 or outside. */
static bool part_place(const struct walk *walk, struct static_part *part)
{
    if (!part->is_tls)
        return walk_is_loaded(walk, part->address);
    if (part->address >= walk->tls.low && part->address < walk->tls.high && walk->tls.low)
        part->address -= walk->tls.low; /* gcc 12 with -gsplit-dwarf gives the template's address */
    return part->address < walk->tls.high - walk->tls.low;
}

static void part_take(struct walk *walk, const struct scope *scope, struct unit *unit,
                      const struct root *root, struct static_part *part)
{
    bool is_new;
    if (!part_place(walk, part))
        return;
    map_slot(walk, &walk->variable_by_root, hash_mix(root->die.key, part->address) | 1, &is_new);
    if (!is_new)
        return; /* named by the abstract function and by each inlined copy */
    struct raw_variable *raw = vector_push(walk, &walk->raw_variables, 1);
    raw->type = root->type;
    raw->function = scope->root;
    raw->part = *part;
    raw->row = (struct variable_row){
        .address = part->address,
        .name = pool_string(walk, root->die.name),
        .kind = scope->root      ? VARIABLE_FUNCTION_STATIC
                : root->external ? VARIABLE_GLOBAL
                                 : VARIABLE_FILE_STATIC,
        .tls = part->is_tls,
        .flags = (part->size ? VARIABLE_PIECE : 0) | (part->is_choice ? VARIABLE_CHOICE : 0),
        .unit = root_unit_row(walk, unit, root),
        .scope = scope->root ? scope->source_name : 0,
        .file = root->file,
        .line = root->line,
    };
}

/* A constant as the expression that gives it. */
static uint32_t constant_location(struct walk *walk, const struct unit *unit, struct value constant,
                                  uint32_t *first)
{
    uint8_t expression[32] = {DW_OP_const8u};
    size_t size = 0;
    *first = (uint32_t)walk->locations.count;
    if (constant.class == VALUE_CONSTANT || constant.class == VALUE_SIGNED) {
        memcpy(expression + 1, &constant.number, 8);
        expression[9] = DW_OP_stack_value;
        size = 10;
    } else if (constant.class == VALUE_BLOCK && constant.number < 28) {
        expression[0] = DW_OP_implicit_value;
        expression[1] = (uint8_t)constant.number;
        memcpy(expression + 2, constant.data, constant.number);
        size = 2 + constant.number;
    }
    if (!size)
        return 0;
    location_push(walk, unit, 0, UINT64_MAX, expression, size);
    return 1;
}

static void local_take(struct walk *walk, const struct scope *scope, struct unit *unit, const struct die *die,
                       struct root *root)
{
    struct raw_local *raw = vector_push(walk, &walk->raw_locals, 1);
    struct local_row row = {
        .name = pool_string(walk, root->die.name),
        .flags = (die->tag == DW_TAG_formal_parameter ? LOCAL_PARAMETER : 0) |
                 (scope->is_inlined ? LOCAL_INLINED : 0),
        .origin = scope->origin_name,
        .first_scope = scope->first_scope,
        .scope_count = scope->scope_count,
        .line = root->line,
    };
    row.location_count = locations_read(walk, unit, die->location, &row.first_location);
    const struct value *constant = die->constant.class ? &die->constant : &root->die.constant;
    if (!row.location_count && constant->class)
        row.location_count = constant_location(walk, unit, *constant, &row.first_location);
    raw->row = row;
    raw->type = root->type;
    raw->function = scope->function;
}

static void variable_die(struct walk *walk, const struct scope *scope, struct unit *unit,
                         const struct die *die)
{
    struct root root;
    size_t parts = expression_statics(walk, unit, die->location);
    bool is_local = scope->function != NO_FUNCTION && !die->declaration;
    if (!parts && !is_local)
        return;
    find_root(walk, unit, die, &root);
    for (size_t i = 0; i < parts; i++)
        part_take(walk, scope, unit, &root, (struct static_part *)walk->parts.data + i);
    if (!parts && !root.external && !root.die.declaration)
        local_take(walk, scope, unit, die, &root);
}

/* ---- functions and blocks ---- */

static uint32_t frame_base(struct walk *walk, struct unit *unit, struct value value)
{
    if (value.class != VALUE_BLOCK || !value.number)
        return NO_LOCATION;
    uint32_t first, length, place = expression_pool(walk, unit, value.data, value.number, &length);
    bool is_new;
    uint32_t *slot = map_slot(walk, &walk->frame_bases, ((uint64_t)place << 32 | length) + 1, &is_new);
    if (is_new) {
        locations_read(walk, unit, value, &first);
        *slot = first;
    }
    return *slot;
}

/* low..high and further ranges; false: no code (declared, only inlined, or dropped by the linker). */
static bool function_ranges(struct walk *walk, struct unit *unit, const struct die *die,
                            struct function_row *row)
{
    if (die->has_low && die->high) {
        row->low = die->low;
        row->high = die->high_is_offset ? die->low + die->high : die->high;
        return row->low < row->high && walk_is_loaded(walk, row->low);
    }
    uint32_t first, count = ranges_read(walk, unit, die->ranges, &first), entry = 0, kept = 0;
    struct range_row *ranges = (struct range_row *)walk->ranges.data + first;
    for (uint32_t i = 0; i < count; i++)
        if (walk_is_loaded(walk, ranges[i].low))
            ranges[kept++] = ranges[i];
    walk->ranges.count = first + kept;
    if (!kept)
        return false;
    for (uint32_t i = 0; i < kept && die->has_entry; i++)
        if (ranges[i].low <= die->entry && die->entry < ranges[i].high)
            entry = i;
    row->low = ranges[entry].low;
    row->high = ranges[entry].high;
    memmove(ranges + entry, ranges + entry + 1, (kept - entry - 1) * sizeof *ranges);
    walk->ranges.count--;
    row->first_range = first;
    row->range_count = kept - 1;
    return true;
}

static struct cursor scope_walk(struct walk *walk, const struct scope *scope, struct unit *unit,
                                struct cursor at);

static uint32_t function_take(struct walk *walk, struct unit *unit, const struct die *die, struct root *root)
{
    struct function_row row = {0};
    if (!function_ranges(walk, unit, die, &row))
        return NO_FUNCTION;
    row.name = pool_string(walk, root->die.name);
    row.unit = root_unit_row(walk, unit, root);
    row.external = root->external;
    row.frame_base = frame_base(walk, unit, die->frame_base);
    row.file = root->file;
    row.line = root->line;
    struct raw_function *raw = vector_push(walk, &walk->raw_functions, 1);
    *raw = (struct raw_function){row, root->abstract, root->die.key};
    uint32_t index = (uint32_t)walk->raw_functions.count - 1;
    bool is_new;
    uint32_t *slot = map_slot(walk, &walk->function_by_root, root->die.key, &is_new);
    if (is_new)
        *slot = index;
    return index;
}

static struct cursor subprogram_die(struct walk *walk, const struct scope *outer, struct unit *unit,
                                    const struct die *die)
{
    struct root root;
    find_root(walk, unit, die, &root);
    struct scope scope = {
        .function = die->declaration ? NO_FUNCTION : function_take(walk, unit, die, &root),
        .root = root.die.key,
        .source_name = outer->root ? outer->source_name : pool_string(walk, root.die.name),
        .depth = outer->depth + 1,
    };
    if (root.die.name && root.line && !root.die.declaration)
        *(struct source *)vector_push(walk, &walk->sources, 1) =
            (struct source){root.die.key, root_unit_row(walk, unit, &root), root.file, root.line,
                            pool_string(walk, root.die.name)};
    if (!die->origin)
        function_type_collect(walk, unit, die, root.type);
    return die->has_children ? scope_walk(walk, &scope, unit, die->after) : die->after;
}

/* A function that is not at the level of its unit but in a type. */
struct cursor function_walk(struct walk *walk, struct unit *unit, const struct die *die, unsigned depth)
{
    const struct scope outer = {.function = NO_FUNCTION, .depth = depth};
    return subprogram_die(walk, &outer, unit, die);
}

/* Lexical blocks and inlined functions narrow the code in which their locals exist. */
static struct cursor block_die(struct walk *walk, const struct scope *outer, struct unit *unit,
                               const struct die *die)
{
    struct scope scope = *outer;
    scope.depth++;
    if (!die->has_children)
        return die->after;
    if (scope.function != NO_FUNCTION) {
        uint32_t first = (uint32_t)walk->ranges.count, count = 0;
        if (die->has_low && die->high) {
            uint64_t high = die->high_is_offset ? die->low + die->high : die->high;
            *(struct range_row *)vector_push(walk, &walk->ranges, 1) = (struct range_row){die->low, high};
            count = 1;
        } else {
            count = ranges_read(walk, unit, die->ranges, &first);
        }
        if (count) {
            scope.first_scope = first;
            scope.scope_count = count;
        }
    }
    if (die->tag == DW_TAG_inlined_subroutine) {
        struct root root;
        find_root(walk, unit, die, &root);
        scope.root = root.die.key;
        scope.source_name = scope.origin_name = pool_string(walk, root.die.name);
        scope.is_inlined = true;
    }
    return scope_walk(walk, &scope, unit, die->after);
}

static struct cursor child_die(struct walk *walk, const struct scope *scope, struct unit *unit,
                               const struct die *die)
{
    if (is_type_tag(die->tag))
        return type_collect(walk, unit, die, scope->depth);
    switch (die->tag) {
    case DW_TAG_variable:
    case DW_TAG_formal_parameter:
        variable_die(walk, scope, unit, die);
        return die_end(walk, unit, die);
    case DW_TAG_subprogram:
        return subprogram_die(walk, scope, unit, die);
    case DW_TAG_lexical_block:
    case DW_TAG_inlined_subroutine:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
        return block_die(walk, scope, unit, die);
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_common_block: {
        struct scope inner = *scope;
        inner.depth++;
        return die->has_children ? scope_walk(walk, &inner, unit, die->after) : die->after;
    }
    case DW_TAG_imported_unit: {
        struct unit *of = die->import ? unit_of_key(walk, die->import) : NULL;
        if (of)
            *(struct import *)vector_push(walk, &walk->imports, 1) = (struct import){unit, of};
        return die_end(walk, unit, die);
    }
    case DW_TAG_call_site:
    case DW_TAG_GNU_call_site:
        return die_end(walk, unit, die);
    default:
        return die->has_children ? types_below(walk, unit, die->after, scope->depth) : die->after;
    }
}

static struct cursor scope_walk(struct walk *walk, const struct scope *scope, struct unit *unit,
                                struct cursor at)
{
    struct die die;
    if (scope->depth > DEPTH_LIMIT)
        walk_fail(walk, WALK_DAMAGED, "scopes nested more than %d deep in %s", DEPTH_LIMIT,
                  unit->name ? unit->name : "");
    while (at.at < at.end && die_read(walk, unit, at, &die))
        at = child_die(walk, scope, unit, &die);
    return at.at < at.end ? die.after : at;
}

void unit_walk(struct walk *walk, struct unit *unit)
{
    struct scope scope = {.function = NO_FUNCTION};
    struct die die;
    if (unit->dies.at < unit->dies.end && die_read(walk, unit, unit->dies, &die) && die.has_children) {
        unit_row_index(walk, unit);
        scope_walk(walk, &scope, unit, die.after);
    }
}

/* ---- rows ---- */

static void functions_emit(struct walk *walk)
{
    const struct raw_function *raw = (const struct raw_function *)walk->raw_functions.data;
    size_t count = walk->raw_functions.count;
    struct function_row *rows = vector_push(walk, &walk->functions, count);
    for (size_t i = 0; i < count; i++) {
        rows[i] = raw[i].row;
        rows[i].type = type_row_of(walk, raw[i].type);
    }
}

/* Locals of nested functions lie between those of the outer one: a counting sort puts them together. */
static void locals_emit(struct walk *walk)
{
    const struct raw_local *raw = (const struct raw_local *)walk->raw_locals.data;
    struct function_row *functions = (struct function_row *)walk->functions.data;
    size_t count = walk->raw_locals.count;
    uint32_t next = 0;
    for (size_t i = 0; i < count; i++)
        functions[raw[i].function].local_count++;
    for (size_t i = 0; i < walk->functions.count; i++) {
        functions[i].first_local = next;
        next += functions[i].local_count;
        functions[i].local_count = 0;
    }
    struct local_row *rows = vector_push(walk, &walk->locals, count);
    for (size_t i = 0; i < count; i++) {
        struct function_row *function = &functions[raw[i].function];
        struct local_row *row = &rows[function->first_local + function->local_count++];
        *row = raw[i].row;
        row->type = type_row_of(walk, raw[i].type);
    }
}

void scopes_finish(struct walk *walk)
{
    functions_emit(walk);
    locals_emit(walk);
    variables_emit(walk);
}
