#include "scenario.h"

/* Values as an interpreter has them; one kind changes its layout. */
struct pair {
    struct value *head, *tail;
};

struct blob {
    unsigned length;
    unsigned char *bytes;
};

struct value {
    enum { NUMBER, TEXT, PAIR, BLOB } kind;
    union {
        double number;
        char *text;
        struct pair *pair;
        struct blob *blob;
    } as;
};

STATE struct value *list;

static NOINLINE struct value *make(int kind)
{
    struct value *value = calloc(1, sizeof *value);
    value->kind = kind;
    return value;
}

void fill(void)
{
    for (int i = 0; i < 30; i++) {
        struct value *value = make(i % 2 ? TEXT : i % 4 ? BLOB : NUMBER), *cell = make(PAIR);
        if (value->kind == TEXT)
            value->as.text = strdup("some text");
        else if (value->kind == NUMBER)
            value->as.number = i / 2.0;
        else {
            value->as.blob = calloc(1, sizeof *value->as.blob);
            value->as.blob->length = 50;
            value->as.blob->bytes = memset(malloc(50), i, 50);
        }
        cell->as.pair = calloc(1, sizeof *cell->as.pair);
        *cell->as.pair = (struct pair){value, list};
        list = cell;
    }
}

const char *check(void)
{
    int i = 30;
    for (const struct value *cell = list; cell; cell = cell->as.pair->tail) {
        const struct value *value = cell->as.pair->head;
        i--;
        EXPECT(cell->kind == PAIR);
        if (i % 2)
            EXPECT(value->kind == TEXT && strcmp(value->as.text, "some text") == 0);
        else if (i % 4 == 0)
            EXPECT(value->kind == NUMBER && value->as.number == i / 2.0);
        else
            EXPECT(value->kind == BLOB && value->as.blob->length == 50 &&
                   scenario_holds(value->as.blob->bytes, 50, (unsigned char)i));
    }
    EXPECT(i == 0);
    return NULL;
}
