#include "scenario.h"

struct node {
    long age;
    int id;
    struct node *next;
};

long more_before[5] = {1};
STATE long none_before[5];
STATE struct node *first;
STATE uintptr_t cookie;
STATE uint64_t words[3];
STATE long none_after[5];

void fill(void)
{
    first = calloc(1, sizeof *first);
    first->id = 6;
    cookie = (uintptr_t)first;
    words[1] = (uintptr_t)&cookie;
}

const char *check(void)
{
    EXPECT(first && first->id == 6);
    EXPECT(cookie == (uintptr_t)first);
    EXPECT(words[1] == (uintptr_t)&cookie);
    return NULL;
}
