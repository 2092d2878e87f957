/* A list that copies items of any size, as small libraries have it. */
struct list {
    size_t size, count, capacity;
    char *items;
};

enum { CLIENTS = 25 };

STATE struct list *clients;
STATE struct client *by_id[CLIENTS];
STATE char *counted; /* how many, which is a letter, and then the pointers */

static void list_add(struct list *list, const void *item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 8;
        list->items = realloc(list->items, list->capacity * list->size);
        memset(list->items + list->count * list->size, 0, (list->capacity - list->count) * list->size);
    }
    memcpy(list->items + list->count++ * list->size, item, list->size);
}

static struct client *client_at(size_t index)
{
    struct client *client;
    memcpy(&client, clients->items + index * clients->size, sizeof client);
    return client;
}

static void count_clients(void)
{
    long count = 'A';
    counted = realloc(counted, sizeof count + sizeof by_id);
    memcpy(counted, &count, sizeof count);
    memcpy(counted + sizeof count, by_id, sizeof by_id);
}

static void add_client(int id)
{
    struct client *client = calloc(1, sizeof *client);
    client->id = id;
    by_id[id] = client;
    snprintf(client->name, sizeof client->name, "client %d", id);
    list_add(clients, &client);
}

void fill(void)
{
    clients = calloc(1, sizeof *clients);
    clients->size = sizeof(struct client *);
    for (int i = 0; i < CLIENTS; i++)
        add_client(i);
    count_clients();
}

const char *check(void)
{
    EXPECT(clients && clients->count == CLIENTS);
    EXPECT(counted[0] == 'A' && memcmp(counted + sizeof(long), by_id, sizeof by_id) == 0);
    for (int i = 0; i < CLIENTS; i++) {
        char name[12];
        snprintf(name, sizeof name, "client %d", i);
        EXPECT(client_at((size_t)i) == by_id[i] && by_id[i]->id == i && strcmp(by_id[i]->name, name) == 0);
    }
    return NULL;
}

const char *busy(void)
{
    for (int i = 0; i < 5; i++)
        free(client_at(--clients->count));
    for (int i = CLIENTS - 5; i < CLIENTS; i++)
        add_client(i);
    count_clients();
    return NULL;
}
