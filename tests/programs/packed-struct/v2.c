#include "scenario.h"

struct __attribute__((packed)) header {
    char magic, version;
    long check;
    char flags;
    struct header *next;
    int length;
};

struct option {
    char code;
    long value;
};

STATE struct header *first;
STATE struct option option;

void fill(void)
{
    for (int i = 0; i < 5; i++) {
        struct header *h = malloc(sizeof *h);
        *h = (struct header){.magic = 'H', .length = i, .next = first, .check = ~(long)i};
        first = h;
    }
    option = (struct option){'o', -99};
}

const char *check(void)
{
    int i = 5;
    for (struct header *h = first; h; h = h->next) {
        i--;
        EXPECT(h->magic == 'H' && h->length == i && h->check == ~(long)i);
    }
    EXPECT(i == 0);
    EXPECT(option.code == 'o' && option.value == -99);
    return NULL;
}
