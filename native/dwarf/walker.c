/* The library's functions: walk a program, hand out its columns. */
#include "walker.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

/* In the order of model.COLUMNS. */
static const struct {
    const char *name;
    size_t place, width;
} COLUMNS[] = {
#define COLUMN(name, member, type) {name, offsetof(struct walk, member), sizeof(type)}
    COLUMN("types", types, struct type_row),
    COLUMN("members", members, struct member_row),
    COLUMN("enumerators", enumerators, struct enumerator_row),
    COLUMN("variables", variables, struct variable_row),
    COLUMN("functions", functions, struct function_row),
    COLUMN("ranges", ranges, struct range_row),
    COLUMN("locals", locals, struct local_row),
    COLUMN("locations", locations, struct location_row),
    COLUMN("units", units_column, struct unit_row),
    COLUMN("lines", lines, struct line_row),
    COLUMN("strings", strings, uint8_t),
    COLUMN("expressions", expressions, uint8_t),
    /* internal */
    COLUMN("", allocations, void *),
    COLUMN("", owned_vectors, struct vector *),
    COLUMN("", owned_maps, struct map *),
    COLUMN("", units, struct unit *),
    COLUMN("", tables, void *),
    COLUMN("", loads, struct range_row),
    COLUMN("", raw_types, struct raw_type),
    COLUMN("", raw_members, struct raw_member),
    COLUMN("", raw_enumerators, struct enumerator_row),
    COLUMN("", raw_variables, struct raw_variable),
    COLUMN("", raw_functions, struct raw_function),
    COLUMN("", raw_locals, struct raw_local),
    COLUMN("", raw_keys, struct raw_key),
    COLUMN("", scratch, uint8_t),
    COLUMN("", parts, struct static_part),
    COLUMN("", sources, struct source),
    COLUMN("", imports, struct import),
    COLUMN("", raw_lines, struct line_row),
    COLUMN("", sequences, struct line_sequence),
#undef COLUMN
};
enum { COLUMN_COUNT = 12, VECTOR_COUNT = sizeof COLUMNS / sizeof COLUMNS[0] };

struct instar_walk_column {
    const void *data;
    uint64_t rows, width;
};

struct walk *instar_walk_create(void);
int instar_walk_give(struct walk *walk, const char *path, int file);
int instar_walk_program(struct walk *walk, const char *program, const char *beside, const char *alternate,
                        const char *package);
const char *instar_walk_detail(const struct walk *walk);
uint64_t instar_walk_dies(const struct walk *walk);
int instar_walk_column(const struct walk *walk, const char *name, struct instar_walk_column *column);
void instar_walk_free(struct walk *walk);

static struct vector *vector_at(struct walk *walk, size_t index)
{
    return (struct vector *)((char *)walk + COLUMNS[index].place);
}

/* A new walk, NULL without memory. */
struct walk *instar_walk_create(void)
{
    struct walk *walk = calloc(1, sizeof *walk);
    for (size_t i = 0; walk && i < VECTOR_COUNT; i++)
        vector_at(walk, i)->width = COLUMNS[i].width;
    return walk;
}

static bool has_content(const struct unit *unit)
{
    bool is_skeleton = unit->split && !unit->is_split;
    return !is_skeleton && unit->type != DW_UT_skeleton;
}

static void walk_units(struct walk *walk)
{
    for (size_t i = 0; i < walk->units.count; i++) {
        struct unit *unit = ((struct unit **)walk->units.data)[i];
        if (has_content(unit))
            unit_walk(walk, unit);
        if (!unit->is_split && !unit->sections->is_alt && unit->tag != DW_TAG_partial_unit)
            lines_collect(walk, unit);
    }
}

/* What is imported by a unit of the program, however indirectly, is of the program. */
static void follow_imports(struct walk *walk)
{
    const struct import *imports = (const struct import *)walk->imports.data;
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < walk->imports.count; i++)
            if (imports[i].by->is_program && !imports[i].of->is_program)
                again = imports[i].of->is_program = true;
    }
    for (size_t i = walk->imports.count; i-- > 0;) {
        if (imports[i].by->is_program)
            imports[i].of->importer = imports[i].by;
    }
}

