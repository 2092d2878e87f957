/* Sets of a server: one registration of every way to remember whom it is for. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { PEERS = 40, NUMBER = 3, WHOLE = 0x12345678 };

STATE int set, exclusive, plain, orphan, heir;
STATE struct peer *peers[PEERS];
STATE struct peer one_static;

static void must(int good)
{
    if (!good)
        abort();
}

static void watch(int where, int descriptor, uint32_t events, epoll_data_t data)
{
    struct epoll_event event = {.events = events, .data = data};
    must(epoll_ctl(where, EPOLL_CTL_ADD, descriptor, &event) == 0);
}

static void open_peer(struct peer *peer, int number)
{
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    peer->descriptor = pair[0];
    peer->other = pair[1];
    peer->timer.due = 1000 + number;
    snprintf(peer->name, sizeof peer->name, "peer %d", number);
}

void fill(void)
{
    static const uint32_t kinds[] = {EPOLLIN, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT,
                                     EPOLLIN | EPOLLRDHUP};
    set = epoll_create1(EPOLL_CLOEXEC);
    exclusive = epoll_create1(0);
    for (int i = 0; i < PEERS; i++) {
        open_peer(peers[i] = calloc(1, sizeof *peers[i]), i);
        /* every fourth is remembered by a member, as container_of programs do */
        void *cookie = i % 4 == 1 ? (void *)&peers[i]->timer : peers[i];
        watch(set, peers[i]->descriptor, kinds[i % 4], (epoll_data_t){.ptr = cookie});
    }
    open_peer(&one_static, 99);
    watch(set, one_static.descriptor, EPOLLIN, (epoll_data_t){.ptr = &one_static});
    plain = eventfd(0, EFD_NONBLOCK);
    watch(exclusive, plain, EPOLLIN | EPOLLEXCLUSIVE, (epoll_data_t){.u32 = NUMBER});
    orphan = eventfd(0, EFD_NONBLOCK);
    watch(exclusive, orphan, EPOLLIN | EPOLLET, (epoll_data_t){.u64 = WHOLE});
    heir = dup(orphan); /* the number that was registered is closed: its file lives on under another */
    close(orphan);
    watch(exclusive, one_static.descriptor, EPOLLIN, (epoll_data_t){.fd = one_static.descriptor});
}

static struct peer *peer_of(void *cookie)
{
    for (int i = 1; i < PEERS; i += 4)
        if (cookie == &peers[i]->timer)
            return peers[i];
    return cookie;
}

static const char *check_peer(int number)
{
    struct epoll_event event;
    struct peer *peer = peers[number];
    char name[16], byte = 'x';
    snprintf(name, sizeof name, "peer %d", number);
    EXPECT(peer->timer.due == 1000 + number && !strcmp(peer->name, name));
    EXPECT(epoll_wait(set, &event, 1, 0) == 0);
    EXPECT(write(peer->other, &byte, 1) == 1);
    EXPECT(epoll_wait(set, &event, 1, 0) == 1 && peer_of(event.data.ptr) == peer);
    EXPECT(epoll_wait(set, &event, 1, 0) ==
           (number % 4 == 1 || number % 4 == 2 ? 0 : 1)); /* edge, one-shot */
    EXPECT(read(peer->descriptor, &byte, 1) == 1);
    if (number % 4 == 2) {
        struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = peer};
        EXPECT(epoll_ctl(set, EPOLL_CTL_MOD, peer->descriptor, &again) == 0);
    }
    return NULL;
}

const char *check(void)
{
    struct epoll_event event, both[4];
    uint64_t one = 1;
    for (int i = 0; i < PEERS; i++) {
        const char *complaint = check_peer(i);
        if (complaint)
            return complaint;
    }
    EXPECT(write(one_static.other, "x", 1) == 1);
    EXPECT(epoll_wait(set, &event, 1, 0) == 1 && event.data.ptr == &one_static);
    EXPECT(epoll_wait(exclusive, both, 4, 0) == 1 && both[0].data.fd == one_static.descriptor);
    EXPECT(read(one_static.descriptor, &one, 1) == 1);
    one = 1;
    EXPECT(write(plain, &one, 8) == 8 && epoll_wait(exclusive, both, 4, 0) == 1 &&
           both[0].data.u32 == NUMBER);
    EXPECT(read(plain, &one, 8) == 8);
    one = 1;
    EXPECT(write(heir, &one, 8) == 8 && epoll_wait(exclusive, both, 4, 0) == 1 && both[0].data.u64 == WHOLE);
    EXPECT(epoll_wait(exclusive, both, 4, 0) == 0 && read(heir, &one, 8) == 8);
    return NULL;
}
