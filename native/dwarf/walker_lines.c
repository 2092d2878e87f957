/* Line tables, DWARF 2-5 section 6.2: file names, and (address, file, line) rows in runs. */
#include "walker.h"

#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_MADE UINT32_MAX

static void read_names_old(struct walk *walk, struct line_table *table, struct cursor *c)
{
    for (const char *name; *(name = cursor_string(c));)
        *(const char **)vector_push(walk, &table->directories, 1) = name;
    for (const char *name; *(name = cursor_string(c));) {
        struct file_entry *file = vector_push(walk, &table->files, 1);
        *file = (struct file_entry){name, cursor_uleb(c), NOT_MADE};
        cursor_uleb(c);
        cursor_uleb(c);
    }
}

/* One of DWARF 5's two tables: descriptions of the columns, then the rows. */
static void read_table(struct walk *walk, const struct unit *unit, struct line_table *table, struct cursor *c,
                       bool is_files)
{
    struct attribute format[256];
    unsigned columns = (unsigned)cursor_fixed(c, 1);
    for (unsigned i = 0; i < columns; i++) {
        format[i].name = (uint16_t)cursor_uleb(c);
        format[i].form = (uint16_t)cursor_uleb(c);
    }
    uint64_t rows = cursor_uleb(c);
    for (uint64_t row = 0; row < rows && c->at < c->end; row++) {
        struct file_entry entry = {"", 0, NOT_MADE};
        for (unsigned i = 0; i < columns; i++) {
            struct value value = form_read(walk, unit, c, format[i].form, 0);
            if (format[i].name == DW_LNCT_path && value.class == VALUE_STRING)
                entry.name = (const char *)value.data;
            else if (format[i].name == DW_LNCT_directory_index && value.class == VALUE_CONSTANT)
                entry.directory = value.number;
        }
        if (is_files)
            *(struct file_entry *)vector_push(walk, &table->files, 1) = entry;
        else
            *(const char **)vector_push(walk, &table->directories, 1) = entry.name;
    }
}

static bool header_read(struct walk *walk, const struct unit *unit, struct line_table *table, struct cursor c)
{
    unsigned wide = 4;
    uint64_t length = cursor_fixed(&c, 4);
    if (length == UINT32_MAX) {
        wide = 8;
        length = cursor_fixed(&c, 8);
    }
    if (length > (uint64_t)(c.end - c.at))
        return false;
    c.end = c.at + length;
    table->version = (uint16_t)cursor_fixed(&c, 2);
    table->address_size = 8;
    if (table->version >= 5) {
        table->address_size = (uint8_t)cursor_fixed(&c, 1);
        cursor_skip(&c, 1);
    }
    uint64_t header = cursor_fixed(&c, wide);
    if (c.bad || table->version < 2 || table->version > 5 || header > (uint64_t)(c.end - c.at))
        return false;
    table->program = (struct cursor){c.at + header, c.end, false};
    table->minimum_length = (uint8_t)cursor_fixed(&c, 1);
    if (table->version >= 4)
        cursor_skip(&c, 1);
    cursor_skip(&c, 1);
    table->line_base = (int8_t)cursor_fixed(&c, 1);
    table->line_range = (uint8_t)cursor_fixed(&c, 1);
    table->opcode_base = (uint8_t)cursor_fixed(&c, 1);
    table->opcode_lengths = cursor_skip(&c, table->opcode_base ? table->opcode_base - 1u : 0);
    if (c.bad || !table->line_range || !table->opcode_base)
        return false;
    struct unit as_wide = *unit; /* the table's own offset size counts for its strings */
    as_wide.offset_size = (uint8_t)wide;
    if (table->version < 5) {
        read_names_old(walk, table, &c);
    } else {
        read_table(walk, &as_wide, table, &c, false);
        read_table(walk, &as_wide, table, &c, true);
    }
    return !c.bad;
}

