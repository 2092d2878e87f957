/* The block table against a plain model, without interposition, so that it runs under the sanitizers. Built and run by
 * tests/binary/test_runtime_blocks.py. argv: seed, threads. */
#include "../../native/runtime/runtime.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);          \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

enum { RANGES = 5, PAGES = 40, MAX = 20000 };

struct model {
    uint64_t address, size;
    unsigned range, live, taken;
};

static struct model model[MAX];
static uint32_t model_count;
static uint64_t starts[RANGES];
static const uint64_t page = 4096;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t some_size(uint64_t *state)
{
    uint64_t kind = next_random(state) % 64;
    return kind < 48 ? 8 + next_random(state) % 100 : kind < 62 ? 1 + next_random(state) % 5000 : page * 3;
}

static void fill(const struct model *block, uint64_t size)
{
    memset((void *)block->address, (int)(block->address >> 4) & 0xff, size);
}

static int is_whole(const struct model *block)
{
    const unsigned char *bytes = (const unsigned char *)block->address;
    for (uint64_t i = 0; i < block->size; i++)
        if (bytes[i] != (unsigned char)(block->address >> 4))
            return 0;
    return 1;
}

/* Ranges somewhere in free space, each followed by a hole. */
static void choose_ranges(struct instar_range_request *requests)
{
    uint64_t room = RANGES * 2 * PAGES * page;
    char *base = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(base != MAP_FAILED);
    munmap(base, room);
    for (unsigned i = 0; i < RANGES; i++) { /* not in the order of addresses */
        uint64_t at = (i * 3) % RANGES;
        starts[i] = (uint64_t)base + at * 2 * PAGES * page;
        requests[i] = (struct instar_range_request){.start = starts[i], .size = PAGES * page, .protection = 3};
    }
}

static void choose_blocks(struct instar_range_request *requests, uint64_t *state)
{
    for (unsigned range = 0; range < RANGES; range++) {
        uint64_t at = starts[range] + 16;
        for (;;) {
            uint64_t size = some_size(state);
            if (at + size > starts[range] + PAGES * page)
                break;
            if (next_random(state) % 8)
                model[model_count++] = (struct model){at, size, range, 1, 0};
            at += (size + 8 + 15) & ~UINT64_C(15);
        }
        requests[range].granule_shift = 4;
        requests[range].flags = range == 2 ? INSTAR_RANGE_WIDE : 0;
    }
}

static void write_tables(struct instar_range_request *requests)
{
    for (unsigned range = 0; range < RANGES; range++)
        for (uint32_t i = 0; i < model_count; i++)
            requests[range].block_count += model[i].range == range;
    CHECK(instar_runtime_reserve_blocks(requests, RANGES) == 0);
    for (unsigned range = 0; range < RANGES; range++) {
        struct instar_block *narrow = (struct instar_block *)requests[range].blocks;
        struct instar_wide_block *wide = (struct instar_wide_block *)requests[range].blocks;
        uint64_t at = 0;
        for (uint32_t i = 0; i < model_count; i++) {
            uint64_t offset = model[i].address - starts[range];
            if (model[i].range != range)
                continue;
            if (requests[range].flags & INSTAR_RANGE_WIDE)
                wide[at++] = (struct instar_wide_block){offset, model[i].size};
            else
                narrow[at++] = (struct instar_block){(uint32_t)(offset >> 4), (uint32_t)model[i].size};
        }
    }
    CHECK(instar_runtime_set_blocks(requests, RANGES) == 0);
}

/* Every live block is found, whole; every other address in between is not a block. */
static void compare(uint64_t *state)
{
    struct runtime_found found;
    for (uint32_t i = 0; i < model_count; i++) {
        struct model *block = &model[i];
        CHECK(runtime_blocks_find((void *)block->address, &found) == (block->live != 0));
        if (!block->live)
            continue;
        CHECK(found.size == block->size && found.offset == block->address - starts[block->range]);
        CHECK(is_whole(block));
        uint64_t inside = block->address + 1 + next_random(state) % (block->size + 7);
        CHECK(!runtime_blocks_find((void *)inside, &found));
    }
}

