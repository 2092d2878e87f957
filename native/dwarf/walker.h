/* The metadata walker: DWARF 2-5 of one program -> the columns of src/instar/metadata/model.py.
 *
 * Files are opened and zlib sections expanded by elfutils (libelf, libdw); the DIE stream, the lists and the
 * line programs are decoded here in one pass, because libdw 0.188 looks every attribute up by a walk of its own,
 * reads no .dwp packages and gives zero DIEs for zstd sections without an error.
 *
 * The file is not trusted: every read is bounded (struct cursor), every depth limited. An error longjmps to
 * instar_walk_program; all memory hangs on struct walk, so nothing leaks on the way.
 */
#ifndef INSTAR_WALKER_H
#define INSTAR_WALKER_H

#include "walker_cursor.h"
#include "walker_memory.h"
#include "walker_rows.h"

#include <libelf.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- files and units ---- */

enum section_id {
    SECTION_INFO,
    SECTION_TYPES,
    SECTION_ABBREV,
    SECTION_STR,
    SECTION_LINE_STR,
    SECTION_STR_OFFSETS,
    SECTION_ADDR,
    SECTION_RANGES,
    SECTION_RNGLISTS,
    SECTION_LOC,
    SECTION_LOCLISTS,
    SECTION_LINE,
    SECTION_CU_INDEX,
    SECTION_TU_INDEX,
    SECTION_COUNT
};

struct slice {
    const uint8_t *data;
    size_t size;
};

/* The debug sections of one file, or of one unit of a .dwp package. DIEs are named by key = key_base + offset,
 * which is unique over all files of the program. */
struct sections {
    struct slice at[SECTION_COUNT];
    uint64_t key_base;
    bool is_alt;
    struct sections *alt;
};

struct attribute {
    uint16_t name, form;
    int64_t constant; /* DW_FORM_implicit_const */
};
struct abbrev {
    uint16_t tag;
    bool has_children;
    uint32_t first, count;
};
struct abbrevs {
    struct vector abbrevs, attributes; /* abbrev at index code - 1 if dense */
    struct map by_code;                /* else */
    bool is_dense;
};

struct file_entry {
    const char *name;
    uint64_t directory;
    uint32_t path; /* pool offset, UINT32_MAX: not made yet */
};
struct line_table {
    uint16_t version;
    uint8_t address_size, minimum_length, opcode_base;
    int8_t line_base;
    uint8_t line_range;
    bool done; /* its rows were collected */
    const uint8_t *opcode_lengths;
    struct cursor program;
    struct vector directories; /* const char * */
    struct vector files;       /* struct file_entry */
};

struct unit {
    const struct sections *sections;
    struct unit *skeleton; /* of a split unit */
    struct unit *split;    /* of a skeleton */
    struct unit *importer; /* of a partial unit: the first that takes it */
    uint64_t key;          /* of the unit's header */
    struct cursor dies;    /* from the first DIE to the end of the unit */
    const uint8_t *header;
    uint16_t version;
    uint8_t type, offset_size, address_size;
    bool is_split;
    bool is_program; /* of this program: not in dwz's common file, or imported from it */
    const struct abbrevs *abbrevs;
    uint64_t signature, type_offset, dwo_id;
    uint64_t str_offsets_base, addr_base, rnglists_base, loclists_base, ranges_base, low;
    const char *name, *directory, *producer, *dwo_name;
    uint32_t language;
    uint16_t tag;
    int32_t row;
    bool has_lines;
    uint64_t line_offset;
    struct line_table *lines;
};

enum value_class {
    VALUE_NONE,
    VALUE_CONSTANT,
    VALUE_SIGNED,
    VALUE_ADDRESS,
    VALUE_STRING,
    VALUE_REFERENCE,
    VALUE_BLOCK,
    VALUE_OFFSET,
    VALUE_INDEX /* loclistx, rnglistx */
};
struct value {
    enum value_class class;
    uint64_t number;
    const uint8_t *data; /* BLOCK: number bytes; STRING */
};

