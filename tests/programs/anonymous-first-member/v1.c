#include "scenario.h"

struct link {
    struct link *next;
};

struct event {
    struct {
        struct link link;
        short x;
    };
    int kind;
};

STATE struct event *events[6];
STATE struct link *first;

void fill(void)
{
    for (int i = 0; i < 6; i++) {
        events[i] = calloc(1, sizeof *events[i]);
        events[i]->x = (short)i;
        events[i]->kind = 10 * i;
        events[i]->link.next = first;
        first = &events[i]->link;
    }
}

const char *check(void)
{
    int i = 6;
    for (const struct link *at = first; at; at = at->next) {
        const struct event *event = events[--i];
        EXPECT(at == &event->link && event->x == i && event->kind == 10 * i);
    }
    EXPECT(i == 0);
    return NULL;
}
