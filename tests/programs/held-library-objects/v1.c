#include "scenario.h"
#include <dirent.h>
#include <netdb.h>
#include <regex.h>

/* Objects of libc that a server keeps: a compiled expression, an open directory, resolved addresses, a stream. */
struct server {
    regex_t expression;
    DIR *directory;
    struct addrinfo *addresses;
    FILE *log;
    int entries;
};

STATE struct server *server;

void fill(void)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    server = calloc(1, sizeof *server);
    if (regcomp(&server->expression, "^([a-z]+)-([0-9]+)$", REG_EXTENDED) != 0)
        abort();
    server->directory = opendir("/");
    getaddrinfo("127.0.0.1", "80", &hints, &server->addresses);
    server->log = fopen("/dev/null", "a");
    readdir(server->directory);
}

const char *check(void)
{
    regmatch_t match[3];
    EXPECT(regexec(&server->expression, "abc-123", 3, match, 0) == 0 && match[2].rm_so == 4);
    EXPECT(regexec(&server->expression, "abc_123", 3, match, 0) == REG_NOMATCH);
    EXPECT(server->addresses && server->addresses->ai_addr->sa_family == AF_INET);
    rewinddir(server->directory);
    int count = 0;
    while (readdir(server->directory))
        count++;
    EXPECT(count > 3);
    EXPECT(fprintf(server->log, "checked\n") == 8 && fflush(server->log) == 0);
    return NULL;
}
