/* MEGABYTES in blocks of 4 KB of a type that does not change between the versions, and one small type that does.
 * Commands as in blocks.c: fill MEGABYTES 0, sum, ping. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct page {
    struct page *next;
    uint64_t number;
    char bytes[4072];
};

struct totals {
#if VERSION >= 2
    uint64_t pages, added;
#else
    uint32_t pages;
#endif
    struct page *first;
};

static struct totals *totals;

static void fill(long megabytes) {
    if (!totals)
        totals = calloc(1, sizeof *totals);
    for (long i = 0; i < megabytes * 256; i++) {
        struct page *one = malloc(sizeof *one);
        memset(one->bytes, (int)i, sizeof one->bytes);
        one->number = (uint64_t)i;
        one->next = totals->first;
        totals->first = one;
        totals->pages++;
    }
}

static uint64_t sum(void) {
    uint64_t total = totals ? totals->pages : 0;
    for (struct page *one = totals ? totals->first : NULL; one; one = one->next)
        total = total * 31 + one->number + (unsigned char)one->bytes[one->number % sizeof one->bytes];
    return total;
}

static void obey(const char *line) {
    char answer[64];
    long a;
    int size;
    if (sscanf(line, "fill %ld", &a) == 1) {
        fill(a);
        size = snprintf(answer, sizeof answer, "filled\n");
    } else if (!strncmp(line, "sum", 3)) {
        size = snprintf(answer, sizeof answer, "%016llx\n", (unsigned long long)sum());
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
