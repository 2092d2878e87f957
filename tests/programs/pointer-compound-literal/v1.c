#include "scenario.h"

struct rule {
    int uses;
    const char *name;
    struct rule *next;
};

struct rule *rules = &(struct rule){1, "first", &(struct rule){2, "second", NULL}};
int *primes = (int[]){2, 3, 5, 7, 11};
STATE int *third;
STATE struct rule *second;

void fill(void)
{
    second = rules->next;
    second->uses = 20;
    rules->uses = 10;
    third = &primes[2];
    primes[4] = 13;
}

const char *check(void)
{
    EXPECT(rules && rules->uses == 10 && strcmp(rules->name, "first") == 0);
    EXPECT(second == rules->next && second->uses == 20 && strcmp(second->name, "second") == 0);
    EXPECT(second->next == NULL);
    EXPECT(third == primes + 2 && *third == 5 && primes[0] == 2 && primes[4] == 13);
    return NULL;
}
