#include "scenario.h"

union name {
    char text[24];
    long number;
};

struct record {
    bool is_text;
    union name name;
    struct record *next;
};

STATE struct record *records;

void fill(void)
{
    for (int i = 0; i < 8; i++) {
        struct record *r = calloc(1, sizeof *r);
        r->is_text = i % 2;
        if (r->is_text)
            snprintf(r->name.text, sizeof r->name.text, "a rather long name %d", i);
        else
            r->name.number = -i;
        r->next = records;
        records = r;
    }
}

const char *check(void)
{
    int i = 8;
    for (struct record *r = records; r; r = r->next) {
        char text[24];
        snprintf(text, sizeof text, "a rather long name %d", --i);
        EXPECT(r->is_text == i % 2);
        EXPECT(r->is_text ? strcmp(r->name.text, text) == 0 : r->name.number == -i);
    }
    EXPECT(i == 0);
    return NULL;
}
