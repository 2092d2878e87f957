#include "scenario.h"

/* A session and a request that believe they own the same block. */
struct session {
    long since;
    long id;
    char name[24];
};

struct request {
    long number;
    long bytes[3];
};

STATE struct session *session;
STATE struct request *request;

void fill(void)
{
    session = calloc(1, sizeof *session);
    session->id = 7;
    strcpy(session->name, "ada");
    request = NULL;
}

const char *check(void)
{
    EXPECT(session->id == 7 && strcmp(session->name, "ada") == 0);
    EXPECT(request == NULL);
    return NULL;
}