struct die {
    uint64_t key;
    struct cursor after; /* the DIE that follows, children included */
    uint16_t tag;
    bool has_children, declaration, external, has_bit_offset, has_size, has_data_bit_offset, high_is_offset;
    bool has_low, has_entry, has_file;
    uint8_t encoding, inline_kind;
    const char *name;
    uint64_t type, origin, specification, signature, import; /* keys, 0: none */
    uint64_t size, bit_size, bit_offset, data_bit_offset;
    uint64_t low, high, entry, file, line;
    uint64_t sibling;
    struct value location, ranges, frame_base, constant, member_location, upper_bound, count;
};

/* ---- the walk ---- */

enum walk_error {
    WALK_OK,
    WALK_NO_MEMORY,
    WALK_UNREADABLE,
    WALK_NO_INFO,
    WALK_NO_DIES,
    WALK_DAMAGED,
    WALK_VERSION,
    WALK_NO_ZSTD,
    WALK_SPLIT_MISSING,
    WALK_SPLIT_MISMATCH,
    WALK_ALT_MISSING,
    WALK_BUG
};

#define DEPTH_LIMIT 200

#define RAW_REFERENCE                                                                                        \
    (UINT64_C(1) << 63) /* a type reference that is the index of a raw type, not a DIE key */

/* A type as one unit has it, before types of all units are made one. */
struct raw_type {
    struct type_row row; /* first, count: in raw_members or raw_enumerators */
    uint64_t target;     /* key or RAW_REFERENCE, 0: void */
    const struct unit *owner;
};
/* Which DIE a raw type is from. */
struct raw_key {
    uint64_t key;
    uint32_t raw;
};
struct raw_member {
    struct member_row row;
    uint64_t type;
    uint32_t storage; /* bytes of the unit of a DWARF 2 bit-field; 0: the type's size */
    bool is_legacy;   /* bit_offset counts from the most significant bit of the storage unit */
};
/* Where a static variable, or a piece of one, is. */
struct static_part {
    uint64_t address;
    uint64_t offset, size; /* within the variable; size 0: all of it */
    uint64_t low, step;    /* a choice: the byte there is b, the value low + b * step */
    bool is_tls, is_choice;
};
struct raw_variable {
    struct variable_row row;
    uint64_t type, function; /* function: root key */
    struct static_part part;
};
struct raw_function {
    struct function_row row;
    uint64_t type, root;
};
struct raw_local {
    struct local_row row;
    uint64_t type;
    uint32_t function;
};

/* A function of the source, whether it has code of its own or not. */
struct source {
    uint64_t root;
    uint32_t unit, file, line, name;
};

/* A unit takes what a partial unit has (dwz). */
struct import {
    struct unit *by, *of;
};

/* A run of line rows without holes; its rows are in raw_lines. */
struct line_sequence {
    uint64_t low, high;
    size_t first, count;
};

/* A file that the caller has opened: whoever walks may not have the right to. */
struct given_file {
    const char *path; /* as it is asked for; the caller's */
    int file;
};
enum { GIVEN_FILES = 4 };

struct walk {
    jmp_buf failed;
    struct given_file given[GIVEN_FILES];
    unsigned given_count;
    enum walk_error error;
    char detail[512];
    struct vector allocations;               /* void * */
    struct vector owned_vectors, owned_maps; /* struct vector *, struct map *: freed with the walk */
    struct vector images;                    /* struct elf_image, see sections.c */
    struct vector units;                     /* struct unit *, by growing key */
    struct map abbrev_tables, line_tables, signatures;
    struct vector tables; /* what abbrev_tables and line_tables index: void * */
    uint64_t next_key;
    struct vector loads;  /* struct range_row: PT_LOAD of the program */
    struct range_row tls; /* PT_TLS */
    uint64_t die_count;

    struct vector raw_types, raw_members, raw_enumerators;
    struct vector raw_keys; /* struct raw_key, by growing key */
    struct vector raw_variables, raw_functions, raw_locals;
    struct vector scratch; /* bytes */
    struct vector parts;   /* struct static_part, of the variable at hand */
    struct vector sources; /* struct source */
    struct vector imports; /* struct import */
    struct map variable_by_root, function_by_root, frame_bases;
    int32_t *row_of_raw;
    struct canon *canon;
    struct vector sequences, raw_lines;

