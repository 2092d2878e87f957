#include "scenario.h"

struct pair {
    int left, right;
};

int global;
STATE long file_static;
STATE volatile short flag;
STATE struct pair pairs[3];
STATE char text[20];
STATE bool switched;
STATE __thread int thread_local;
extern int other_total;
STATE int grid[3][4];

static NOINLINE int count_calls(int step)
{
    static int calls;
    {
        static int nested = 100;
        nested += step;
        if (nested > 100000)
            return -1;
    }
    return calls += step;
}

static NOINLINE int count_others(int step)
{
    static int calls;
    return calls += 10 * step;
}

void fill(void)
{
    global = 1;
    file_static = -2;
    flag = 3;
    pairs[1] = (struct pair){.left = 4, .right = 5};
    strcpy(text, "six");
    switched = true;
    thread_local = 7;
    other_total = 8;
    grid[2][3] = 9;
    count_calls(11);
    count_others(12);
}

const char *check(void)
{
    EXPECT(global == 1 && file_static == -2 && flag == 3);
    EXPECT(pairs[1].left == 4 && pairs[1].right == 5 && pairs[0].left == 0 && pairs[2].right == 0);
    EXPECT(strcmp(text, "six") == 0 && switched && thread_local == 7 && other_total == 8);
    EXPECT(grid[2][3] == 9 && grid[1][2] == 0 && grid[2][2] == 0);
    EXPECT(count_calls(0) == 11 && count_others(0) == 120);
    return NULL;
}
