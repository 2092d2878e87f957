#include "scenario.h"
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

struct node {
    long age;
    int id;
    struct node *next;
    long values[4];
};

union address {
    struct sockaddr any;
    struct sockaddr_in internet;
    struct sockaddr_in6 internet6;
    struct sockaddr_storage room;
};

struct peer {
    int descriptor;
    long seen;
    struct sockaddr_storage address;
    union address same;
    sigset_t blocked;
};

STATE struct node *node;
STATE struct peer *peers;

/* Words of an earlier use: the place of a member, and a place where none is. */
static NOINLINE void soil(void *place, size_t size)
{
    const void *words[1 + sizeof(struct peer) / sizeof(void *)];
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        words[i] = i % 2 ? (const void *)&node->values[1] : (const void *)((char *)&node->values[2] + 3);
    memcpy(place, words, size);
}

static NOINLINE void meet(struct peer *peer, int number)
{
    struct sockaddr_storage storage;
    union address same;
    sigset_t blocked;
    struct sockaddr_in from = {
        .sin_family = AF_INET, .sin_port = htons(number), .sin_addr = {htonl(0x7f000001)}};
    soil(&storage, sizeof storage);
    soil(&same, sizeof same);
    soil(&blocked, sizeof blocked);
    memcpy(&storage, &from, sizeof from);
    same.internet = from;
    sigemptyset(&blocked);
    memset(peer, 0, sizeof *peer);
    peer->descriptor = number;
    memcpy(&peer->address, &storage, sizeof storage);
    memcpy(&peer->same, &same, sizeof same);
    memcpy(&peer->blocked, &blocked, sizeof blocked);
}

void fill(void)
{
    node = calloc(1, sizeof *node);
    node->id = 6;
    peers = calloc(2, sizeof *peers);
    meet(&peers[0], 1);
    meet(&peers[1], 2);
}

const char *check(void)
{
    EXPECT(node && node->id == 6);
    for (int i = 0; i < 2; i++) {
        const struct sockaddr_in *from = (const struct sockaddr_in *)&peers[i].address;
        EXPECT(peers[i].descriptor == i + 1);
        EXPECT(from->sin_family == AF_INET && from->sin_port == htons(i + 1));
        EXPECT(memcmp(from, &peers[i].same.internet, sizeof *from) == 0);
        EXPECT(!sigismember(&peers[i].blocked, SIGTERM));
    }
    return NULL;
}
