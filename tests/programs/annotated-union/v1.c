#include "scenario.h"

#include "instar.h"

enum kind { NOTHING, NUMBER, TEXT, OTHER };

struct value {
    enum kind kind;

    union {
        long number;
        char *text;
        struct value *other;
    } u;
};

struct cell {
    bool is_text;

    union {
        long number;
        const char *text;
    };
};

INSTAR_UNION("struct value.u", "kind", "NUMBER: number, TEXT: text, OTHER: other");
INSTAR_UNION("struct cell.number", "is_text", "1: text, *: number");

STATE struct value *values[4];
STATE struct cell cells[2];
STATE IXFER(long) before, cell;
STATE char words[] = "words";

void fill(void)
{
    for (int i = 0; i < 4; i++) {
        values[i] = calloc(1, sizeof *values[i]);
        values[i]->kind = (enum kind)i;
    }
    values[NUMBER]->u.number = (long)(uintptr_t)values[NOTHING]; /* looks like a pointer to what moves */
    values[TEXT]->u.text = words + 2;
    values[OTHER]->u.other = values[NUMBER];
    cells[0] = (struct cell){.number = (long)(uintptr_t)values[OTHER]};
    cells[1] = (struct cell){.is_text = true, .text = words};
}

const char *check(void)
{
    if (!before) {
        before = values[NUMBER]->u.number;
        cell = cells[0].number;
    }
    for (int i = 0; i < 4; i++)
        EXPECT(values[i] && values[i]->kind == (enum kind)i);
    EXPECT(values[NUMBER]->u.number == before && cells[0].number == cell);
    EXPECT(values[TEXT]->u.text == words + 2 && values[OTHER]->u.other == values[NUMBER] &&
           cells[1].text == words);
    return NULL;
}
