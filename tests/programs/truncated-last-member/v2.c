#include "scenario.h"

union bigname {
    char text[400];
    union bigname *free_next;
};

struct record {
    struct record *next;
    long ttl;
    unsigned flags;
    union {
        char small[20];
        union bigname *big;
    } name;
};

enum { SMALL = offsetof(struct record, name) + 20 };

STATE struct record *records;

void fill(void)
{
    for (int i = 0; i < 40; i++) {
        struct record *r = calloc(1, SMALL);
        r->ttl = 60 * i;
        snprintf(r->name.small, 20, "host%d.example", i);
        r->next = records;
        records = r;
    }
}

const char *check(void)
{
    int i = 40;
    for (struct record *r = records; r; r = r->next) {
        char name[20];
        snprintf(name, sizeof name, "host%d.example", --i);
        EXPECT(r->flags == 0 && r->ttl == 60 * i && strcmp(r->name.small, name) == 0);
    }
    EXPECT(i == 0);
    return NULL;
}
