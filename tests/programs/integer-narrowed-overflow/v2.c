/* 32768 does not fit any more. */
#include "scenario.h"

struct account {
    int number;
    short credit;
};

STATE struct account *accounts[8];

void fill(void)
{
    for (int i = 0; i < 8; i++) {
        accounts[i] = malloc(sizeof *accounts[i]);
        accounts[i]->number = i;
        accounts[i]->credit = 32767;
    }
}

const char *check(void)
{
    for (int i = 0; i < 8; i++)
        EXPECT(accounts[i] && accounts[i]->number == i && accounts[i]->credit == 32767);
    return NULL;
}
