/* A store whose state changes on command, in ways that do and do not touch its structure; -DVERSION=2 changes
 * one of its types. Commands are lines: "fill", "tick N" numbers and text only, "grow N" blocks and pointers, "sum". */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef STORE_COUNT
#define STORE_COUNT 20000
#endif

enum { COUNT = STORE_COUNT, SLOTS = 512 };

struct stays {
    struct stays *next;
    struct moves *partner;
    uint64_t seen;
    double weight;
    char text[40];
};

struct moves {
    struct moves *next;
#if VERSION >= 2
    uint64_t added;
    uint64_t number;
#else
    uint32_t number;
#endif
    uint8_t level;
    struct stays *partner;
    char text[24];
};

static struct stays *stays[SLOTS];
static struct moves *moves[SLOTS];
static char *bytes;
static void *opaque;
static int small, ticks = 7;
static char flag;
static uint64_t total;
static double ratio = 0.5;
static struct stays *last;

static struct stays *add(unsigned number) {
    struct stays *one = calloc(1, sizeof *one);
    struct moves *two = calloc(1, sizeof *two);
    one->partner = two;
    two->partner = one;
    two->number = number;
    snprintf(one->text, sizeof one->text, "stays %u", number);
    snprintf(two->text, sizeof two->text, "moves %u", number);
    one->next = stays[number % SLOTS];
    two->next = moves[number % SLOTS];
    stays[number % SLOTS] = last = one;
    moves[number % SLOTS] = two;
    return one;
}

static void drop(unsigned slot) {
    struct stays *one = stays[slot];
    struct moves *two = moves[slot];
    if (!one)
        return;
    if (one == last)
        last = NULL;
    stays[slot] = one->next;
    moves[slot] = two->next;
    free(one);
    free(two);
}

static void tick(unsigned seed) {
    for (unsigned i = 0; i < 1 + seed % 40; i++) {
        unsigned slot = (seed * 2654435761u + i * 40503u) % SLOTS;
        stays[slot]->seen += seed;
        stays[slot]->weight *= 1.5;
        moves[slot]->number += 3;
        moves[slot]->level ^= (uint8_t)i;
        moves[slot]->text[0] = (char)('a' + i % 26);
        snprintf(stays[slot]->text, sizeof stays[slot]->text, "tick %u", i);
        bytes[(seed + i * 97) % 60000] = (char)i;
        ((int *)opaque)[i] = (int)seed;
    }
    small += 5;
    ticks++;
    flag = (char)seed;
    total += seed;
    ratio /= 3;
}

static void grow(unsigned seed) {
    for (unsigned i = 0; i < 1 + seed % 7; i++)
        add(seed + i);
    drop(seed % SLOTS);
}

static uint64_t sum(void) {
    uint64_t result = total + (uint64_t)small + (uint64_t)ticks + (uint64_t)flag + (uint64_t)(ratio * 1e6);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (struct stays *one = stays[slot]; one; one = one->next)
            result = result * 31 + one->seen + one->partner->number + (unsigned char)one->text[6];
        for (struct moves *two = moves[slot]; two; two = two->next)
            result = result * 31 + two->number + two->level + two->partner->seen + (unsigned char)two->text[0];
    }
    for (unsigned i = 0; i < 60000; i++)
        result = result * 31 + (unsigned char)bytes[i];
    for (unsigned i = 0; i < 40; i++)
        result = result * 31 + (uint64_t)((int *)opaque)[i];
    return result + (last ? last->partner->number : 0);
}

static void fill(void) {
    bytes = calloc(1, 60000);
    opaque = calloc(1, 256);
    for (unsigned i = 0; i < COUNT; i++)
        add(i);
}

static int obey(char *line) {
    char answer[64];
    unsigned seed = (unsigned)strtoul(line + 5, NULL, 10);
    if (!strncmp(line, "fill", 4))
        fill();
    else if (!strncmp(line, "tick", 4))
        tick(seed);
    else if (!strncmp(line, "grow", 4))
        grow(seed);
    int size = snprintf(answer, sizeof answer, "%016llx\n", (unsigned long long)sum());
    return write(1, answer, (size_t)size) == size;
}

static int serve(void) {
    static char line[64];
    ssize_t size;
    while ((size = read(0, line, sizeof line - 1)) > 0) {
        line[size] = 0;
        if (!obey(line))
            return 1;
    }
    return 0;
}

int main(void) { return serve(); }
