#include "scenario.h"

struct event {
    struct event *next;
    short y;
    struct {
        int kind;
        union {
            long number;
            char text[8];
        };
    };
    struct {
        int z;
        int x;
    };
};

STATE struct event *events;

void fill(void)
{
    for (int i = 0; i < 6; i++) {
        struct event *e = calloc(1, sizeof *e);
        e->kind = i % 2;
        if (e->kind)
            snprintf(e->text, sizeof e->text, "ev %d", i);
        else
            e->number = 1000000007L * i;
        e->x = i;
        e->y = (short)-i;
        e->next = events;
        events = e;
    }
}

const char *check(void)
{
    int i = 6;
    for (struct event *e = events; e; e = e->next) {
        char text[8];
        snprintf(text, sizeof text, "ev %d", --i);
        EXPECT(e->kind == i % 2 && e->x == i && e->y == -i);
        EXPECT(e->kind ? strcmp(e->text, text) == 0 : e->number == 1000000007L * i);
    }
    EXPECT(i == 0);
    return NULL;
}
