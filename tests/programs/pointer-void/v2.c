#include "scenario.h"

struct account {
    long limit;
    long balance;
    long id;
};

struct callback {
    void *argument;
    void *context;
    int priority;
};

STATE struct account *accounts[3];
STATE struct callback callbacks[5];
STATE int plain = 42;
STATE void *anything;

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        accounts[i] = calloc(1, sizeof *accounts[i]);
        accounts[i]->id = i;
        accounts[i]->balance = 100 * i;
    }
    callbacks[0] = (struct callback){accounts[2], &accounts[1]->balance, 0};
    callbacks[1] = (struct callback){&plain, NULL, 0};
    callbacks[2] = (struct callback){callbacks, &callbacks[4], 0};
    callbacks[3] = (struct callback){strdup("text"), &accounts[0], 0};
    anything = accounts[1];
}

const char *check(void)
{
    EXPECT(accounts[2] && callbacks[0].argument == accounts[2] && accounts[2]->balance == 200);
    EXPECT(callbacks[0].context == &accounts[1]->balance && *(long *)callbacks[0].context == 100);
    EXPECT(callbacks[1].argument == &plain && callbacks[1].context == NULL);
    EXPECT(callbacks[2].argument == callbacks && callbacks[2].context == &callbacks[4]);
    EXPECT(strcmp(callbacks[3].argument, "text") == 0 && callbacks[3].context == &accounts[0]);
    EXPECT(anything == accounts[1] && ((struct account *)anything)->id == 1);
    return NULL;
}
