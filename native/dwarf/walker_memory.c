/* Vectors, hash maps and the pools of strings and expressions. */
#include "walker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void walk_fail(struct walk *walk, enum walk_error error, const char *format, ...)
{
    va_list arguments;
    walk->error = error;
    va_start(arguments, format);
    vsnprintf(walk->detail, sizeof walk->detail, format, arguments);
    va_end(arguments);
    longjmp(walk->failed, 1);
}

void *vector_push(struct walk *walk, struct vector *vector, size_t rows)
{
    if (rows > vector->capacity - vector->count) {
        size_t capacity = vector->capacity ? vector->capacity * 2 : 64;
        while (capacity < vector->count + rows)
            capacity *= 2;
        char *data =
            capacity > SIZE_MAX / vector->width ? NULL : realloc(vector->data, capacity * vector->width);
        if (!data)
            walk_fail(walk, WALK_NO_MEMORY, "%zu rows", capacity);
        vector->data = data;
        vector->capacity = capacity;
    }
    char *start = vector->data + vector->count * vector->width;
    if (rows)
        memset(start, 0, rows * vector->width);
    vector->count += rows;
    return start;
}

void vector_append(struct walk *walk, struct vector *vector, const void *data, size_t rows)
{
    void *place = vector_push(walk, vector, rows);
    if (rows)
        memcpy(place, data, rows * vector->width);
}

void vector_free(struct vector *vector)
{
    free(vector->data);
    *vector = (struct vector){.width = vector->width};
}

void vector_own(struct walk *walk, struct vector *vector, size_t width)
{
    *vector = (struct vector){.width = width};
    *(struct vector **)vector_push(walk, &walk->owned_vectors, 1) = vector;
}

void map_own(struct walk *walk, struct map *map)
{
    *(struct map **)vector_push(walk, &walk->owned_maps, 1) = map;
}

void *walk_allocate(struct walk *walk, size_t size)
{
    void **slot = vector_push(walk, &walk->allocations, 1);
    void *block = calloc(1, size ? size : 1);
    if (!block)
        walk_fail(walk, WALK_NO_MEMORY, "%zu bytes", size);
    *slot = block;
    return block;
}

/* The entry of a key, or the empty one where it belongs. */
static struct map_entry *map_place(const struct map *map, uint64_t key)
{
    size_t place = hash_mix(key, 1) & (map->capacity - 1);
    while (map->entries[place].key && map->entries[place].key != key)
        place = (place + 1) & (map->capacity - 1);
    return &map->entries[place];
}

static void map_grow(struct walk *walk, struct map *map)
{
    struct map bigger = {.capacity = map->capacity ? map->capacity * 2 : 256, .count = map->count};
    bigger.entries = calloc(bigger.capacity, sizeof *bigger.entries);
    if (!bigger.entries)
        walk_fail(walk, WALK_NO_MEMORY, "a table of %zu", bigger.capacity);
    for (size_t i = 0; i < map->capacity; i++)
        if (map->entries[i].key)
            *map_place(&bigger, map->entries[i].key) = map->entries[i];
    map_clear(map);
    *map = bigger;
}

uint32_t *map_slot(struct walk *walk, struct map *map, uint64_t key, bool *is_new)
{
    if (map->count * 2 >= map->capacity)
        map_grow(walk, map);
    struct map_entry *entry = map_place(map, key);
    *is_new = !entry->key;
    entry->key = key;
    map->count += *is_new;
    return &entry->value;
}

const uint32_t *map_find(const struct map *map, uint64_t key)
{
    if (!map->count || !key)
        return NULL;
    const struct map_entry *entry = map_place(map, key);
    return entry->key ? &entry->value : NULL;
}

void map_clear(struct map *map)
{
    free(map->entries);
    *map = (struct map){0};
}

uint64_t hash_bytes(const void *data, size_t size)
{
    const char *at = data;
    uint64_t hash = size * 0x9e3779b97f4a7c15u + 1, word;
    for (; size >= 8; size -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = hash_mix(hash, word);
    }
    word = 0;
    memcpy(&word, at, size);
    return hash_mix(hash, word);
}

/* Offset in `pool` of `size` bytes (for strings the NUL too); equal contents have one offset. */
static uint32_t pool_bytes(struct walk *walk, struct vector *pool, struct map *known, const void *data,
                           size_t size)
{
    for (uint64_t hash = hash_bytes(data, size);; hash++) {
        bool is_new;
        uint32_t *slot = map_slot(walk, known, hash ? hash : 1, &is_new);
        if (is_new) {
            if (pool->count + size > UINT32_MAX)
                walk_fail(walk, WALK_NO_MEMORY, "more than 4 GiB of names");
            *slot = (uint32_t)pool->count;
            vector_append(walk, pool, data, size);
            return *slot;
        }
        if (pool->count - *slot >= size && !memcmp(pool->data + *slot, data, size))
            return *slot;
    }
}

uint32_t pool_text(struct walk *walk, const char *text, size_t size)
{
    return size ? pool_bytes(walk, &walk->strings, &walk->string_by_hash, text, size + 1) : 0;
}

/* Strings of the debug sections are found by their address first: linkers have merged most of them. */
uint32_t pool_string(struct walk *walk, const char *text)
{
    bool is_new;
    if (!text || !*text)
        return 0;
    uint32_t *slot = map_slot(walk, &walk->string_by_pointer, (uintptr_t)text, &is_new);
    if (is_new)
        *slot = pool_text(walk, text, strlen(text));
    return *slot;
}

uint32_t pool_expression(struct walk *walk, const uint8_t *data, size_t size)
{
    return size ? pool_bytes(walk, &walk->expressions, &walk->expression_by_hash, data, size) : 0;
}
