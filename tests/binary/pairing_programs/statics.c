/* Statics with and without names, strings that stay, move, change and vanish. */
#include <stdio.h>

struct node {
    struct node *next;
    const char *name;
};

#if VERSION == 2
const char *filler = "a string that shifts the others";
long shift[33] = {1};
#endif

struct node *chain = &(struct node){&(struct node){0, "inner literal"}, "outer literal"};
const char *greeting = VERSION == 1 ? "hello, world" : "good day";
const char *kept = "kept as it is";
const char *words[] = {"alpha", "beta", "gamma"};
#if VERSION == 1
const char *gone_text = "only the old version says so";
static int moved_to_global = 3;
int hidden = 4;
#else
int moved_to_global = 3;
static int hidden = 4;
#endif

static int calls(void) {
    static int count = 1;
    {
        static int count = 10;
        count++;
    }
    return count++;
}

static int others(void) {
    static int count = 100;
    return count++;
}

int main(void) {
#if VERSION == 1
    puts(gone_text);
#else
    puts(filler);
    shift[0]++;
#endif
    printf("%s %s %s %s\n", chain->next->name, greeting, kept, words[1]);
    return calls() + others() + moved_to_global++ + hidden++ == 7;
}
