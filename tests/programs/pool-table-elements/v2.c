/* The table lies elsewhere in the new version: there is more in front of it, or behind it. */
#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct header {
    const char *name;
    long offset;
    long flags;
};

long more_before[9] = {1};
STATE struct header headers[] = {
    {"accept", 1, 7},   {"age", 2, 7},     {"cookie", 3, 7},  {"date", 4, 7},
    {"etag", 5, 7},     {"expect", 6, 7},  {"from", 7, 7},    {"host", 8, 7},
    {"if", 9, 7},       {"link", 10, 7},   {"pragma", 11, 7}, {"range", 12, 7},
    {"referer", 13, 7}, {"server", 14, 7}, {"te", 15, 7},     {"vary", 16, 7},
};
long more_after[9] = {1};

struct entry {
    void *value;
    unsigned short length;
    char name[];
};

STATE void *pool; /* of 4 KB, in which nothing has a type */
STATE size_t used;

static NOINLINE void *take(size_t size)
{
    void *result = (char *)pool + used;
    used += (size + 7) / 8 * 8;
    return result;
}

static NOINLINE void build(void)
{
    pool = calloc(1, 4096);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct entry *entry = take(offsetof(struct entry, name) + 14);
        entry->value = &headers[i];
        entry->length = 14; /* the text ends right in front of the next pointer */
        memset(entry->name, 'a' + (int)i, 14);
    }
}

/* An old pointer into the table, under the end of a text. */
static NOINLINE void leave_text(uint64_t *words)
{
    for (uint64_t at = (uint64_t)headers + 16; at < (uint64_t)headers + sizeof headers; at++) {
        uint64_t offset = at - (uint64_t)headers;
        if ((at & 0xff) == '1' && offset % sizeof *headers > 8) {
            memcpy(&words[1], &at, 8);
            memcpy(words, "127.0.0.", 8);
        }
    }
}

void fill(void)
{
    uint64_t *words = take(32);

    words[0] = 5;
    words[1] = (uint64_t)&headers[11];
    leave_text(&words[2]);
}

const char *check(void)
{
    struct entry *entry = pool;

    uint64_t *words = (uint64_t *)((char *)pool + 24 * sizeof headers / sizeof *headers);

    EXPECT(entry && words[0] == 5 && words[1] == (uint64_t)&headers[11]);
    EXPECT(words[2] == 0 || memcmp(&words[2], "127.0.0.1", 9) == 0);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        entry = (struct entry *)((char *)pool + 24 * i);
        EXPECT(entry->value == &headers[i] && ((struct header *)entry->value)->offset == (long)i + 1);
        EXPECT(entry->length == 14 && entry->name[0] == 'a' + (int)i && entry->name[13] == 'a' + (int)i);
    }
    return NULL;
}

int main(void)
{
    build();
    scenario_loop();
    return 0;
}
