/* One idea a declaration; main.c and other.c both see them. */
#include <stddef.h>
#include <stdint.h>

struct later; /* defined in other.c only */
typedef struct later later_t;

typedef unsigned long word_t;
typedef word_t chain_t;
typedef int (*compare_t)(const void *, const void *);

enum color { RED, GREEN = 7, BLUE = 255 };
enum level { LOW = -1, HIGH = 1 };

struct point {
    int x, y;
};

struct packed {
    char tag;
    uint64_t wide;
    uint16_t narrow;
} __attribute__((packed));

struct bits {
    unsigned a : 3, b : 5;
    int c : 9;
    uint64_t d : 40;
    _Bool e : 1;
    unsigned : 0;
    unsigned char f : 4;
};

struct anonymous {
    int kind;
    union {
        struct {
            int low, high;
        };
        double real;
        char text[24];
    };
};

struct flexible {
    size_t count;
    struct point items[];
};

union value {
    int number;
    char bytes[12];
    void *pointer;
};

struct node {
    struct node *next, **owner;
    later_t *late;
    const struct point *const *points;
    volatile enum color color;
    compare_t compare;
    int (*table[3])(int, ...);
    void (*(*deep)(int))(char);
    char names[2][3][16];
    union value value;
    long double big;
    float small;
    _Bool flag;
    struct {
        int inner;
    } named;
};

extern int shared_counter;
extern struct node *head;
extern __thread int thread_count;
int visit(struct node *node, int depth);
later_t *make_later(int seed);
