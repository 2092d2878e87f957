#include "scenario.h"

#include <sys/ipc.h>
#include <sys/shm.h>

STATE int *board;
STATE long more[40];

void fill(void)
{
    int id = shmget(IPC_PRIVATE, 8192, 0600);
    board = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    if (board == (void *)-1)
        abort();
    board[9] = 9;
}

const char *check(void)
{
    EXPECT(board[9] == 9);
    return NULL;
}
