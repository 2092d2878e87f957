/* hallway, version 1: a small key-value and chat server, the example that `make demo` updates under load.
 *
 *     hallway PORT LOG
 *
 * One process, one thread, epoll. Clients send lines:
 *
 *     HELLO name          give the session a name              hello NAME, session ID
 *     SET key value       store a value                        stored
 *     GET key             fetch it                             value VALUE | none
 *     DEL key             forget it                            deleted | none
 *     JOIN room           enter a room, leave the last one     joined ROOM, MEMBERS members
 *     SAY text            to everybody in the room             NAME: TEXT, to all of them
 *     WHOAMI              the session                          NAME, session ID, COMMANDS commands, room ROOM
 *     STATS               the server                           SESSIONS sessions, KEYS keys, COMMANDS commands
 *     QUIT                end the session
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BUCKETS = 1024,
    MOST_ENTRIES = 50000,
    LONGEST_LINE = 4096,
    IDLE_MS = 600000,
    EVENTS = 64,
    MOST_WORDS = 3,
    FIRST_TIMERS = 4096
};

struct list {
    struct list *next, *prev;
};

struct buffer {
    char *data;
    size_t used, size;
};

struct timer {
    int64_t due_ms;
    size_t place; /* in the heap */
    void (*fire)(struct timer *);
};

struct room {
    char *name;
    struct list members;
    int count;
    struct room *next;
};

struct session {
    int fd;
    unsigned id;
    unsigned commands;
    char name[16];
    struct room *room;
    struct list in_room;
    const struct command *last;
    struct timer idle;
    struct buffer input, output;
};

struct entry {
    struct entry *chain;
    struct entry *newer, *older;
    unsigned hash;
    unsigned hits;
    char *key, *value;
};

struct table {
    struct entry **buckets;
    unsigned mask;
    int count;
    struct entry *newest, *oldest;
};

struct command {
    const char *name;
    int words;
    void (*run)(struct session *, char **);
};

static struct {
    int sessions;
    unsigned commands;
    unsigned accepted;
    unsigned evicted;
} stats;

static struct table table;
static struct room *rooms;
static struct timer **timers;
static size_t timer_count, timer_size;
static unsigned next_id = 1;
static int listener = -1, poller = -1;
static FILE *journal;
static volatile sig_atomic_t stopping;

#define container(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

