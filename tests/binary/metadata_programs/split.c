/* Statics that clang -O2 splits into pieces or keeps as one byte. */
#include <stdio.h>

struct state {
    struct {
        int unused, count;
    } inner;
    long rows[3];
    const char *name;
};
static struct state state;
static int done;
static int mode = 3;
static int whole;

__attribute__((noinline)) void start(int number)
{
    if (!done) {
        done = 1;
        mode = 7;
    }
    state.inner.count += number;
    state.rows[1] ^= number;
    state.name = number > 3 ? "many" : "few";
    whole = whole * 3 + number;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < argc + 2; i++) {
        start(i);
        printf("%d %d %d %ld %s %d\n", done, mode, state.inner.count, state.rows[1], state.name ? state.name : "", whole);
    }
    return 0;
}
