#define SCENARIO_OWN_MAIN
#include "scenario.h"

#include "instar.h"

struct node {
    int value;
    int added;
    struct node *next;
};

typedef struct boot {
    int number;
    char text[12];
} boot_t;

INSTAR_NOXFER_TYPE(boot_t);

struct holder {
    PXFER(uintptr_t) hidden;     /* an integer that is a pointer to a struct that moves */
    IXFER(voidptr) cookie;       /* a pointer that is a number: it looks like one into a struct that moves */
    NOXFER(int) version;         /* the new version's */
    PXFER(uintptr_t) more[2];
    NOXFER(boot_t) boot;
    struct node *last;
};

STATE struct holder *holder;
STATE struct holder still;
STATE NOXFER(int) generation = 2;
STATE PXFER(uintptr_t) direct;
STATE IXFER(uint64_t) number;
STATE struct node first = {1, .next = NULL};

static struct node *make(int value)
{
    struct node *n = calloc(1, sizeof *n);
    n->value = value;
    return n;
}

void fill(void)
{
    struct node *a = make(11), *b = make(12);
    b->next = a;
    first.next = b;
    *holder = (struct holder){(uintptr_t)a, (char *)b + 3, 2, {(uintptr_t)b, (uintptr_t)&first}, {2, "one"}, b};
    still = *holder;
    direct = (uintptr_t)a;
    number = (uint64_t)(uintptr_t)b + 5;
}

static const char *check_one(struct holder *h)
{
    struct node *b = first.next, *a = b->next;
    EXPECT(a->value == 11 && b->value == 12 && h->last == b);
    EXPECT(h->hidden == (uintptr_t)a && h->more[0] == (uintptr_t)b && h->more[1] == (uintptr_t)&first);
    EXPECT((uint64_t)(uintptr_t)h->cookie + 2 == number);
    return NULL;
}

const char *check(void)
{
    EXPECT(direct == (uintptr_t)first.next->next && generation == 2);
    EXPECT(holder->boot.number == 2 && holder->version == 2);
    const char *complaint = check_one(holder);
    return complaint ? complaint : check_one(&still);
}

int main(void)
{
    holder = calloc(1, sizeof *holder);
    holder->version = 2;
    holder->boot.number = 2;
    scenario_loop();
    return 0;
}
