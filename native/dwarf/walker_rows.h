/* The walker's columns: the same layout as the dtypes of src/instar/metadata/model.py (tests/unit/metadata
 * compares them). */
#ifndef INSTAR_WALKER_ROWS_H
#define INSTAR_WALKER_ROWS_H

#include <stdint.h>

enum type_kind {
    KIND_VOID,
    KIND_INTEGER,
    KIND_FLOAT,
    KIND_POINTER,
    KIND_STRUCT,
    KIND_UNION,
    KIND_ENUM,
    KIND_TYPEDEF,
    KIND_ARRAY,
    KIND_FUNCTION,
    KIND_OPAQUE,
    KIND_ALIAS, /* internal: a qualifier, gone after resolution */
};
enum encoding {
    ENCODING_NONE,
    ENCODING_SIGNED,
    ENCODING_UNSIGNED,
    ENCODING_BOOLEAN,
    ENCODING_SIGNED_CHAR,
    ENCODING_UNSIGNED_CHAR,
};
enum { TYPE_INCOMPLETE = 1, TYPE_VARARGS = 2 };
enum { VARIABLE_GLOBAL, VARIABLE_FILE_STATIC, VARIABLE_FUNCTION_STATIC };
enum { VARIABLE_PIECE = 1, VARIABLE_CHOICE = 2 };
enum { LOCAL_PARAMETER = 1, LOCAL_INLINED = 2 };
#define NO_LOCATION UINT32_MAX

struct type_row {
    uint8_t kind, encoding;
    uint16_t flags;
    uint32_t name;
    uint64_t size;
    int32_t target;
    uint32_t first, count, unit, file, line;
    int64_t elements;
};
struct member_row {
    uint32_t name;
    int32_t type;
    uint64_t bit_offset;
    uint32_t bit_size, flags;
};
struct enumerator_row {
    uint32_t name, pad;
    int64_t value;
};
struct variable_row {
    uint64_t address;
    uint32_t name;
    int32_t type;
    uint8_t kind, tls;
    uint16_t flags;
    uint32_t unit;
    int32_t function;
    uint32_t scope, file, line;
};
struct function_row {
    uint64_t low, high;
    uint32_t name, unit;
    int32_t type;
    uint8_t external, pad;
    uint16_t flags;
    uint32_t first_range, range_count, first_local, local_count, frame_base, file, line, pad2;
};
struct range_row {
    uint64_t low, high;
};
struct local_row {
    uint32_t name;
    int32_t type;
    uint32_t flags, origin, first_scope, scope_count, first_location, location_count, line, pad;
};
struct location_row {
    uint64_t low, high;
    uint32_t expression, length;
};
struct unit_row {
    uint32_t name, directory, producer, language;
};
struct line_row {
    uint64_t address;
    uint32_t file, line;
};

#endif
