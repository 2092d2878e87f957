#include "scenario.h"

struct slot {
    void *owner;
    long key;
    int hits;
};

struct bank {
    struct slot slots[3];
    int count;
};

STATE struct slot table[10];
STATE struct bank *bank;
STATE struct slot *many;

void fill(void)
{
    bank = calloc(1, sizeof *bank);
    many = calloc(100, sizeof *many);
    bank->count = 3;
    for (int i = 0; i < 100; i++) {
        many[i].key = (short)i;
        many[i].owner = &many[99 - i];
    }
    for (int i = 0; i < 10; i++) {
        table[i].key = (short)-i;
        table[i].owner = &bank->slots[i % 3];
        bank->slots[i % 3].key = (short)(i * 100);
    }
    bank->slots[1].owner = &many[42];
}

const char *check(void)
{
    EXPECT(bank && bank->count == 3 && bank->slots[0].key == 900 && bank->slots[2].key == 800);
    EXPECT(bank->slots[1].owner == &many[42]);
    for (int i = 0; i < 100; i++)
        EXPECT(many[i].key == i && many[i].owner == &many[99 - i]);
    for (int i = 0; i < 10; i++)
        EXPECT(table[i].key == -i && table[i].owner == &bank->slots[i % 3]);
    return NULL;
}
