/* What the walker keeps: vectors and maps, all of which are freed with the walk (walker_memory.c). */
#ifndef INSTAR_WALKER_MEMORY_H
#define INSTAR_WALKER_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct walk;

struct vector {
    char *data;
    size_t count, capacity, width;
};
/* Open addressing; key 0 is reserved. */
struct map_entry {
    uint64_t key;
    uint32_t value;
};
struct map {
    struct map_entry *entries;
    size_t count, capacity;
};

void *vector_push(struct walk *walk, struct vector *vector, size_t rows); /* zeroed */
void vector_append(struct walk *walk, struct vector *vector, const void *data, size_t rows);
uint32_t *map_slot(struct walk *walk, struct map *map, uint64_t key, bool *is_new);
const uint32_t *map_find(const struct map *map, uint64_t key);
void map_clear(struct map *map);
void vector_free(struct vector *vector);
void vector_own(struct walk *walk, struct vector *vector, size_t width);
void map_own(struct walk *walk, struct map *map);
void *walk_allocate(struct walk *walk, size_t size); /* zeroed, freed with the walk */
uint64_t hash_bytes(const void *data, size_t size);

static inline uint64_t hash_mix(uint64_t left, uint64_t right)
{
    unsigned __int128 product =
        (unsigned __int128)(left ^ 0x9e3779b97f4a7c15u) * (right ^ 0xe7037ed1a0b428dbu);
    return (uint64_t)product ^ (uint64_t)(product >> 64) ^ (left << 1);
}

#endif
