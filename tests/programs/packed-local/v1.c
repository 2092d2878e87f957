#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct conn {
    int number;
    struct conn *next;
};

/* As the kernel's struct epoll_event: the pointer lies at offset 4. */
struct event {
    uint32_t events;
    union {
        void *pointer;
        uint64_t word;
    } data;
} __attribute__((packed));

struct straight {
    uint32_t before;
    struct conn *pointer;
} __attribute__((packed));

STATE struct conn *conns;
STATE struct event *watched;
STATE struct straight *other;

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        struct conn *c = malloc(sizeof *c);
        *c = (struct conn){i, conns};
        conns = c;
    }
    watched[0].data.pointer = conns;
    watched[1].data.pointer = conns->next;
    other->pointer = conns->next->next;
}

const char *check(void)
{
    EXPECT(conns && conns->number == 2 && conns->next->number == 1);
    EXPECT(watched[0].events == 7 && watched[0].data.pointer == conns);
    EXPECT(watched[1].events == 8 && watched[1].data.pointer == conns->next);
    EXPECT(other->before == 9 && other->pointer == conns->next->next && other->pointer->number == 0);
    return NULL;
}

static NOINLINE void watch(struct event *events, struct straight *one)
{
    watched = events;
    other = one;
}

/* The same code in both versions: its frame is carried as it is. */
static NOINLINE void serve(void)
{
    struct event events[2] = {{7, {NULL}}, {8, {NULL}}};
    struct straight one = {9, NULL};
    watch(events, &one);
    scenario_ready();
    while (scenario_turn())
        ;
    watch(NULL, NULL);
}

int main(void)
{
    serve();
    return 0;
}