static void *need(void *memory)
{
    if (memory == NULL) {
        perror("hallway");
        exit(1);
    }
    return memory;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Timers: a binary heap of pointers into the sessions. */

static void timer_put(size_t place, struct timer *t)
{
    timers[place] = t;
    t->place = place;
}

static void timer_sift(size_t place, struct timer *t)
{
    while (place > 0 && timers[(place - 1) / 2]->due_ms > t->due_ms) {
        timer_put(place, timers[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * place + 1;
        if (child + 1 < timer_count && timers[child + 1]->due_ms < timers[child]->due_ms)
            child++;
        if (child >= timer_count || timers[child]->due_ms >= t->due_ms)
            break;
        timer_put(place, timers[child]);
        place = child;
    }
    timer_put(place, t);
}

static void timer_start(struct timer *t, int64_t due_ms)
{
    if (timer_count == timer_size) {
        timer_size = timer_size ? 2 * timer_size : FIRST_TIMERS;
        timers = need(realloc(timers, timer_size * sizeof *timers));
    }
    t->due_ms = due_ms;
    timer_sift(timer_count++, t);
}

static void timer_move(struct timer *t, int64_t due_ms)
{
    t->due_ms = due_ms;
    timer_sift(t->place, t);
}

static void timer_stop(struct timer *t)
{
    struct timer *last = timers[--timer_count];
    if (last != t)
        timer_sift(t->place, last);
    timers[timer_count] = NULL;
}

/* The table: chains, and a list from the newest to the oldest entry. */

static unsigned hash_of(const char *key)
{
    unsigned hash = 2166136261u;
    while (*key)
        hash = (hash ^ (unsigned char)*key++) * 16777619u;
    return hash;
}

static struct entry **entry_place(const char *key, unsigned hash)
{
    struct entry **place = &table.buckets[hash & table.mask];
    while (*place && ((*place)->hash != hash || strcmp((*place)->key, key) != 0))
        place = &(*place)->chain;
    return place;
}

static void entry_unlink(struct entry *e)
{
    *(e->newer ? &e->newer->older : &table.newest) = e->older;
    *(e->older ? &e->older->newer : &table.oldest) = e->newer;
}

static void entry_use(struct entry *e)
{
    e->newer = NULL;
    e->older = table.newest;
    *(table.newest ? &table.newest->newer : &table.oldest) = e;
    table.newest = e;
}

static void entry_drop(struct entry **place)
{
    struct entry *e = *place;
    *place = e->chain;
    entry_unlink(e);
    table.count--;
    free(e->key);
    free(e->value);
    free(e);
}

static void entry_store(const char *key, const char *value)
{
    unsigned hash = hash_of(key);
    struct entry **place = entry_place(key, hash), *e = *place;
    if (e) {
        free(e->value);
        entry_unlink(e);
    } else {
        e = *place = need(calloc(1, sizeof *e));
        e->hash = hash;
        e->key = need(strdup(key));
        table.count++;
    }
    e->value = need(strdup(value));
    entry_use(e);
    if (table.count > MOST_ENTRIES) {
        entry_drop(entry_place(table.oldest->key, table.oldest->hash));
        stats.evicted++;
    }
}

/* Sessions. */

static void buffer_add(struct buffer *b, const char *data, size_t size)
{
    if (b->used + size > b->size) {
        b->size = (b->used + size) * 2;
        b->data = need(realloc(b->data, b->size));
    }
    memcpy(b->data + b->used, data, size);
    b->used += size;
}

static void watch(struct session *s, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = s};
    epoll_ctl(poller, operation, s->fd, &event);
}

static void session_flush(struct session *s)
{
    ssize_t sent = s->output.used ? write(s->fd, s->output.data, s->output.used) : 0;
    if (sent > 0) {
        s->output.used -= (size_t)sent;
        memmove(s->output.data, s->output.data + sent, s->output.used);
    }
    watch(s, s->output.used ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void reply(struct session *s, const char *first, const char *second)
{
    buffer_add(&s->output, first, strlen(first));
    buffer_add(&s->output, second, strlen(second));
    buffer_add(&s->output, "\n", 1);
}

static void room_leave(struct session *s)
{
    if (s->room == NULL)
        return;
    s->in_room.prev->next = s->in_room.next;
    s->in_room.next->prev = s->in_room.prev;
    s->room->count--;
    s->room = NULL;
}

static void session_close(struct session *s)
{
    fprintf(journal, "session %u closed after %u commands\n", s->id, s->commands);
    timer_stop(&s->idle);
    room_leave(s);
    close(s->fd);
    free(s->input.data);
    free(s->output.data);
    free(s);
    stats.sessions--;
}

static void session_expire(struct timer *t)
{
    session_close(container(t, struct session, idle));
}

static void session_open(int fd)
{
    struct session *s = need(calloc(1, sizeof *s));
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    s->fd = fd;
    s->id = next_id++;
    snprintf(s->name, sizeof s->name, "guest %u", s->id);
    s->idle.fire = session_expire;
    timer_start(&s->idle, now_ms() + IDLE_MS);
    watch(s, EPOLLIN, EPOLL_CTL_ADD);
    stats.sessions++;
    stats.accepted++;
    fprintf(journal, "session %u opened\n", s->id);
}

/* Commands. */

static void run_hello(struct session *s, char **words)
{
    char text[64];
    snprintf(s->name, sizeof s->name, "%s", words[1]);
    snprintf(text, sizeof text, "%s, session %u", s->name, s->id);
    reply(s, "hello ", text);
}

static void run_set(struct session *s, char **words)
{
    entry_store(words[1], words[2]);
    reply(s, "stored", "");
}

static void run_get(struct session *s, char **words)
{
    struct entry *e = *entry_place(words[1], hash_of(words[1]));
    if (e == NULL) {
        reply(s, "none", "");
        return;
    }
    e->hits++;
    entry_unlink(e);
    entry_use(e);
    reply(s, "value ", e->value);
}

static void run_del(struct session *s, char **words)
{
    struct entry **place = entry_place(words[1], hash_of(words[1]));
    reply(s, *place ? "deleted" : "none", "");
    if (*place)
        entry_drop(place);
}

static struct room *room_get(const char *name)
{
    struct room *r = rooms;
    while (r && strcmp(r->name, name) != 0)
        r = r->next;
    if (r == NULL) {
        r = need(calloc(1, sizeof *r));
        r->name = need(strdup(name));
        r->members.next = r->members.prev = &r->members;
        r->next = rooms;
        rooms = r;
    }
    return r;
}

static void run_join(struct session *s, char **words)
{
    char text[64];
    room_leave(s);
    s->room = room_get(words[1]);
    s->in_room = (struct list){&s->room->members, s->room->members.prev};
    s->in_room.prev->next = s->room->members.prev = &s->in_room;
    snprintf(text, sizeof text, "%.32s, %d members", s->room->name, ++s->room->count);
    reply(s, "joined ", text);
}

static void run_say(struct session *s, char **words)
{
    char from[32];
    if (s->room == NULL) {
        reply(s, "error join a room first", "");
        return;
    }
    snprintf(from, sizeof from, "%s: ", s->name);
    for (struct list *l = s->room->members.next; l != &s->room->members; l = l->next) {
        struct session *member = container(l, struct session, in_room);
        reply(member, from, words[1]);
        session_flush(member);
    }
}

static void run_whoami(struct session *s, char **words)
{
    char text[128];
    (void)words;
    snprintf(text, sizeof text, ", session %u, %u commands, room %.32s", s->id, s->commands,
             s->room ? s->room->name : "none");
    reply(s, s->name, text);
}

static void run_stats(struct session *s, char **words)
{
    char text[96];
    (void)words;
    snprintf(text, sizeof text, "%d sessions, %d keys, %u commands", stats.sessions, table.count,
             stats.commands);
    reply(s, text, "");
}

static void run_quit(struct session *s, char **words)
{
    (void)words;
    shutdown(s->fd, SHUT_RD);
    reply(s, "bye", "");
}

static const struct command commands[] = {
    {"HELLO", 2, run_hello},   {"SET", 3, run_set},     {"GET", 2, run_get},
    {"DEL", 2, run_del},       {"JOIN", 2, run_join},   {"SAY", 2, run_say},
    {"WHOAMI", 1, run_whoami}, {"STATS", 1, run_stats}, {"QUIT", 1, run_quit},
};

static const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void session_obey(struct session *s, char *line)
{
    char *words[MOST_WORDS + 1] = {line};
    const struct command *command;
    int count = 1;

    line[strcspn(line, "\r")] = '\0';
    char *space = strchr(line, ' ');
    if (space)
        *space = '\0';
    command = command_find(line);
    s->commands++;
    stats.commands++;
    while (space && command && count < command->words) {
        words[count++] = space + 1;
        space = count < command->words ? strchr(space + 1, ' ') : NULL;
        if (space)
            *space = '\0';
    }
    if (command == NULL || count < command->words) {
        reply(s, "error ", command ? "too few words" : "unknown command");
        return;
    }
    s->last = command;
    command->run(s, words);
}

/* Obeys all whole lines; returns whether the session lives on. */
static int session_read(struct session *s)
{
    char chunk[LONGEST_LINE], *start, *end;
    ssize_t got = read(s->fd, chunk, sizeof chunk);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (got <= 0 || s->input.used + (size_t)got > 4 * LONGEST_LINE)
        return 0;
    timer_move(&s->idle, now_ms() + IDLE_MS);
    buffer_add(&s->input, chunk, (size_t)got);
    start = s->input.data;
    while ((end = memchr(start, '\n', s->input.used - (size_t)(start - s->input.data))) != NULL) {
        *end = '\0';
        session_obey(s, start);
        start = end + 1;
    }
    s->input.used -= (size_t)(start - s->input.data);
    memmove(s->input.data, start, s->input.used);
    return 1;
}

static void session_ready(struct session *s, uint32_t events)
{
    if (events & (EPOLLERR | EPOLLHUP) || (events & EPOLLIN && !session_read(s)))
        session_close(s);
    else
        session_flush(s);
}

/* The server. */

static void accept_all(void)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        session_open(fd);
}

static int run_timers(void)
{
    int64_t now = now_ms();
    while (timer_count && timers[0]->due_ms <= now)
        timers[0]->fire(timers[0]);
    return timer_count ? (int)(timers[0]->due_ms - now) : -1;
}

static void serve(void)
{
    struct epoll_event events[EVENTS];
    while (!stopping) {
        int count = epoll_wait(poller, events, EVENTS, run_timers());
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &listener)
                accept_all();
            else
                session_ready(events[i].data.ptr, events[i].events);
        }
    }
}

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static void open_listener(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
    int on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, SOMAXCONN) < 0) {
        perror("hallway: listen");
        exit(1);
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop};
    struct rlimit files;

    if (argc != 3) {
        fprintf(stderr, "usage: hallway PORT LOG\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &action, NULL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    journal = need(fopen(argv[2], "a"));
    table.buckets = need(calloc(BUCKETS, sizeof *table.buckets));
    table.mask = BUCKETS - 1;
    open_listener(atoi(argv[1]));
    fprintf(journal, "hallway 1 on port %s\n", argv[1]);
    puts("ready");
    fflush(stdout);
    serve();
    fprintf(journal, "stopped after %u commands\n", stats.commands);
    fclose(journal);
    return 0;
}
