/* A program that does what lines on its standard input say and answers each on standard output. It stands for a past
 * and for a future; its quiescent point is the read of the next line.
 *
 *   own N         N binary records {address, size, seed} follow: live blocks that others made, filled by `fill`
 *   churn SEED N T  N random malloc, free, realloc on all blocks in T threads, contents checked all the time
 *   drop          frees all blocks
 *   fork SEED N   churns in a child process as well
 *   resident A S  how many pages of that memory are resident
 *   environment   prints LD_PRELOAD as the program sees it, and as a child sees it
 *   usable A      malloc_usable_size
 *   free A        frees; may abort
 *   echo WORD
 *   signals       how many of SIGUSR1 (interrupting) and SIGUSR2 (restarting) were handled
 *   sum           how many lines were obeyed
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef OWN_FREE /* a program that brings an allocator of its own */
void free(void *pointer)
{
}
#endif

struct block {
    unsigned char *address;
    uint64_t size;
    uint64_t seed;
};

static struct block *blocks;
static uint64_t block_count, block_room;
static volatile sig_atomic_t signals_seen;

static void fail(const char *what)
{
    fprintf(stderr, "obey: %s\n", what);
    abort();
}

static unsigned char pattern(uint64_t seed, uint64_t at)
{
    return (unsigned char)(seed * 131 + at * 7 + (at >> 8));
}

static void fill(struct block *block, uint64_t from)
{
    for (uint64_t i = from; i < block->size; i++)
        block->address[i] = pattern(block->seed, i);
}

static void verify(const struct block *block, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        if (block->address[i] != pattern(block->seed, i))
            fail("contents changed");
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t random_size(uint64_t *state)
{
    uint64_t kind = next_random(state) % 100;
    if (kind < 80)
        return 1 + next_random(state) % 300;
    if (kind < 97)
        return 1 + next_random(state) % 20000;
    return 1 + next_random(state) % 300000;
}

struct churn {
    uint64_t seed, steps, first, end;
};

static void churn_one(struct block *block, uint64_t *state)
{
    uint64_t what = next_random(state) % 4;
    if (!block->address || what == 0) {
        if (block->address) {
            verify(block, block->size);
            free(block->address);
        }
        *block = (struct block){NULL, random_size(state), next_random(state)};
        block->address = what & 1 ? calloc(1, block->size) : malloc(block->size);
        fill(block, 0);
    } else if (what == 1) {
        uint64_t size = random_size(state), kept = size < block->size ? size : block->size;
        block->address = realloc(block->address, size);
        if (malloc_usable_size(block->address) < size)
            fail("usable size too small");
        verify(block, kept);
        block->size = size;
        fill(block, kept);
    } else if (what == 2) {
        verify(block, block->size);
        free(block->address);
        block->address = NULL;
    } else {
        verify(block, block->size);
        if (malloc_usable_size(block->address) < block->size)
            fail("usable size");
    }
}

static void *churn_some(void *argument)
{
    struct churn *churn = argument;
    uint64_t state = churn->seed * 2654435761u + 88172645463325252u;
    for (uint64_t i = 0; i < churn->steps; i++)
        churn_one(&blocks[churn->first + next_random(&state) % (churn->end - churn->first)], &state);
    return NULL;
}

static void churn(uint64_t seed, uint64_t steps, uint64_t threads)
{
    pthread_t ids[64];
    struct churn parts[64];
    if (threads < 1 || threads > 64 || !block_count)
        fail("churn: bad arguments");
    for (uint64_t i = 0; i < threads; i++) {
        parts[i] = (struct churn){seed + i, steps / threads, block_count * i / threads, block_count * (i + 1) / threads};
        if (threads == 1)
            churn_some(&parts[i]);
        else if (pthread_create(&ids[i], NULL, churn_some, &parts[i]))
            fail("pthread_create");
    }
    for (uint64_t i = 0; threads > 1 && i < threads; i++)
        pthread_join(ids[i], NULL);
}

static void own(uint64_t count)
{
    if (block_count + count > block_room) {
        block_room = block_count + count;
        blocks = realloc(blocks, block_room * sizeof *blocks);
    }
    char *to = (char *)(blocks + block_count);
    size_t left = count * sizeof *blocks;
    while (left) {
        ssize_t got = read(0, to, left);
        if (got <= 0)
            fail("own: short");
        to += got;
        left -= (size_t)got;
    }
    block_count += count;
}

static void drop(void)
{
    for (uint64_t i = 0; i < block_count; i++) {
        if (blocks[i].address)
            verify(&blocks[i], blocks[i].size);
        free(blocks[i].address);
        blocks[i].address = NULL;
    }
}

static void fork_churn(uint64_t seed, uint64_t steps)
{
    pid_t child = fork();
    if (child == 0) {
        churn(seed, steps, 2);
        drop();
        _exit(0);
    }
    churn(seed + 1, steps, 2);
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("child failed");
}

static uint64_t count_resident(uint64_t address, uint64_t size)
{
    static unsigned char map[1 << 16];
    if (size >> 12 > sizeof map || mincore((void *)address, size, map) < 0)
        return ~UINT64_C(0);
    uint64_t count = 0;
    for (uint64_t i = 0; i < size >> 12; i++)
        count += map[i] & 1;
    return count;
}

static size_t read_line(char *line, size_t room)
{
    size_t length = 0;
    while (length + 1 < room) {
        ssize_t got = read(0, line + length, 1);
        if (got < 0 && errno == EINTR) {
            dprintf(1, "interrupted\n");
            continue;
        }
        if (got <= 0)
            exit(7);
        if (line[length] == '\n')
            break;
        length++;
    }
    line[length] = 0;
    return length;
}

static void note_signal(int number)
{
    signals_seen++;
}

static void show_environment(void)
{
    const char *value = getenv("LD_PRELOAD");
    fflush(stdout);
    dprintf(1, "%s/", value ? value : "none");
    if (system("printf '%s\\n' \"${LD_PRELOAD-none}\"") != 0)
        fail("system");
}

int main(int argc, char **argv)
{
    char line[256], word[128];
    uint64_t a, b, c, counter = 0;
    struct sigaction action = {.sa_handler = note_signal};
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, NULL);
    dprintf(1, "ready\n");
    for (;;) {
        read_line(line, sizeof line);
        counter++;
        a = b = c = 0;
        if (sscanf(line, "own %lu", &a) == 1)
            own(a);
        else if (sscanf(line, "churn %lu %lu %lu", &a, &b, &c) == 3)
            churn(a, b, c);
        else if (sscanf(line, "fork %lu %lu", &a, &b) == 2)
            fork_churn(a, b);
        else if (strcmp(line, "drop") == 0)
            drop();
        else if (sscanf(line, "resident %lx %lx", &a, &b) == 2) {
            dprintf(1, "%ld\n", (long)count_resident(a, b));
            continue;
        } else if (strcmp(line, "environment") == 0) {
            show_environment();
            continue;
        } else if (sscanf(line, "usable %lx", &a) == 1) {
            dprintf(1, "%zu\n", malloc_usable_size((void *)a));
            continue;
        } else if (sscanf(line, "free %lx", &a) == 1)
            free((void *)a);
        else if (sscanf(line, "echo %127s", word) == 1) {
            dprintf(1, "%s %d\n", word, (int)getpid());
            continue;
        } else if (strcmp(line, "signals") == 0) {
            dprintf(1, "%d\n", (int)signals_seen);
            continue;
        } else if (strcmp(line, "sum") == 0) {
            dprintf(1, "%lu\n", counter);
            continue;
        } else
            fail(line);
        dprintf(1, "done\n");
    }
}