static struct line_table *table_of(struct walk *walk, struct unit *unit)
{
    struct slice all = unit->sections->at[SECTION_LINE];
    if (unit->lines || !unit->has_lines || unit->line_offset >= all.size)
        return unit->lines;
    bool is_new;
    const uint8_t *start = all.data + unit->line_offset;
    uint32_t *slot = map_slot(walk, &walk->line_tables, (uintptr_t)start, &is_new);
    if (!is_new)
        return unit->lines = ((struct line_table **)walk->tables.data)[*slot];
    *slot = (uint32_t)walk->tables.count;
    struct line_table *table = walk_allocate(walk, sizeof *table);
    *(void **)vector_push(walk, &walk->tables, 1) = table;
    vector_own(walk, &table->directories, sizeof(const char *));
    vector_own(walk, &table->files, sizeof(struct file_entry));
    if (!header_read(walk, unit, table, (struct cursor){start, all.data + all.size, false}))
        walk_fail(walk, WALK_DAMAGED, "the line table of the unit %s", unit->name ? unit->name : "");
    return unit->lines = table;
}

static uint32_t join_path(struct walk *walk, const char *base, const char *directory, const char *name)
{
    if (*name == '/')
        directory = base = "";
    else if (*directory == '/')
        base = "";
    size_t size = strlen(base) + strlen(directory) + strlen(name) + 3;
    char local[1024], *path = size <= sizeof local ? local : walk_allocate(walk, size);
    int length =
        snprintf(path, size, "%s%s%s%s%s", base, *base ? "/" : "", directory, *directory ? "/" : "", name);
    return length > 0 ? pool_text(walk, path, (size_t)length) : 0;
}

static uint32_t unit_file(struct walk *walk, struct unit *unit, uint64_t index)
{
    struct line_table *table = table_of(walk, unit);
    if (!table)
        return unit->skeleton ? unit_file(walk, unit->skeleton, index) : 0;
    bool is_modern = table->version >= 5;
    size_t place = (size_t)index - !is_modern;
    if (place >= table->files.count)
        return 0;
    struct file_entry *file = (struct file_entry *)table->files.data + place;
    if (file->path == NOT_MADE) {
        const char *base = unit->directory ? unit->directory : "", *directory = "";
        uint64_t which = file->directory - !is_modern;
        if (which < table->directories.count)
            directory = ((const char **)table->directories.data)[which];
        file->path = join_path(walk, base, strcmp(directory, base) ? directory : "", file->name);
    }
    return file->path;
}

uint32_t die_file(struct walk *walk, struct unit *unit, const struct die *die)
{
    return die->has_file ? unit_file(walk, unit, die->file) : 0;
}

/* ---- the program ---- */

struct machine {
    uint64_t address, file, line;
    uint32_t path;
    uint64_t path_of;
    size_t first; /* of the run, in raw_lines */
};

static void machine_reset(struct walk *walk, struct machine *m)
{
    *m = (struct machine){.file = 1, .line = 1, .path_of = UINT64_MAX, .first = walk->raw_lines.count};
}

static void emit_row(struct walk *walk, struct unit *unit, struct machine *m)
{
    if (m->path_of != m->file) {
        m->path = unit_file(walk, unit, m->file);
        m->path_of = m->file;
    }
    struct line_row row = {m->address, m->path, (uint32_t)m->line};
    size_t count = walk->raw_lines.count;
    struct line_row *last = count > m->first ? (struct line_row *)walk->raw_lines.data + count - 1 : NULL;
    if (last && last->address == row.address)
        *last = row; /* of several rows of one address the last one counts */
    else if (!last || last->file != row.file || last->line != row.line)
        *(struct line_row *)vector_push(walk, &walk->raw_lines, 1) = row;
}

