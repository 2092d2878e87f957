/* Nodes embedded in the struct (container_of): nothing has the struct's own type but the code. */
#include "scenario.h"

struct list {
    struct list *next, *prev;
};

struct task {
    int id;
    struct list all;
    long due;
};

#define task_of(node) ((struct task *)(void *)((char *)(node) - offsetof(struct task, all)))

STATE struct list tasks = {&tasks, &tasks};

void fill(void)
{
    for (int i = 0; i < 30; i++) {
        struct task *t = malloc(sizeof *t);
        *t = (struct task){i, {&tasks, tasks.prev}, 1000 - i};
        t->all.prev->next = t->all.next->prev = &t->all;
    }
}

const char *check(void)
{
    int i = 0;
    for (struct list *node = tasks.next; node != &tasks; node = node->next, i++) {
        EXPECT(node->next->prev == node && node->prev->next == node);
        EXPECT(task_of(node)->id == i && task_of(node)->due == 1000 - i);
    }
    EXPECT(i == 30);
    return NULL;
}
