/* A store of COUNT blocks of 64 bytes, half in lists and half in a hash table with chains, a given share of them
 * of a type that the second version (-DVERSION=2) changes. Commands are lines on standard input:
 *   fill COUNT PERCENT   make them        sum   a figure over everything stored        ping   answers "pong"
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LISTS = 64, BUCKETS = 1 << 17 };

struct plain {
    struct plain *next;
    uint64_t key;
    uint32_t hits, flags;
    struct plain *peer;
    char text[32];
};

struct record {
    struct record *next;
#if VERSION >= 2
    uint32_t flags;
    uint64_t hits; /* wider and elsewhere */
    uint64_t key;
    uint32_t added;
#else
    uint64_t key;
    uint32_t hits, flags;
#endif
    struct record *peer;
    char text[32];
};

static struct plain *plain_lists[LISTS], *plain_table[BUCKETS];
static struct record *record_lists[LISTS], *record_table[BUCKETS];
static long count;

static uint64_t mix(uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdu;
    return value ^ value >> 29;
}

#define ADD(type, lists, table)                                                                                  \
    do {                                                                                                         \
        struct type *one = malloc(sizeof *one), **head;                                                          \
        memset(one, 0, sizeof *one);                                                                             \
        one->key = mix((uint64_t)i);                                                                             \
        one->hits = (uint32_t)i;                                                                                 \
        one->flags = (uint32_t)(i % 7);                                                                          \
        snprintf(one->text, sizeof one->text, "record %ld", i);                                                  \
        head = i % 2 ? &lists[i / 2 % LISTS] : &table[one->key % BUCKETS];                                       \
        one->peer = *head ? *head : one;                                                                         \
        one->next = *head;                                                                                       \
        *head = one;                                                                                             \
    } while (0)

#define SUM(type, heads, number)                                                                                 \
    for (int h = 0; h < (number); h++)                                                                           \
        for (struct type *one = heads[h]; one; one = one->next)                                                  \
    total = mix(total + one->key + one->hits + one->flags + one->peer->key + (unsigned char)one->text[8])

static void fill(long wanted, long percent) {
    for (long i = 0; i < wanted; i++)
        if (i / 2 % 100 < percent)
            ADD(record, record_lists, record_table);
        else
            ADD(plain, plain_lists, plain_table);
    count += wanted;
}

static uint64_t sum(void) {
    uint64_t total = (uint64_t)count;
    SUM(plain, plain_lists, LISTS);
    SUM(plain, plain_table, BUCKETS);
    SUM(record, record_lists, LISTS);
    SUM(record, record_table, BUCKETS);
    return total;
}

static void obey(const char *line) {
    char answer[64];
    long a, b;
    int size;
    if (sscanf(line, "fill %ld %ld", &a, &b) == 2) {
        fill(a, b);
        size = snprintf(answer, sizeof answer, "filled\n");
    } else if (!strncmp(line, "sum", 3)) {
        size = snprintf(answer, sizeof answer, "%016llx %ld\n", (unsigned long long)sum(), count);
    } else {
        size = snprintf(answer, sizeof answer, "pong %d\n", VERSION);
    }
    if (write(1, answer, (size_t)size) != size)
        _exit(1);
}

static int serve(void) {
    static char line[128];
    ssize_t size;
    while ((size = read(0, line, sizeof line - 1)) > 0) {
        line[size] = 0;
        obey(line);
    }
    return 0;
}

int main(void) { return serve(); }
