#include "scenario.h"

struct value {
    int kind;

    union {
        int number;
        char *text;
        struct value *other;
    } u;
};

struct cell {
    bool is_text;
    union {
        int number;
        const char *text;
    };
};

STATE struct value *values[4];
STATE struct cell cells[2];
STATE char words[] = "words";

void fill(void)
{
    for (int i = 0; i < 4; i++) {
        values[i] = malloc(sizeof *values[i]);
        memset(values[i], 0x5a, sizeof *values[i]);
        values[i]->kind = i;
    }
    values[1]->u.number = -5;
    values[2]->u.text = words + 2;
    values[3]->u.other = values[1];
    cells[0] = (struct cell){.number = 42};
    cells[1] = (struct cell){.is_text = true, .text = words};
}

const char *check(void)
{
    for (int i = 0; i < 4; i++)
        EXPECT(values[i] && values[i]->kind == i);
    EXPECT(values[1]->u.number == -5 && values[2]->u.text == words + 2 && values[3]->u.other == values[1]);
    EXPECT(cells[0].number == 42 && cells[1].text == words);
    return NULL;
}
