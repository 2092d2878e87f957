/* The node is at another offset, and the struct has grown. */
#include "scenario.h"

struct list {
    struct list *next, *prev;
};

struct task {
    long due;
    char note[40];
    struct list all;
    int id;
};

#define task_of(node) ((struct task *)(void *)((char *)(node) - offsetof(struct task, all)))

STATE struct list tasks = {&tasks, &tasks};

void fill(void)
{
    for (int i = 0; i < 30; i++) {
        struct task *t = calloc(1, sizeof *t);
        t->id = i, t->due = 1000 - i;
        t->all = (struct list){&tasks, tasks.prev};
        t->all.prev->next = t->all.next->prev = &t->all;
    }
}

const char *check(void)
{
    int i = 0;
    for (struct list *node = tasks.next; node != &tasks; node = node->next, i++) {
        EXPECT(node->next->prev == node && node->prev->next == node);
        EXPECT(task_of(node)->id == i && task_of(node)->due == 1000 - i);
        EXPECT(task_of(node)->note[0] == '\0' && task_of(node)->note[39] == '\0');
    }
    EXPECT(i == 30);
    return NULL;
}