/* What dwz has put into a partial unit belongs to the unit that takes it. */
static void leave_partial_units(struct walk *walk)
{
    uint32_t *rows = walk_allocate(walk, (walk->units_column.count + 1) * sizeof *rows);
    for (size_t i = 0; i < walk->units_column.count; i++)
        rows[i] = (uint32_t)i;
    for (size_t i = 0; i < walk->units.count; i++) {
        struct unit *unit = ((struct unit **)walk->units.data)[i], *owner = unit;
        for (unsigned hops = 0; owner->tag == DW_TAG_partial_unit && owner->importer && hops < DEPTH_LIMIT;
             hops++)
            owner = owner->importer;
        if (unit->row >= 0)
            rows[unit->row] = unit_row_index(walk, owner);
    }
    for (size_t i = 0; i < walk->raw_types.count; i++) {
        struct type_row *row = &((struct raw_type *)walk->raw_types.data)[i].row;
        row->unit = rows[row->unit];
    }
    for (size_t i = 0; i < walk->raw_variables.count; i++) {
        struct variable_row *row = &((struct raw_variable *)walk->raw_variables.data)[i].row;
        row->unit = rows[row->unit];
    }
    for (size_t i = 0; i < walk->raw_functions.count; i++) {
        struct function_row *row = &((struct raw_function *)walk->raw_functions.data)[i].row;
        row->unit = rows[row->unit];
    }
    for (size_t i = 0; i < walk->sources.count; i++) {
        struct source *source = (struct source *)walk->sources.data + i;
        source->unit = rows[source->unit];
    }
}

static void walk_files(struct walk *walk, const char *program, const char *beside, const char *alternate,
                       const char *package)
{
    vector_push(walk, &walk->strings, 1);
    walk->next_key = 1;
    struct sections *sections = sections_open(walk, program, true);
    if (!sections->at[SECTION_INFO].size)
        walk_fail(walk, WALK_NO_INFO, "%s", program);
    if (alternate) {
        sections->alt = sections_open(walk, alternate, false);
        sections->alt->is_alt = true;
        units_add(walk, sections->alt, false);
    }
    units_add(walk, sections, false);
    split_link(walk, beside, package);
    walk_units(walk);
    follow_imports(walk);
    leave_partial_units(walk);
    types_finish(walk);
    scopes_finish(walk);
    if (!walk->types.count && !walk->functions.count)
        walk_fail(walk, WALK_NO_DIES, "%s", program);
    lines_finish(walk);
}

/* Have `file` read where `path` is asked for; both stay the caller's. -1: that were too many. */
int instar_walk_give(struct walk *walk, const char *path, int file)
{
    if (walk->given_count == GIVEN_FILES)
        return -1;
    walk->given[walk->given_count++] = (struct given_file){path, file};
    return 0;
}

/* Fills the columns from `program` (or its separate debug file). Its .dwo files are looked for where the compiler
 * wrote them, then in the directory `beside`; `alternate` and `package` may be NULL. Returns an enum walk_error, the
 * detail of which instar_walk_detail() gives. */
int instar_walk_program(struct walk *walk, const char *program, const char *beside, const char *alternate,
                        const char *package)
{
    if (!setjmp(walk->failed))
        walk_files(walk, program, beside, alternate, package);
    sections_close(walk);
    return (int)walk->error;
}

const char *instar_walk_detail(const struct walk *walk)
{
    return walk->detail;
}

uint64_t instar_walk_dies(const struct walk *walk)
{
    return walk->die_count;
}

/* Where a column's rows are; they live as long as the walk. -1: no such column. */
int instar_walk_column(const struct walk *walk, const char *name, struct instar_walk_column *column)
{
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        if (!strcmp(COLUMNS[i].name, name)) {
            const struct vector *vector = vector_at((struct walk *)walk, i);
            *column = (struct instar_walk_column){vector->data, vector->count, vector->width};
            return 0;
        }
    return -1;
}

void instar_walk_free(struct walk *walk)
{
    if (!walk)
        return;
    struct map *maps[] = {
        &walk->abbrev_tables,     &walk->line_tables,      &walk->signatures,
        &walk->variable_by_root,  &walk->function_by_root, &walk->frame_bases,
        &walk->string_by_pointer, &walk->string_by_hash,   &walk->expression_by_hash,
    };
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++)
        map_clear(maps[i]);
    for (size_t i = 0; i < walk->owned_maps.count; i++)
        map_clear(((struct map **)walk->owned_maps.data)[i]);
    for (size_t i = 0; i < walk->owned_vectors.count; i++)
        vector_free(((struct vector **)walk->owned_vectors.data)[i]);
    for (size_t i = 0; i < walk->allocations.count; i++)
        free(((void **)walk->allocations.data)[i]);
    for (size_t i = 0; i < VECTOR_COUNT; i++)
        vector_free(vector_at(walk, i));
    free(walk);
}
