/* A list of clients on the heap; a new version of the struct has one more member, in the middle. */
#include "scenario.h"

struct client {
    int id;
    struct client *next;
    char name[12];
};

STATE struct client *clients;

void fill(void)
{
    for (int i = 0; i < 50; i++) {
        struct client *c = malloc(sizeof *c);
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
    }
    EXPECT(i == 0);
    return NULL;
}
