/* Words of a parser, in an obstack as compilers have them: text and nodes behind each other, freed from the end. */
#include <obstack.h>

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

struct word {
    struct word *next;
    struct owner *owner;
    const char *text;
    int length;
};

enum { WORDS = 2000, OWNERS = 7, MARK = 1500 };

STATE struct obstack pool, line;
STATE struct owner *owners[OWNERS];
STATE struct word *words;
STATE void *mark;
STATE char *large;

static void add_word(int id)
{
    char text[32];
    int length = snprintf(text, sizeof text, "word %d", id);
    const char *copy = obstack_copy0(&pool, text, length);
    struct word *word = obstack_alloc(&pool, sizeof *word);
    *word = (struct word){words, owners[id % OWNERS], copy, length};
    words = owners[id % OWNERS]->first = word;
}

void fill(void)
{
    obstack_init(&pool);
    obstack_begin(&line, 100);
    for (int i = 0; i < OWNERS; i++) {
        owners[i] = calloc(1, sizeof *owners[i]);
        owners[i]->id = 100 + i;
    }
    for (int i = 0; i < WORDS; i++) {
        if (i == MARK)
            mark = obstack_alloc(&pool, 1);
        add_word(i);
    }
    large = obstack_alloc(&pool, 50000);
    memset(large, 'L', 50000);
    for (int i = 0; i < 300; i++)
        obstack_1grow(&line, 'a' + i % 26);
}

static const char *check_words(int number)
{
    for (struct word *word = words; word; word = word->next) {
        char text[32];
        int length = snprintf(text, sizeof text, "word %d", --number);
        EXPECT(word->length == length && strcmp(word->text, text) == 0);
        EXPECT(word->owner == owners[number % OWNERS] && word->owner->id == 100 + number % OWNERS);
    }
    EXPECT(number == 0);
    return NULL;
}

const char *check(void)
{
    EXPECT(obstack_object_size(&line) == 300);
    for (int i = 0; i < 300; i++)
        EXPECT(((char *)obstack_base(&line))[i] == 'a' + i % 26);
    EXPECT(scenario_holds((unsigned char *)large, 50000, 'L'));
    for (int i = 0; i < OWNERS; i++)
        EXPECT(owners[i]->first->owner == owners[i]);
    return check_words(WORDS);
}

/* All from the mark on is freed and made anew; the line grows, is finished, and begins again. */
const char *busy(void)
{
    const char *text;
    while (words && atoi(words->text + 5) >= MARK)
        words = words->next;
    obstack_free(&pool, mark);
    mark = obstack_alloc(&pool, 1);
    for (int i = MARK; i < WORDS; i++)
        add_word(i);
    large = obstack_alloc(&pool, 50000);
    memset(large, 'L', 50000);
    obstack_grow0(&line, "end", 3);
    text = obstack_finish(&line);
    EXPECT(strcmp(text + 300, "end") == 0);
    for (int i = 0; i < 300; i++)
        obstack_1grow(&line, text[i]);
    return NULL;
}
