#include <stdlib.h>

typedef struct CLIENT {
    int id;
    struct CLIENT *next;
} CLIENT;

CLIENT *client_new(int id, CLIENT *next);
int client_id(CLIENT *c);
CLIENT *client_next(CLIENT *c);

CLIENT *client_new(int id, CLIENT *next)
{
    CLIENT *c = calloc(1, sizeof *c);
    c->id = id;
    c->next = next;
    return c;
}

int client_id(CLIENT *c)
{
    return c->id;
}

CLIENT *client_next(CLIENT *c)
{
    return c->next;
}
