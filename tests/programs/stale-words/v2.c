#include "scenario.h"

struct node {
    long age;
    int id;
    struct node *next;
    long values[4];
};

struct item {
    int low;
    struct item *next;
};

STATE struct node *node;
STATE struct item *item;
STATE char *text, *packet;
STATE int low;
STATE char last;

/* A block that held pointers before. */
static NOINLINE void *used(size_t size, const void *old)
{
    const void **words = malloc(size);
    for (size_t i = 0; i < size / sizeof *words; i++)
        words[i] = old;
    return words;
}

void fill(void)
{
    do {
        struct node *next = node;
        node = calloc(1, sizeof *node);
        node->next = next;
        last = (char)(uintptr_t)node;
    } while (last < '0');
    node->id = 6;
    text = used(24, node);
    memcpy(text, "12345678", 8); /* no NUL; the last character is the low byte of a pointer that was there */
    text[8] = last;
    packet = used(40, &node->values[1]);
    memset(packet, (char)(last + 24), 33); /* binary, and in its last word the place of a member */
    memset(packet, 1, 32);
    item = used(sizeof *item, node);
    item->low = low = (int)(uintptr_t)node; /* the padding behind it holds the rest of the address */
    item->next = NULL;
}

const char *check(void)
{
    EXPECT(node && node->id == 6);
    EXPECT(memcmp(text, "12345678", 8) == 0 && text[8] == last);
    EXPECT(scenario_holds((unsigned char *)packet, 32, 1) && packet[32] == (char)(last + 24));
    EXPECT(item->low == low && item->next == NULL);
    return NULL;
}
