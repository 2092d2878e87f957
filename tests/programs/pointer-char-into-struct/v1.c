#include "scenario.h"

struct line {
    int number;
    char text[40];
    long position;
};

STATE struct line *line, fixed;
STATE char *word, *field, *raw, *fixed_word;

void fill(void)
{
    line = calloc(1, sizeof *line);
    line->number = 7;
    line->position = 99;
    strcpy(line->text, "to be or not to be");
    strcpy(fixed.text, "that is the question");
    word = strstr(line->text, "not");
    field = (char *)&line->position;
    raw = (char *)line;
    fixed_word = strstr(fixed.text, "question");
}

const char *check(void)
{
    EXPECT(line && line->number == 7 && line->position == 99);
    EXPECT(word == line->text + 9 && strcmp(word, "not to be") == 0);
    EXPECT(field == (char *)&line->position && *(long *)(void *)field == 99);
    EXPECT(raw == (char *)line);
    EXPECT(fixed_word == fixed.text + 12 && strcmp(fixed_word, "question") == 0);
    return NULL;
}
