/* One text is one address: users compare pointers, and take and drop references by the text's address alone. */
enum { BUCKETS = 64, SYMBOLS = 500, USERS = 1200 };

struct user {
    const char *name, *role;
};

STATE struct symbol *table[BUCKETS];
STATE struct user *users[USERS];
STATE const char *favourite;

static struct symbol *symbol_of(const char *text)
{
    return (struct symbol *)(text - offsetof(struct symbol, text));
}

static const char *intern(const char *text)
{
    uint32_t hash = 5381;
    for (const char *at = text; *at; at++)
        hash = hash * 33 + (unsigned char)*at;
    struct symbol **place = &table[hash % BUCKETS];
    while (*place && strcmp((*place)->text, text) != 0)
        place = &(*place)->next;
    if (*place == NULL) {
        *place = calloc(1, sizeof **place + strlen(text) + 1);
        (*place)->hash = hash;
        strcpy((*place)->text, text);
    }
    (*place)->references++;
    return (*place)->text;
}

static void drop(const char *text)
{
    struct symbol *symbol = symbol_of(text), **place = &table[symbol->hash % BUCKETS];
    if (--symbol->references)
        return;
    while (*place != symbol)
        place = &(*place)->next;
    *place = symbol->next;
    free(symbol);
}

static const char *name_of(int number)
{
    static char name[64];
    snprintf(name, sizeof name, "%.*s%d", number % 23, "a name of some length...", number % SYMBOLS);
    return name;
}

void fill(void)
{
    for (int i = 0; i < USERS; i++) {
        users[i] = calloc(1, sizeof *users[i]);
        users[i]->name = intern(name_of(i));
        users[i]->role = intern(i % 2 ? "admin" : "guest");
    }
    favourite = intern(name_of(7));
}

const char *check(void)
{
    const char *admin = intern("admin");
    EXPECT(symbol_of(admin)->references == USERS / 2 + 1);
    for (int i = 0; i < USERS; i++) {
        EXPECT(strcmp(users[i]->name, name_of(i)) == 0);
        EXPECT((users[i]->role == admin) == i % 2);
        const char *same = intern(name_of(i));
        EXPECT(same == users[i]->name);
        drop(same);
    }
    EXPECT(favourite == users[7]->name && symbol_of(favourite)->references > 1);
    drop(admin);
    return NULL;
}

const char *busy(void)
{
    for (int i = 0; i < USERS; i += 3) {
        drop(users[i]->name);
        users[i]->name = intern(name_of(i));
    }
    return NULL;
}
