#include "scenario.h"

/* Shared texts: a count, a length, and the text as a flexible array; an array of pointers that was sorted. */
struct text {
    int uses;
    unsigned length;
    char bytes[];
};

struct holder {
    struct text *text;
    struct holder *next;
};

STATE struct text *sorted[40];
STATE struct holder *holders;

static int compare(const void *a, const void *b)
{
    return strcmp((*(struct text *const *)a)->bytes, (*(struct text *const *)b)->bytes);
}

void fill(void)
{
    for (int i = 0; i < 40; i++) {
        char name[80];
        memset(name, 'a' + i * 7 % 26, sizeof name);
        snprintf(name + i, sizeof name - (size_t)i, "-%d", i);
        struct text *text = malloc(sizeof *text + strlen(name) + 1);
        text->uses = 2;
        text->length = (unsigned)strlen(name);
        strcpy(text->bytes, name);
        sorted[i] = text;
        struct holder *holder = calloc(1, sizeof *holder);
        holder->text = text;
        holder->next = holders;
        holders = holder;
    }
    qsort(sorted, 40, sizeof *sorted, compare);
}

const char *check(void)
{
    int count = 0;
    for (int i = 0; i < 40; i++) {
        EXPECT(sorted[i]->uses == 2 && strlen(sorted[i]->bytes) == sorted[i]->length);
        EXPECT(i == 0 || compare(&sorted[i - 1], &sorted[i]) < 0);
    }
    for (const struct holder *h = holders; h; h = h->next, count++)
        EXPECT(atoi(strrchr(h->text->bytes, '-') + 1) == 39 - count);
    EXPECT(count == 40);
    return NULL;
}
