/* What the start-up scenarios share: a server on 127.0.0.1 that answers every line, and words for the test. */
#ifndef SCENARIO_H
#define SCENARIO_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 1
#endif

static inline void require(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "v%d: %s: %s\n", VERSION, what, strerror(errno));
    exit(3);
}

static inline void say(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    require(write(1, line, length) == length, "say");
}

static inline struct sockaddr_in local_address(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline int listen_tcp(int port)
{
    int on = 1, sock = socket(AF_INET, SOCK_STREAM, 0);
    require(sock >= 0, "socket");
    require(setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "setsockopt");
    struct sockaddr_in address = local_address(port);
    require(bind(sock, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    require(listen(sock, 16) == 0, "listen");
    return sock;
}

/* Accepts one client, answers what it says with the version, closes. */
static inline void serve_one(int listener)
{
    char data[128];
    int client = accept(listener, NULL, NULL);
    if (client < 0)
        return;
    ssize_t got = read(client, data, sizeof data - 16);
    if (got > 0) {
        got += snprintf(data + got, 16, " v%d", VERSION);
        require(write(client, data, got) == got, "answer");
    }
    close(client);
}

#endif
