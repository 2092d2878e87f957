/* What every scenario program shares: the main loop and the conversation with the test.
 *
 * A program is compiled with -DVERSION="v1" or "v2" and defines
 *
 *     void fill(void);            makes the state that the scenario is about
 *     const char *check(void);    NULL when its own view of that state is right, else what is wrong
 *     const char *busy(void);     only with SCENARIO_BUSY: `churn` does this too
 *
 * and is told what to do by lines on its standard input; each is answered by one line, `ok VERSION` or
 * `bad VERSION COMPLAINT`. The quiescent point is main -> scenario_loop -> scenario_turn -> poll in every
 * version; a program with SCENARIO_OWN_MAIN may turn in a loop of its own. The end of standard input ends the
 * program, so that none outlives its test.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
/* A static variable that the optimiser leaves alone. Clang splits, shrinks or removes a static of which it sees
 * every use, as it does in programs as small as these: that is a scenario of its own (statics-*). */
#define STATE static __attribute__((used))
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return "line " TEXT(__LINE__) ": not true: " #condition;                                         \
    } while (0)

NOINLINE void fill(void);
NOINLINE const char *check(void);
#ifdef SCENARIO_BUSY
NOINLINE const char *busy(void);
#endif

static char scenario_input[256];
static size_t scenario_length;

static inline uint32_t scenario_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static inline size_t scenario_size(uint32_t *seed)
{
    uint32_t kind = scenario_random(seed) % 64;
    return 1 + scenario_random(seed) % (kind == 0 ? 300000 : kind < 8 ? 5000 : 200);
}

static inline bool scenario_holds(const unsigned char *block, size_t size, unsigned char mark)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != mark)
            return false;
    return true;
}

/* Thousands of allocations, reallocations and frees; every block must keep what was written to it. */
static NOINLINE const char *scenario_churn(void)
{
    enum { BLOCKS = 3000, STEPS = 12000 };
    struct {
        unsigned char *data;
        size_t size;
    } *blocks = calloc(BLOCKS, sizeof *blocks);
    const char *complaint = NULL;
    uint32_t seed = 7;

    for (int step = 0; step < STEPS && complaint == NULL; step++) {
        uint32_t i = scenario_random(&seed) % BLOCKS;
        unsigned char mark = (unsigned char)i;
        size_t size = scenario_size(&seed);
        if (blocks[i].data && !scenario_holds(blocks[i].data, blocks[i].size, mark))
            complaint = "a block lost its contents";
        if (blocks[i].data && scenario_random(&seed) % 2) {
            free(blocks[i].data);
            blocks[i].data = NULL;
            continue;
        }
        blocks[i].data = realloc(blocks[i].data, size);
        blocks[i].size = size;
        memset(blocks[i].data, mark, size);
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (blocks[i].data)
            memset(blocks[i].data, 0, blocks[i].size);
        free(blocks[i].data);
    }
    memset(blocks, 0, BLOCKS * sizeof *blocks);
    free(blocks);
    return complaint;
}

static const char *scenario_work(void)
{
    const char *complaint = scenario_churn();
#ifdef SCENARIO_BUSY
    if (complaint == NULL)
        complaint = busy();
#endif
    return complaint;
}

static void scenario_answer(const char *complaint)
{
    char line[512];
    int size = complaint ? snprintf(line, sizeof line, "bad %s %s\n", VERSION, complaint)
                         : snprintf(line, sizeof line, "ok %s\n", VERSION);
    if (write(STDOUT_FILENO, line, (size_t)size) != size)
        _exit(1);
    memset(line, 0, sizeof line);
}

static NOINLINE void scenario_obey(const char *line)
{
    const char *complaint = NULL;

    if (strcmp(line, "fill") == 0)
        fill();
    else if (strcmp(line, "check") == 0)
        complaint = check();
    else if (strcmp(line, "churn") == 0)
        complaint = scenario_work();
    else if (strcmp(line, "version") != 0)
        complaint = "what?";
    scenario_answer(complaint);
}

static NOINLINE bool scenario_read(void)
{
    char *end;
    ssize_t got =
        read(STDIN_FILENO, scenario_input + scenario_length, sizeof scenario_input - scenario_length);

    if (got <= 0)
        return false;
    scenario_length += (size_t)got;
    while ((end = memchr(scenario_input, '\n', scenario_length)) != NULL) {
        size_t used = (size_t)(end - scenario_input) + 1;
        *end = '\0';
        if (strcmp(scenario_input, "quit") == 0)
            return false;
        scenario_obey(scenario_input);
        memmove(scenario_input, scenario_input + used, scenario_length - used);
        scenario_length -= used;
        memset(scenario_input + scenario_length, 0, used);
    }
    return true;
}

/* Waits for input and obeys it; false at its end. */
static NOINLINE bool scenario_turn(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    while (poll(&input, 1, -1) <= 0)
        ;
    return scenario_read();
}

static inline void scenario_ready(void)
{
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        _exit(1);
}

static NOINLINE void scenario_loop(void)
{
    scenario_ready();
    while (scenario_turn())
        ;
}

#ifndef SCENARIO_OWN_MAIN
int main(void)
{
    scenario_loop();
    return 0;
}
#endif

#endif
