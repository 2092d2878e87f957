/* A table of jobs; `retries` is gone in the next version. */
#include "scenario.h"

struct job {
    short priority;
    long retries;
    char *command;
    int state;
};

STATE struct job *jobs[20];

void fill(void)
{
    for (int i = 0; i < 20; i++) {
        jobs[i] = malloc(sizeof *jobs[i]);
        *jobs[i] = (struct job){.priority = (short)(i - 10), .retries = 3, .state = i * 7};
        jobs[i]->command = malloc(20);
        snprintf(jobs[i]->command, 20, "run job %d", i);
    }
}

const char *check(void)
{
    for (int i = 0; i < 20; i++) {
        char command[20];
        snprintf(command, sizeof command, "run job %d", i);
        EXPECT(jobs[i] && jobs[i]->priority == i - 10);
        EXPECT(jobs[i]->retries == 3);
        EXPECT(strcmp(jobs[i]->command, command) == 0);
        EXPECT(jobs[i]->state == i * 7);
    }
    return NULL;
}
