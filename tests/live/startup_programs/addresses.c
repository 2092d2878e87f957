/* Addresses of every kind, all owned by the past. Arguments: PORT PATH NEWPORT: version 2 listens on NEWPORT too. */
#include "scenario.h"
#include <poll.h>
#include <stddef.h>
#include <sys/un.h>

static struct pollfd entries[8];
static int count;

static void add(int sock)
{
    entries[count++] = (struct pollfd){.fd = sock, .events = POLLIN};
}

static int open_any(int port, int reuse)
{
    int on = 1, sock = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(setsockopt(sock, SOL_SOCKET, reuse ? SO_REUSEPORT : SO_REUSEADDR, &on, sizeof on) == 0, "setsockopt");
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
    require(bind(sock, (struct sockaddr *)&address, sizeof address) == 0, "bind v6");
    require(listen(sock, 16) == 0, "listen v6");
    require((fcntl(sock, F_GETFD) & FD_CLOEXEC) != 0, "still close-on-exec");
    return sock;
}

static int open_unix(const char *path, int abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + abstract, sizeof address.sun_path - 1, "%s", path);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + abstract + strlen(path) + !abstract;
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    if (!abstract) {
        struct stat before;
        int there = stat(path, &before) == 0;
        require(!there || connect(sock, (struct sockaddr *)&address, length) < 0, "nobody answers on the path");
        close(sock);
        sock = socket(AF_UNIX, SOCK_STREAM, 0);
        require(!there || unlink(path) == 0, "unlink");
        require(stat(path, &before) < 0 && errno == ENOENT, "the path is gone");
    }
    require(bind(sock, (struct sockaddr *)&address, length) == 0, "bind unix");
    if (!abstract) {
        struct stat after;
        require(stat(path, &after) == 0 && S_ISSOCK(after.st_mode), "the path is back");
        require(chmod(path, 0600 + VERSION) == 0, "chmod");
    }
    require(listen(sock, 16) == 0, "listen unix");
    return sock;
}

int main(int argc, char **argv)
{
    (void)argc;
    int port = atoi(argv[1]);
    add(open_any(port, 1));
    add(open_any(port, 1));
    add(open_unix(argv[2], 0));
    char name[64];
    snprintf(name, sizeof name, "instar-test-%d", port);
    add(open_unix(name, 1));
    if (VERSION == 2) {
        add(listen_tcp(atoi(argv[3])));
        int client = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = local_address(port);
        require(connect(client, (struct sockaddr *)&address, sizeof address) < 0 && errno == ECONNREFUSED, "connect");
        close(client);
    }
    say("ready v%d", VERSION);
    for (;;)
        if (poll(entries, count, -1) > 0)
            for (int i = 0; i < count; i++)
                if (entries[i].revents)
                    serve_one(entries[i].fd);
}
