/* One variable of every kind of value. VERSION 1 writes its bytes to stdout, or with an argument prints them by
 * name; VERSION 2, whose layout differs, reads its own bytes from stdin and prints them by the same names. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if VERSION == 1
enum colour { RED, GREEN, BLUE };
enum flags { READ = 1, WRITE = 2 };
struct inner {
    short level;
    char tag[12];
};
struct __attribute__((packed)) wire {
    uint8_t kind;
    uint32_t length;
};
struct state {
    char first;
    int32_t count;
    long gone;
    unsigned low : 3, high : 7;
    signed int delta : 6;
    enum colour colour : 4;
    enum colour plain;
    enum flags set;
    struct inner inner[3];
    struct wire wire;
    struct {
        int x;
        union {
            int as_int;
            char as_bytes[6];
        };
    };
    float ratio;
    double precise;
    long double wide;
    int8_t table[2][3];
    uint64_t big;
    bool ready;
    char name[32];
    int64_t number;
};
#else
enum colour { BLUE, BLACK, GREEN, RED = 12 };
enum flags { READ = 1, WRITE = 2, RUN = 4 };
struct inner {
    char tag[16];
    long fresh;
    int level;
};
struct wire {
    uint32_t length;
    uint16_t kind;
};
struct state {
    double ratio;
    char first;
    int64_t count;
    enum flags set;
    struct wire wire;
    enum colour plain;
    unsigned pad : 5;
    unsigned high : 12;
    enum colour colour : 6;
    signed int delta : 9;
    unsigned low : 3;
    struct inner inner[4];
    struct {
        char before;
        struct {
            union {
                int as_int;
                char as_bytes[6];
            };
        };
    };
    int x;
    long double precise;
    double wide;
    int32_t table[2][5];
    uint32_t big;
    int ready;
    char name[20];
    double number;
};
#endif

struct state state;

static const char *colour_name(enum colour c) {
    return c == RED ? "RED" : c == GREEN ? "GREEN" : c == BLUE ? "BLUE" : "other";
}

static void fill(void) {
    memset(&state, 0, sizeof state);
    state.first = 'f';
    state.count = -123456;
    state.low = 5;
    state.high = 100;
    state.delta = -17;
    state.colour = GREEN;
    state.plain = RED;
    state.set = (enum flags)(READ | WRITE);
    for (int i = 0; i < 3; i++) {
        state.inner[i].level = (short)(-100 * i);
        snprintf(state.inner[i].tag, sizeof state.inner[i].tag, "tag-%d", i);
        for (int k = 0; k < 2; k++)
            state.table[k][i] = (int8_t)(k * 40 - i * 30);
    }
    state.wire.kind = 200;
    state.wire.length = 0xfeedbeef;
    state.x = 77;
    state.as_int = 0x01020304;
    state.ratio = 0.625f;
    state.precise = 1e100 / 3;
    state.wide = 2.5L;
    state.big = 4000000000u;
    state.ready = true;
    strcpy(state.name, "nineteen characters");
    state.number = -(1LL << 53);
}

static void print(void) {
    printf("first %c\ncount %ld\nlow %u\nhigh %u\ndelta %d\n", state.first, (long)state.count, state.low, state.high,
           state.delta);
    printf("colour %s\nplain %s\nset %d\n", colour_name(state.colour), colour_name(state.plain), state.set);
    for (int i = 0; i < 3; i++)
        printf("inner %d %s table %d %d\n", (int)state.inner[i].level, state.inner[i].tag, (int)state.table[0][i],
               (int)state.table[1][i]);
    printf("wire %u %u\nx %d\nas_int %d\n", (unsigned)state.wire.kind, state.wire.length, state.x, state.as_int);
    printf("ratio %.9g\nprecise %.17g\nwide %.17g\nbig %lu\nready %d\nname %s\nnumber %.17g\n", (double)state.ratio,
           (double)state.precise, (double)state.wide, (unsigned long)state.big, (int)state.ready, state.name,
           (double)state.number);
}

int main(int argc, char **argv) {
    (void)argv;
    fill();
    if (VERSION == 2) {
        if (fread(&state, sizeof state, 1, stdin) != 1)
            return 1;
        print();
    } else if (argc > 1) {
        print();
    } else {
        fwrite(&state, sizeof state, 1, stdout);
    }
    return 0;
}