static void end_sequence(struct walk *walk, struct machine *m)
{
    size_t count = walk->raw_lines.count - m->first;
    struct line_row *rows = count ? (struct line_row *)walk->raw_lines.data + m->first : NULL;
    bool in_order = count > 0 && walk_is_loaded(walk, rows[0].address);
    for (size_t i = 1; i < count && in_order; i++)
        in_order = rows[i - 1].address < rows[i].address;
    if (in_order && rows[count - 1].address < m->address) {
        struct line_sequence sequence = {rows[0].address, m->address, m->first, count};
        *(struct line_sequence *)vector_push(walk, &walk->sequences, 1) = sequence;
    } else {
        walk->raw_lines.count = m->first; /* code that the linker dropped */
    }
    machine_reset(walk, m);
}

static void run_extended(struct walk *walk, struct cursor *c, struct machine *m)
{
    uint64_t size = cursor_uleb(c);
    const uint8_t *data = cursor_skip(c, size);
    struct cursor operand = {data, data ? data + size : data, false};
    switch (data && size ? cursor_fixed(&operand, 1) : 0) {
    case DW_LNE_end_sequence:
        end_sequence(walk, m);
        break;
    case DW_LNE_set_address:
        m->address = cursor_fixed(&operand, size == 9 ? 8 : 4);
        break;
    default:
        break;
    }
}

static void run_special(const struct line_table *table, struct machine *m, uint8_t opcode)
{
    unsigned adjusted = opcode - table->opcode_base;
    m->address += (uint64_t)(adjusted / table->line_range) * table->minimum_length;
    m->line += (uint64_t)(int64_t)(table->line_base + (int)(adjusted % table->line_range));
}

static void run_standard(const struct line_table *table, struct cursor *c, struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case DW_LNS_advance_pc:
        m->address += cursor_uleb(c) * table->minimum_length;
        break;
    case DW_LNS_advance_line:
        m->line += (uint64_t)cursor_sleb(c);
        break;
    case DW_LNS_set_file:
        m->file = cursor_uleb(c);
        break;
    case DW_LNS_const_add_pc:
        m->address += (uint64_t)((255u - table->opcode_base) / table->line_range) * table->minimum_length;
        break;
    case DW_LNS_fixed_advance_pc:
        m->address += cursor_fixed(c, 2);
        break;
    default:
        for (unsigned i = 0; i < table->opcode_lengths[opcode - 1]; i++)
            cursor_uleb(c);
    }
}

void lines_collect(struct walk *walk, struct unit *unit)
{
    struct line_table *table = table_of(walk, unit);
    if (!table || table->done)
        return;
    table->done = true;
    struct machine m;
    machine_reset(walk, &m);
    for (struct cursor c = table->program; c.at < c.end;) {
        uint8_t opcode = *c.at++;
        if (opcode >= table->opcode_base) {
            run_special(table, &m, opcode);
            emit_row(walk, unit, &m);
        } else if (opcode == DW_LNS_copy) {
            emit_row(walk, unit, &m);
        } else if (!opcode) {
            run_extended(walk, &c, &m);
        } else {
            run_standard(table, &c, &m, opcode);
        }
    }
    walk->raw_lines.count = m.first; /* a run without an end */
}

static int compare_sequences(const void *left, const void *right)
{
    const struct line_sequence *a = left, *b = right;
    return (a->low > b->low) - (a->low < b->low);
}

void lines_finish(struct walk *walk)
{
    struct line_sequence *sequences = (struct line_sequence *)walk->sequences.data;
    const struct line_row *raw = (const struct line_row *)walk->raw_lines.data;
    uint64_t reached = 0;
    if (walk->sequences.count)
        qsort(sequences, walk->sequences.count, sizeof *sequences, compare_sequences);
    for (size_t i = 0; i < walk->sequences.count; i++) {
        const struct line_sequence *one = &sequences[i];
        if (one->low < reached)
            continue; /* a second table for the same code */
        if (one->low > reached && walk->lines.count)
            ((struct line_row *)vector_push(walk, &walk->lines, 1))->address = reached;
        vector_append(walk, &walk->lines, raw + one->first, one->count);
        reached = one->high;
    }
    if (walk->lines.count)
        ((struct line_row *)vector_push(walk, &walk->lines, 1))->address = reached;
}
