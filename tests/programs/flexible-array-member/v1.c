#include "scenario.h"

struct message {
    short length;
    char text[];
};

struct row {
    int count;
    struct message *cells[];
};

STATE struct row *row;

void fill(void)
{
    row = malloc(sizeof *row + 20 * sizeof row->cells[0]);
    row->count = 20;
    for (int i = 0; i < 20; i++) {
        short length = (short)(i * 37);
        struct message *m = calloc(1, sizeof *m + (size_t)length + 1);
        m->length = length;
        memset(m->text, 'a' + i, (size_t)length);
        row->cells[i] = m;
    }
}

const char *check(void)
{
    EXPECT(row && row->count == 20);
    for (int i = 0; i < 20; i++) {
        struct message *m = row->cells[i];
        EXPECT(m->length == i * 37 && strlen(m->text) == (size_t)(i * 37));
        EXPECT(scenario_holds((unsigned char *)m->text, (size_t)(i * 37), (unsigned char)('a' + i)));
    }
    return NULL;
}
