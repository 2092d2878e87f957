#include "scenario.h"

struct header {
    int kind;
    int size;
};

struct packet {
    struct header header;
    long payload;
};

STATE struct packet *packet, fixed;
STATE struct header *head, *fixed_head;
STATE struct packet *whole;
STATE int *kind;

void fill(void)
{
    packet = calloc(1, sizeof *packet);
    packet->header = (struct header){.kind = 3, .size = 99};
    packet->payload = 77;
    fixed.header = (struct header){.kind = 4, .size = 98};
    head = &packet->header;
    fixed_head = &fixed.header;
    whole = &fixed;
    kind = &packet->header.kind;
}

const char *check(void)
{
    EXPECT(packet && packet->payload == 77);
    EXPECT(head == &packet->header && head->size == 99);
    EXPECT(fixed_head == &fixed.header && fixed_head->kind == 4);
    EXPECT(whole == &fixed && whole->header.size == 98);
    EXPECT(kind == &packet->header.kind && *kind == 3);
    return NULL;
}
