#include "scenario.h"

struct buffer {
    int shared;
    int size;
    int used;
};

struct session {
    long since;
    int id;
    char name[16];
};

struct request {
    struct request *next;
    void *context; /* a session */
    struct buffer *buffer;
    long number;
};

STATE char *pool; /* in it lie objects of all these types */
STATE struct request *current;
STATE long handled;

void fill(void)
{
    struct session *session;

    pool = calloc(1, 4096);
    current = (struct request *)(pool + 520);
    current->next = (struct request *)(pool + 1040);
    current->buffer = (struct buffer *)(pool + 2064);
    *current->buffer = (struct buffer){.size = 64, .used = 3};
    session = current->context = pool + 3000;
    session->id = 5;
    current->number = 77;
    handled = 1;
}

const char *check(void)
{
    struct session *session = current->context;

    EXPECT(pool && handled == 1 && current->number == 77 && current->next->number == 0 && session->id == 5);
    EXPECT(current->buffer->size == 64 && current->buffer->used == 3);
    return NULL;
}
