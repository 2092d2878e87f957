/* Options set before the bind, after it, and the backlog: of the past's own listener in version 2. Argument: PORT. */
#include "scenario.h"
#include <netinet/tcp.h>
#include <poll.h>

static void set(int sock, int level, int name, int value)
{
    require(setsockopt(sock, level, name, &value, sizeof value) == 0, "setsockopt");
}

int main(int argc, char **argv)
{
    (void)argc;
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    set(sock, SOL_SOCKET, SO_REUSEADDR, 1);
    if (VERSION == 2)
        set(sock, SOL_SOCKET, SO_PRIORITY, 4);
    struct sockaddr_in address = local_address(atoi(argv[1]));
    require(bind(sock, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    if (VERSION == 2) {
        set(sock, SOL_SOCKET, SO_KEEPALIVE, 1);
        set(sock, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    require(listen(sock, VERSION == 2 ? 77 : 16) == 0, "listen");
    say("ready v%d", VERSION);
    struct pollfd entry = {.fd = sock, .events = POLLIN};
    for (;;)
        if (poll(&entry, 1, -1) > 0)
            serve_one(sock);
}
