#include "scenario.h"

struct plugin {
    void *handle;
    const char *title;
    int id;
};

STATE char **words;
STATE struct plugin **plugins;
STATE const char *const names[] = {"alpha", "beta", "gamma", "delta", NULL};
STATE const char *const *choice;

void fill(void)
{
    words = malloc(8 * sizeof *words);
    plugins = malloc(31 * sizeof *plugins);
    for (int i = 0; i < 7; i++) {
        words[i] = malloc(16);
        snprintf(words[i], 16, "word %d", i);
    }
    words[7] = NULL;
    for (int i = 0; i < 30; i++) {
        plugins[i] = calloc(1, sizeof *plugins[i]);
        plugins[i]->id = i;
    }
    plugins[30] = NULL;
    choice = &names[1];
}

const char *check(void)
{
    int count = 0;
    EXPECT(words && plugins);
    for (char **w = words; *w; w++, count++) {
        char text[16];
        snprintf(text, sizeof text, "word %d", count);
        EXPECT(strcmp(*w, text) == 0);
    }
    EXPECT(count == 7);
    for (count = 0; plugins[count]; count++)
        EXPECT(plugins[count]->id == count);
    EXPECT(count == 30);
    EXPECT(choice == &names[1] && strcmp(choice[0], "beta") == 0);
    return NULL;
}