    struct map string_by_pointer, string_by_hash, expression_by_hash;
    struct vector types, members, enumerators, variables, functions, ranges, locals, locations, units_column,
        lines, strings, expressions;
};

/* Whether the program has something at a link-time address: what the linker dropped is at 0 or nowhere. */
static inline bool walk_is_loaded(const struct walk *walk, uint64_t address)
{
    const struct range_row *loads = (const struct range_row *)(const void *)walk->loads.data;
    for (size_t i = 0; address && i < walk->loads.count; i++)
        if (loads[i].low <= address && address < loads[i].high)
            return true;
    return false;
}

_Noreturn void walk_fail(struct walk *walk, enum walk_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* walker_memory.c */
uint32_t pool_string(struct walk *walk, const char *text);
uint32_t pool_text(struct walk *walk, const char *text, size_t size);
uint32_t pool_expression(struct walk *walk, const uint8_t *data, size_t size);

/* walker_sections.c */
struct sections *sections_open(struct walk *walk, const char *path, bool is_program);
bool sections_try_open(struct walk *walk, const char *path, struct sections **out);
void sections_close(struct walk *walk);
struct slice slice_part(struct slice whole, uint64_t offset, uint64_t size);

/* walker_units.c */
void units_add(struct walk *walk, const struct sections *sections, bool is_split);
void unit_set_skeleton(struct walk *walk, struct unit *split, struct unit *skeleton);
struct unit *unit_of_key(struct walk *walk, uint64_t key);
uint32_t unit_row_index(struct walk *walk, struct unit *unit);

/* walker_split.c */
void split_link(struct walk *walk, const char *beside, const char *package);

/* walker_forms.c */
struct value form_read(struct walk *walk, const struct unit *unit, struct cursor *c, uint16_t form,
                       int64_t constant);
bool unit_address(const struct unit *unit, uint64_t index, uint64_t *out);
uint64_t read_offset(struct slice slice, uint64_t offset, unsigned size, bool *ok);

/* walker_dies.c */
bool die_read(struct walk *walk, const struct unit *unit, struct cursor at,
              struct die *die); /* false: null entry */
struct cursor die_end(struct walk *walk, const struct unit *unit, const struct die *die);
struct unit *die_at(struct walk *walk, struct unit *near, uint64_t key, struct die *die);

/* walker_lists.c */
uint32_t ranges_read(struct walk *walk, const struct unit *unit, struct value list, uint32_t *first);
uint32_t locations_read(struct walk *walk, const struct unit *unit, struct value location, uint32_t *first);
uint32_t location_push(struct walk *walk, const struct unit *unit, uint64_t low, uint64_t high,
                       const uint8_t *expression, size_t size);

/* walker_lines.c */
uint32_t die_file(struct walk *walk, struct unit *unit,
                  const struct die *die); /* pool offset of DW_AT_decl_file */
void lines_collect(struct walk *walk, struct unit *unit);
void lines_finish(struct walk *walk);

/* walker_expressions.c */
size_t expression_statics(struct walk *walk, const struct unit *unit, struct value location);
uint32_t expression_pool(struct walk *walk, const struct unit *unit, const uint8_t *data, size_t size,
                         uint32_t *length);

/* walker_types.c */
bool is_type_tag(uint16_t tag);
struct cursor type_collect(struct walk *walk, struct unit *unit, const struct die *die,
                           unsigned depth); /* its end */
struct cursor types_below(struct walk *walk, struct unit *unit, struct cursor at,
                          unsigned depth); /* its end */
void function_type_collect(struct walk *walk, struct unit *unit, const struct die *die, uint64_t result);

/* walker_canonical.c */
void types_finish(struct walk *walk);
int32_t type_row_of(struct walk *walk, uint64_t reference);

/* walker_variables.c */
void variables_emit(struct walk *walk);

/* walker_scopes.c */
struct cursor function_walk(struct walk *walk, struct unit *unit, const struct die *die,
                            unsigned depth); /* its end */
void unit_walk(struct walk *walk, struct unit *unit);
void scopes_finish(struct walk *walk);

#endif
