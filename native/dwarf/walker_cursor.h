/* Bounded reading of a file that is not trusted: a cursor never leaves its section. */
#ifndef INSTAR_WALKER_CURSOR_H
#define INSTAR_WALKER_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
    const uint8_t *at, *end;
    bool bad; /* something lay outside; stays set, reads give 0 */
};

static inline bool cursor_take(struct cursor *c, uint64_t size)
{
    if (size <= (uint64_t)(c->end - c->at))
        return true;
    c->bad = true;
    c->at = c->end;
    return false;
}

static inline uint64_t cursor_fixed(struct cursor *c, unsigned size)
{
    uint64_t value = 0;
    if (!cursor_take(c, size))
        return 0;
    __builtin_memcpy(&value, c->at, size); /* little endian, as x86-64 */
    c->at += size;
    return value;
}

static inline uint64_t cursor_uleb(struct cursor *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0; c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    c->bad = true;
    return 0;
}

static inline int64_t cursor_sleb(struct cursor *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0; c->at < c->end;) {
        uint8_t byte = *c->at++;
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
        if (byte & 0x80)
            continue;
        if (shift < 64 && (byte & 0x40))
            value |= ~(uint64_t)0 << shift;
        return (int64_t)value;
    }
    c->bad = true;
    return 0;
}

static inline const uint8_t *cursor_skip(struct cursor *c, uint64_t size)
{
    const uint8_t *start = c->at;
    if (!cursor_take(c, size))
        return NULL;
    c->at += size;
    return start;
}

static inline const char *cursor_string(struct cursor *c)
{
    const uint8_t *start = c->at;
    const uint8_t *nul = __builtin_memchr(start, 0, (size_t)(c->end - start));
    if (!nul) {
        c->bad = true;
        c->at = c->end;
        return "";
    }
    c->at = nul + 1;
    return (const char *)start;
}

#endif
