#define SCENARIO_BUSY
#include "scenario.h"
#include <pthread.h>
#include <sys/wait.h>

struct node {
    int id;
    struct node *next;
};

enum { THREADS = 4, NODES = 400 };

STATE struct node *lists[THREADS];

static struct node *make(int id, struct node *next)
{
    struct node *n = calloc(1, sizeof *n);
    n->id = id;
    n->next = next;
    return n;
}

static bool is_whole(const struct node *list)
{
    int i = NODES;
    for (; list; list = list->next)
        if (list->id != --i)
            return false;
    return i == 0;
}

/* Frees an inherited list and makes the same anew, many times, while others do so. */
static void *work(void *argument)
{
    struct node **list = argument;
    for (int round = 0; round < 20; round++) {
        struct node *next, *fresh = NULL;
        for (struct node *n = *list; n; n = next) {
            next = n->next;
            free(n);
        }
        for (int i = 0; i < NODES; i++)
            fresh = make(i, fresh);
        *list = fresh;
    }
    return NULL;
}

static int run_child(void)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < THREADS; i++)
            work(&lists[i]);
        _exit(is_whole(lists[0]) ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

void fill(void)
{
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < NODES; j++)
            lists[i] = make(j, lists[i]);
}

const char *check(void)
{
    for (int i = 0; i < THREADS; i++)
        EXPECT(lists[i] && is_whole(lists[i]));
    return NULL;
}

const char *busy(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], NULL, work, &lists[i]) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    EXPECT(run_child() == 0);
    memset(threads, 0, sizeof threads);
    return NULL;
}
