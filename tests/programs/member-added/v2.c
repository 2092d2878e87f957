/* The added members are zero in blocks that the old version made. */
#include "scenario.h"

struct client {
    int id;
    long quota;
    struct client *next;
    char name[12];
    double rate;
};

STATE struct client *clients;

void fill(void)
{
    for (int i = 0; i < 50; i++) {
        struct client *c = calloc(1, sizeof *c);
        c->id = i;
        snprintf(c->name, sizeof c->name, "client %d", i);
        c->next = clients;
        clients = c;
    }
}

const char *check(void)
{
    int i = 50;
    for (struct client *c = clients; c; c = c->next) {
        char name[12];
        snprintf(name, sizeof name, "client %d", --i);
        EXPECT(c->id == i);
        EXPECT(strcmp(c->name, name) == 0);
        EXPECT(c->quota == 0);
        EXPECT(c->rate == 0.0);
    }
    EXPECT(i == 0);
    return NULL;
}
