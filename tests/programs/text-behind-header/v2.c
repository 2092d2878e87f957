#include "scenario.h"

/* Interned strings: the text lies right behind its header, which has no member for it. */
struct word {
    unsigned length;
    long uses;
};

STATE struct word *words[64];

static NOINLINE struct word *intern(const char *text)
{
    struct word *word = malloc(sizeof *word + strlen(text) + 1);
    word->length = (unsigned)strlen(text);
    word->uses = 1;
    strcpy((char *)(word + 1), text);
    return word;
}

static NOINLINE const char *text_of(int i)
{
    static char text[128];
    memset(text, 'a' + i % 26, sizeof text);
    text[i + 1] = '\0';
    return text;
}

void fill(void)
{
    for (int i = 0; i < 64; i++)
        words[i] = intern(text_of(i));
}

const char *check(void)
{
    for (int i = 0; i < 64; i++)
        EXPECT(words[i]->length == (unsigned)i + 1 && words[i]->uses == 1 &&
               strcmp((char *)(words[i] + 1), text_of(i)) == 0);
    return NULL;
}
