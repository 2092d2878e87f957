/* A line server on 127.0.0.1 with an epoll loop, told on its standard input to fail in several ways.
 *
 * Clients: `who` is answered by VERSION; `count` adds one and is answered by "VERSION TOTAL"; `leave` has the server
 * close the connection. Standard input: `crash`, `exit N`; anything else is answered by "VERSION PORT CLIENTS TOTAL".
 * Its end ends the program. VERSION comes from the command line of the compiler.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    int fd;
    long asked;
#ifdef SECOND
    long since_update;
#endif
    struct client *next;
};

static struct client *clients;
static long total;
static int listener, loop, port;

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
}

static void start_listening(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    address.sin_port = htons((unsigned short)atoi(getenv("TRIAL_PORT")));
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 64) < 0)
        exit(3);
    getsockname(listener, (struct sockaddr *)&address, &length);
    port = ntohs(address.sin_port);
    watch(listener);
}

static void drop(struct client *client)
{
    struct client **link = &clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    close(client->fd);
    free(client);
}

static struct client *find(int fd)
{
    struct client *client = clients;
    while (client->fd != fd)
        client = client->next;
    return client;
}

static void serve(struct client *client)
{
    char line[64];
    ssize_t got = read(client->fd, line, sizeof line - 1);

    if (got <= 0) {
        drop(client);
        return;
    }
    line[got] = 0;
    if (strncmp(line, "leave", 5) == 0) {
        drop(client);
        return;
    }
    if (strncmp(line, "who", 3) == 0) {
        dprintf(client->fd, "%s\n", VERSION);
        return;
    }
    client->asked++;
    dprintf(client->fd, "%s %ld\n", VERSION, ++total);
}

static void welcome(void)
{
    struct client *client = calloc(1, sizeof *client);
    client->fd = accept(listener, NULL, NULL);
    client->next = clients;
    clients = client;
    watch(client->fd);
}

static int count_clients(void)
{
    int count = 0;
    for (struct client *client = clients; client; client = client->next)
        count++;
    return count;
}

static void command(void)
{
    char line[64];
    ssize_t got = read(0, line, sizeof line - 1);

    if (got <= 0)
        exit(0);
    line[got] = 0;
    if (strncmp(line, "crash", 5) == 0)
        raise(SIGSEGV);
    if (strncmp(line, "exit", 4) == 0)
        exit(atoi(line + 5));
    dprintf(1, "%s %d %d %ld\n", VERSION, port, count_clients(), total);
}

__attribute__((noinline)) static void turn(void)
{
    static struct epoll_event event;

    if (epoll_wait(loop, &event, 1, -1) != 1)
        return;
    if (event.data.fd == listener)
        welcome();
    else if (event.data.fd == 0)
        command();
    else
        serve(find(event.data.fd));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    loop = epoll_create1(EPOLL_CLOEXEC);
    watch(0);
    start_listening();
    dprintf(1, "ready\n");
    for (;;)
        turn();
}
