/* Allocates and frees at random through every entry of malloc, keeps its own record of what is live, writes that
 * record to its standard output as pairs of words (address, usable size), and waits for its input to end.
 *
 * usage: churn KEY=NUMBER...   seed ops threads finished mmap_threshold arena_max mxfast trim block_break
 *                              foreign imitate big_arena foreign_break corrupt twice drop
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 60000, MAX_THREADS = 16 };

typedef struct {
    void *slots[SLOTS];
    uint64_t random;
    long ops, count, big;
    int finishes;
} owner;

static owner *owners;
static pthread_barrier_t barrier;

static uint64_t draw(owner *o) {
    o->random ^= o->random << 13;
    o->random ^= o->random >> 7;
    o->random ^= o->random << 17;
    return o->random;
}

static size_t draw_size(owner *o) {
    switch (draw(o) % 40) {
    case 0: return draw(o) % 300000;
    case 1: case 2: case 3: return draw(o) % 20000;
    case 4: case 5: return 0;
    case 6: return 632; /* as large as a thread cache */
    default: return draw(o) % 400;
    }
}

static void *allocate(owner *o) {
    static const char text[] = "some text to duplicate, long enough to leave the smallest bin";
    size_t size = draw_size(o);
    void *block = NULL;
    switch (draw(o) % 8) {
    case 0: block = calloc(size % 4000 + 1, 1); break;
    case 1: block = strdup(text + draw(o) % (sizeof text - 1)); break;
    case 2:
        if (posix_memalign(&block, (size_t)16 << draw(o) % 10, size)) abort();
        break;
    case 3: block = aligned_alloc((size_t)16 << draw(o) % 14, size); break;
    default: block = malloc(size);
    }
    if (!block) abort();
    memset(block, (int)draw(o), malloc_usable_size(block));
    return block;
}

static void churn(owner *o) {
    for (long i = 0; i < o->ops; i++) {
        void **slot = &o->slots[draw(o) % SLOTS];
        if (!*slot)
            *slot = allocate(o);
        else if (draw(o) % 5 == 0) {
            *slot = realloc(*slot, draw_size(o) + 1);
        } else {
            free(*slot);
            *slot = NULL;
        }
    }
    for (long i = 0; i < o->big; i++)
        o->slots[i] = o->slots[i] ? o->slots[i] : malloc(100000);
    for (long i = 1; i < o->big; i += 3) {
        free(o->slots[i]);
        o->slots[i] = NULL;
    }
}

static void *thread(void *argument) {
    owner *o = argument;
    churn(o);
    /* Free some blocks of the neighbour, which another arena made. */
    pthread_barrier_wait(&barrier);
    owner *other = owners + (o - owners) / 2;
    if (other != o)
        for (int i = 0; i < 500; i++) {
            void **slot = &other->slots[(o - owners) * 600 + i];
            free(*slot);
            *slot = NULL;
        }
    pthread_barrier_wait(&barrier);
    if (!o->finishes)
        for (;;)
            pause();
    return NULL;
}

static long option(char **argv, const char *name, long otherwise) {
    size_t length = strlen(name);
    for (; *argv; argv++)
        if (!strncmp(*argv, name, length) && (*argv)[length] == '=')
            return atol(*argv + length + 1);
    return otherwise;
}

static long imitate;

static void *foreign_map(size_t size) {
    uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    for (size_t i = 0; i < size / 8; i++)
        p[i] = imitate ? i * 0x1001 : ~(uint64_t)i;
    return p;
}

/* Maps of our own between malloc's, so that they merge with each other. */
static void merge_foreign(owner *o, long count) {
    for (long i = 0; i < count; i++) {
        foreign_map((size_t)(i % 3 + 1) * 4096);
        void **slot = &o->slots[i];
        free(*slot);
        *slot = i % 4 == 1 ? aligned_alloc((size_t)32 << i % 12, 400000) : malloc(150000 + (size_t)i * 5000);
        memset(*slot, 0xff, malloc_usable_size(*slot));
    }
    for (long i = 0; i < count; i += 5) {
        free(o->slots[i]);
        o->slots[i] = NULL;
    }
    for (long i = 1; i < count; i += 5)
        o->slots[i] = realloc(o->slots[i], 900000);
}

/* Something in the way of the break: malloc goes on with mapped segments. */
static void block_break(void) {
    uintptr_t end = ((uintptr_t)sbrk(0) + 4095) & ~(uintptr_t)4095;
    void *p = mmap((void *)end, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != (void *)end) abort();
}

static void put(const void *data, size_t size) {
    const char *p = data;
    while (size) {
        ssize_t done = write(1, p, size);
        if (done <= 0) _exit(9);
        p += done;
        size -= (size_t)done;
    }
}

static void corrupt(void) {
    char *block = malloc(40);
    memset(block, 0x41, malloc_usable_size(block) + 8);
}

static void report(long threads, int damage) {
    static uint64_t rows[MAX_THREADS * SLOTS][2];
    uint64_t count = 0;
    for (long t = 0; t < threads; t++)
        for (long i = 0; i < SLOTS; i++)
            if (owners[t].slots[i]) {
                rows[count][0] = (uint64_t)owners[t].slots[i];
                rows[count++][1] = malloc_usable_size(owners[t].slots[i]);
            }
    if (damage) corrupt();
    put(&count, sizeof count);
    put(rows, count * sizeof *rows);
}

int main(int argc, char **argv) {
    long threads = option(argv, "threads", 0), seed = option(argv, "seed", 1);
    static owner storage[MAX_THREADS];
    owners = storage;
    imitate = option(argv, "imitate", 0);
    if (option(argv, "mmap_threshold", 0)) mallopt(M_MMAP_THRESHOLD, (int)option(argv, "mmap_threshold", 0));
    if (option(argv, "arena_max", 0)) mallopt(M_ARENA_MAX, (int)option(argv, "arena_max", 0));
    if (option(argv, "mxfast", -1) >= 0) mallopt(M_MXFAST, (int)option(argv, "mxfast", 0));
    for (long t = 0; t <= threads; t++) {
        owners[t].random = (uint64_t)(seed * 977 + t * 131 + 1) * 0x9e3779b97f4a7c15u;
        owners[t].ops = option(argv, "ops", 0);
        owners[t].finishes = t && t <= option(argv, "finished", 0);
        owners[t].big = t ? option(argv, "big_arena", 0) : 0;
    }
    churn(owners);
    if (option(argv, "block_break", 0)) block_break();
    if (option(argv, "foreign_break", 0)) sbrk(option(argv, "foreign_break", 0));
    if (option(argv, "twice", 0)) churn(owners);
    merge_foreign(owners, option(argv, "foreign", 0));
    pthread_t ids[MAX_THREADS];
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (long t = 1; t <= threads; t++)
        if (pthread_create(&ids[t], NULL, thread, &owners[t])) abort();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (long t = 1; t <= option(argv, "finished", 0); t++)
        pthread_join(ids[t], NULL);
    for (long i = 0; i < option(argv, "drop", 0); i++) {
        free(owners->slots[i]);
        owners->slots[i] = NULL;
    }
    if (option(argv, "trim", 0)) malloc_trim(0);
    report(threads + 1, option(argv, "corrupt", 0) != 0);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    _exit(0);
}
