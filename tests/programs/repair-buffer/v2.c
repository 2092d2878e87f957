#include "scenario.h"

/* A buffer that outgrew its bound: what was written behind its block is the allocator's record of the next one. */
struct log {
    size_t used, size;
    char *data;
};

STATE struct log log_;
STATE long *behind;

void fill(void)
{
    log_.size = 24;
    log_.data = malloc(log_.size);
    behind = malloc(24);
    *behind = 4711;
    for (; log_.used < log_.size; log_.used++)
        ((volatile char *)log_.data)[log_.used] = 'x';
}

const char *check(void)
{
    EXPECT(log_.used == 24 && log_.data[0] == 'x' && log_.data[23] == 'x');
    EXPECT(*behind == 4711);
    free(behind);
    behind = malloc(24);
    EXPECT(behind != NULL);
    *behind = 4711;
    return NULL;
}
