#include "shared.h"

#include <stdio.h>
#include <stdlib.h>

struct clash { /* another one in other.c */
    int only_here;
};
struct holder { /* the same text in other.c, but not the same type */
    struct clash *clash;
};
typedef int per_unit;

int shared_counter = 3;
struct node *head;
__thread int thread_count = 5;
static __thread long thread_zero;
static int same_name = 1;
static struct clash clash;
static struct holder holder = {&clash};
static per_unit unit_number = 4;
struct bits bits = {1, 2, 3, 4, 1, 5};
struct packed packed;
struct anonymous anonymous;
struct flexible *flexible;
struct point grid[2][5];
int empty[0];
int (*callbacks[4])(struct node *, int) = {visit};
chain_t chained = 9;
enum level level = LOW;
static const char *const names[] = {"one", "two"};
static const struct point origin = {1, 2};
union value *values;
struct point *literal = &(struct point){7, 8};
int common_counter;

static inline int next_serial(void)
{
    static int serial = 100;
    return ++serial;
}

static int __attribute__((noinline)) twice(int number)
{
    static int calls;
    calls += number;
    return calls * 2 + next_serial();
}

static void __attribute__((noinline, cold)) give_up(const char *why)
{
    static int times;
    times++;
    fprintf(stderr, "%s %d\n", why, times);
    exit(3);
}

int visit(struct node *node, int depth)
{
    int sum = 0;
    for (struct node *at = node; at; at = at->next) {
        int inner = at->named.inner * depth;
        if (inner < 0)
            give_up("negative");
        {
            static long blocks;
            blocks += inner;
            sum += (int)blocks;
        }
        sum += inner;
    }
    return sum;
}

int main(int argc, char **argv)
{
    char buffer[64];
    int total = 0;
    struct point local = {argc, argc * 2};
    head = calloc(1, sizeof *head);
    head->late = make_later(argc);
    head->owner = &head;
    for (int i = 0; i < argc + 3; i++) {
        total += visit(head, i) + twice(i) + next_serial();
        thread_count += i;
        thread_zero += local.y;
    }
    same_name += total;
    snprintf(buffer, sizeof buffer, "%s %d %d %s", argv[0], same_name, holder.clash->only_here, names[argc & 1]);
    flexible = malloc(sizeof *flexible + 3 * sizeof(struct point));
    puts(buffer);
    return unit_number + origin.x + (int)packed.wide + anonymous.kind + (int)thread_zero + callbacks[0](head, 2) - total +
           (int)bits.d + (int)chained + level + literal->x + common_counter + (int)(intptr_t)values + empty[0] + grid[0][0].x;
}