/* Pages on which no block lives read as zero (they went back), unless the whole range went. */
static void check_pages(void)
{
    for (unsigned range = 0; range < RANGES; range++) {
        unsigned char used[PAGES] = {0};
        uint64_t live = 0;
        for (uint32_t i = 0; i < model_count; i++) {
            if (model[i].range != range || !model[i].live)
                continue;
            live++;
            for (uint64_t at = model[i].address; at < model[i].address + model[i].size; at++)
                used[(at - starts[range]) / page] = 1;
        }
        unsigned char resident[PAGES];
        int gone = mincore((void *)starts[range], PAGES * page, resident) != 0;
        CHECK(gone == (live == 0));
        for (unsigned i = 0; !gone && i < PAGES; i++)
            CHECK((resident[i] & 1) == used[i]);
    }
}

static void step(struct model *block, uint64_t *state)
{
    struct runtime_found found;
    CHECK(runtime_blocks_contains((void *)block->address));
    CHECK(runtime_blocks_find((void *)block->address, &found));
    if (next_random(state) % 4 == 0) {
        uint64_t size = 1 + next_random(state) % block->size;
        runtime_blocks_shrink(&found, size);
        CHECK(runtime_blocks_find((void *)block->address, &found));
        CHECK(found.size >= size && found.size <= block->size);
        block->size = found.size;
        CHECK(is_whole(block));
        return;
    }
    CHECK(is_whole(block));
    CHECK(runtime_blocks_release(&found));
    block->live = 0;
}

/* Threads free what they come by first. */
static void *work(void *argument)
{
    uint64_t state = (uint64_t)argument * 7919 + 1;
    for (uint32_t i = 0; i < model_count * 2; i++) {
        struct model *block = &model[next_random(&state) % model_count];
        if (__atomic_exchange_n(&block->taken, 1, __ATOMIC_ACQUIRE))
            continue;
        if (block->live && !(block->range == 1 && block->size < 32)) /* some stay until the end */
            step(block, &state);
        __atomic_store_n(&block->taken, 0, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* Two threads free the same block: exactly one of them wins. */
struct race {
    struct runtime_found found;
    uint32_t wins;
};

static void *race_release(void *argument)
{
    struct race *race = argument;
    if (runtime_blocks_release(&race->found))
        __atomic_add_fetch(&race->wins, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void check_double_release(void)
{
    for (uint32_t i = 0, races = 0; i < model_count && races < 20; i++) {
        struct race race = {.wins = 0};
        if (!model[i].live || model[i].range != 1)
            continue;
        struct instar_range *range = runtime_range_at_start(starts[1]);
        if (range->live_count < 2)
            break;
        CHECK(runtime_blocks_find((void *)model[i].address, &race.found));
        pthread_t threads[2];
        for (int t = 0; t < 2; t++)
            CHECK(pthread_create(&threads[t], NULL, race_release, &race) == 0);
        for (int t = 0; t < 2; t++)
            pthread_join(threads[t], NULL);
        CHECK(race.wins == 1);
        model[i].live = 0;
        races++;
    }
}

int main(int argc, char **argv)
{
    uint64_t state = strtoull(argv[1], NULL, 10) * 2654435761u + 88172645463325252u;
    unsigned threads = (unsigned)atoi(argv[2]);
    struct instar_range_request requests[RANGES];
    choose_ranges(requests);
    CHECK(instar_runtime_map_ranges(requests, RANGES) == 0);
    choose_blocks(requests, &state);
    write_tables(requests);
    for (uint32_t i = 0; i < model_count; i++)
        fill(&model[i], model[i].size);
    compare(&state);
    pthread_t ids[16];
    for (unsigned i = 0; i < threads; i++)
        CHECK(pthread_create(&ids[i], NULL, work, (void *)(uint64_t)(i + 1)) == 0);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    compare(&state);
    check_pages();
    check_double_release();
    compare(&state);
    for (uint32_t i = 0; i < model_count; i++) {
        struct runtime_found found;
        if (model[i].live && runtime_blocks_find((void *)model[i].address, &found))
            model[i].live = !runtime_blocks_release(&found);
    }
    check_pages();
    CHECK(instar_runtime_state.live_ranges == 0 && instar_runtime_state.extent == 0);
    for (uint32_t i = 0; i < model_count; i++)
        CHECK(!model[i].live && !runtime_blocks_contains((void *)model[i].address));
    return 0;
}
